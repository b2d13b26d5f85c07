"""Reading saved explanations. Nothing in a file is executed, and what does not fit is refused."""

import ast
import io
import math
import os
import zipfile
import zlib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from gradtoken.axes import Axes
from gradtoken.errors import GradTokenError
from gradtoken.files import FIELDS, SCHEMA
from gradtoken.outside import LARGEST, content_of, decoded
from gradtoken.words import Piece, Words

Parts = tuple[dict[str, Any], list[Any]]  # the document, and the maps of its explanations


def schema() -> dict[str, Any]:
    """The JSON schema of what is saved, for other programs."""
    found: dict[str, Any] = decoded(files("gradtoken").joinpath("explanation.schema.json").read_bytes())
    return found


def load(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read .npz or .json: the parts of each explanation."""
    path = Path(path).expanduser()
    readers: dict[str, Callable[[bytes], Parts]] = {".npz": from_npz, ".json": from_json}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise GradTokenError(f"cannot load {str(path)!r}: expected a file saved as .npz or .json")
    content = bounded(path)
    try:
        document, maps = reader(content)
        return [parts_of(item, m) for item, m in zip(document["explanations"], maps, strict=True)]
    except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"[:200]
    except (EOFError, OSError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        reason = f"{type(error).__name__}: {error}"[:200]
    raise GradTokenError(f"{str(path)!r} is not an explanation that was saved as {path.suffix}: {reason}")


def bounded(path: Path) -> bytes:
    """The content of a file that is not too large."""
    try:
        return content_of(path)
    except (OSError, ValueError) as error:
        raise GradTokenError(f"cannot read {str(path)!r}: {getattr(error, 'strerror', None) or error}") from error


def document_of(content: bytes) -> dict[str, Any]:
    """The JSON document, when it is of a schema that can be read."""
    document = decoded(content, refused)
    version = expect(expect(document, dict, "document").get("schema"), int, "schema")
    if version != SCHEMA:
        raise GradTokenError(f"the file has schema {version}, this version reads {SCHEMA}; update gradtoken")
    if not expect(document.get("explanations"), list, "explanations"):
        raise ValueError("it holds no explanations")
    return dict(document)


def refused(constant: str) -> float:
    """NaN and Infinity, which are not JSON."""
    raise ValueError(f"{constant} is not a number that is saved")


def from_json(content: bytes) -> Parts:
    document = document_of(content)
    maps = [item["relevance"] for item in document["explanations"]]
    for m in maps:
        expect(m, list, "relevance")
    return document, maps


def from_npz(content: bytes) -> Parts:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(member.file_size for member in archive.infolist()) > LARGEST:
            raise ValueError(f"it unpacks to more than {LARGEST >> 20} MiB")
        document = document_of(array_of(archive.read("facts.npy"), "|u1").tobytes())
        names = [f"relevance_{i}.npy" for i in range(len(document["explanations"]))]
        return document, [array_of(archive.read(name), "<f4") for name in names]


def array_of(content: bytes, kind: str) -> np.ndarray[Any, Any]:
    """An array of this type, whose size is compared with its header before anything is allocated."""
    if content[:8] != b"\x93NUMPY\x01\x00":
        raise ValueError("an array has a format that is not written here")
    start = 10 + int.from_bytes(content[8:10], "little")
    try:
        told = ast.literal_eval(content[10:start].decode("latin-1").strip())
    except (SyntaxError, MemoryError, RecursionError) as error:
        raise ValueError(f"the header of an array is damaged: {error}") from error
    shape, itemsize = told["shape"], np.dtype(kind).itemsize
    if told["descr"] != kind or math.prod(shape) * itemsize != len(content) - start:
        raise ValueError(f"expected an array of type {kind}, got {told['descr']!r} of shape {shape!r}")
    return np.frombuffer(content, kind, offset=start).reshape(shape, order="F" if told["fortran_order"] else "C")


def parts_of(item: Any, relevance: Any) -> dict[str, Any]:
    """What an `Explanation` is made of, each of its type."""
    item = {"class_aware": True, "warnings": [], **expect(item, dict, "explanation")}  # which older files lack
    missing = [name for name in FIELDS if name not in item]
    if missing:
        raise ValueError(f"{', '.join(missing)} missing")
    parts = {name: item[name] for name in FIELDS}
    for name in ("name", "model", "method", "source", "note"):
        expect(parts[name], str, name)
    for name in ("options", "versions", "preprocessing"):
        expect(parts[name], dict, name)
    expect(parts["class_aware"], bool, "class_aware")
    parts["warnings"] = tuple(expect(one, str, "warning") for one in expect(parts["warnings"], list, "warnings"))
    parts["target"] = None if parts["target"] is None else expect(parts["target"], int, "target")
    parts["logit"] = real(parts["logit"], "logit")
    parts["probability"] = None if parts["probability"] is None else real(parts["probability"], "probability")
    parts["box"] = None if parts["box"] is None else tuple(real(edge, "box") for edge in parts["box"])
    parts["predicted"] = tuple((expect(n, str, "predicted"), real(p, "predicted")) for n, p in parts["predicted"])
    words = None if item.get("words") is None else words_of(expect(item["words"], dict, "words"))
    axes = None if item.get("axes") is None else axes_of(expect(item["axes"], dict, "axes"))
    return parts | {"relevance": values_of(relevance), "picture": None, "words": words, "axes": axes}


def values_of(relevance: Any) -> Any:
    """The values of a map, or of a row of it: an array, or numbers in lists."""
    if isinstance(relevance, np.ndarray):
        return relevance
    return np.array([values_of(v) if isinstance(v, list) else real(v, "relevance") for v in relevance])


def axes_of(item: dict[str, Any]) -> Axes:
    """The sides of a spectrogram."""
    start, stop = (real(value, "seconds") for value in item["seconds"])
    return Axes((start, stop), tuple(real(h, "hertz") for h in item["hertz"]), real(item["beyond"], "beyond"))


def words_of(item: dict[str, Any]) -> Words:
    """What the values of a text belong to."""

    def span(value: Any) -> tuple[int, int]:
        a, b = value
        return expect(a, int, "span"), expect(b, int, "span")

    return Words(
        text=expect(item["text"], str, "text"),
        spans=tuple(None if value is None else span(value) for value in item["spans"]),
        names=tuple(expect(name, str, "name") for name in item["names"]),
        merge=expect(item["merge"], str, "merge"),
        read=span(item["read"]),
        pieces=tuple(Piece(expect(w, int, "word"), *span((a, b)), real(v, "piece")) for w, a, b, v in item["pieces"]),
    )


def real(value: Any, name: str) -> float:
    """A finite number."""
    number = float(expect(value, int | float, name))
    if not math.isfinite(number):
        raise ValueError(f"expected {name} to be finite, got {number}")
    return number


def expect(value: Any, kind: Any, name: str) -> Any:
    """The value, when it is of this type."""
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        wanted = getattr(kind, "__name__", str(kind))
        raise TypeError(f"expected {name} to be {wanted}, got {type(value).__name__}")
    return value
