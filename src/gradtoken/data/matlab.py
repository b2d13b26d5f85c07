"""Structs of numbers and texts in MATLAB's level 5 files (MathWorks, MAT-File Format, chapter 1).

As much as lists need. Sizes are compared with the bytes that are there before anything is read: general readers have
been seen to crash the process on damaged files.
"""

import struct
import zlib
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from gradtoken.outside import LARGEST

Element = tuple[int, bytes]  # type and content
Value = float | str
MATRIX, COMPRESSED = 14, 15
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
STRUCT, CHARS = 2, 4  # classes of a matrix; those of numbers are 6 to 15


def read_struct(content: bytes, name: str, fields: Sequence[str]) -> list[dict[str, Value]]:
    """These fields of each element of the struct array `name`. Raises ValueError for what is absent or damaged."""
    order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
    if order is None:
        raise ValueError("it is no MATLAB file of level 5")
    for kind, data in opened(content[128:], order):
        parts = elements(data, order)
        if kind == MATRIX and headed(parts, order) == (STRUCT, name):
            return list(rows(parts, order, fields))
    raise ValueError(f"it holds no struct {name!r}")


def opened(content: bytes, order: str) -> Iterator[Element]:
    """The elements of a file, unpacked."""
    for kind, data in elements(content, order):
        if kind != COMPRESSED:
            yield kind, data
            continue
        try:
            unpacked = zlib.decompressobj().decompress(data, LARGEST)
        except zlib.error as error:
            raise ValueError(f"it cannot be unpacked: {error}") from error
        yield from elements(unpacked, order)


def elements(content: bytes, order: str) -> Iterator[Element]:
    """Up to four bytes of content stand in an element's tag; others are filled up to a multiple of eight."""
    place = 0
    while place < len(content):
        if len(content) - place < 8:
            raise ValueError("it is cut short")
        kind, size = struct.unpack_from(f"{order}II", content, place)
        small = kind >> 16
        start, room = (place + 4, 4) if small else (place + 8, len(content) - place - 8)
        kind, size = (kind & 0xFFFF, small) if small else (kind, size)
        if size > room:
            raise ValueError(f"an element of {size} bytes has room for {room}")
        yield kind, content[start : start + size]
        place = place + 8 if small else start + size + (0 if kind == COMPRESSED else -size % 8)


def headed(parts: Iterator[Element], order: str) -> tuple[int, str]:
    """Class and name of a matrix; then come its contents."""
    head = list(islice(parts, 3))
    if len(head) < 3 or len(head[0][1]) < 4:
        raise ValueError("a matrix has no head")
    (flags,) = struct.unpack_from(f"{order}I", head[0][1])
    return flags & 0xFF, head[2][1].decode("latin-1")


def rows(parts: Iterator[Element], order: str, fields: Sequence[str]) -> Iterator[dict[str, Value]]:
    """The elements of a struct array: the length of a field's name, the names, then every field of every element."""
    told = list(islice(parts, 2))
    if len(told) < 2 or not (width := int(number(*told[0], order))) > 0:
        raise ValueError("a struct does not name its fields")
    texts = [told[1][1][i : i + width] for i in range(0, len(told[1][1]), width)]
    names = [text.partition(b"\0")[0].decode("latin-1") for text in texts]
    if missing := [name for name in fields if name not in names]:
        raise ValueError(f"it has no field {missing[0]!r}")
    while cells := list(islice(parts, len(names))):
        if len(cells) < len(names):
            raise ValueError("it is cut short")
        yield {name: value(*cell, order) for name, cell in zip(names, cells, strict=True) if name in fields}


def value(kind: int, data: bytes, order: str) -> Value:
    """The number or text of a matrix that holds one."""
    parts = elements(data, order)
    held, _ = headed(parts, order)
    kind, content = next(parts, (0, b"")) if kind == MATRIX else (0, b"")
    if held != CHARS:
        return number(kind, content, order)
    if kind not in TEXTS:
        raise ValueError("a text is of no known type")
    ending = {"<": "-le", ">": "-be"}[order] if TEXTS[kind] in ("utf-16", "utf-32") else ""
    return content.decode(TEXTS[kind] + ending)


def number(kind: int, content: bytes, order: str) -> float:
    """The one number of an element."""
    size = np.dtype(NUMBERS[kind]).itemsize if kind in NUMBERS else 0
    if not size or len(content) != size:
        raise ValueError("expected one number")
    return float(np.frombuffer(content, order + NUMBERS[kind])[0])
