"""What comes from outside, read within limits: files of a bounded size, JSON of a bounded depth, numbers."""

import json
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

LARGEST = 2**28  # bytes of a file that is read at once
DIGITS = 18  # of a whole number: more name no class, size or setting, and Python refuses thousands


def content_of(path: Path, most: int = LARGEST) -> bytes:
    """The bytes of a file. Raises OSError for what is no file, ValueError for one with more than `most`."""
    if os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would be waited for, a device not end
        raise OSError(None, "it is a folder, a device or a pipe, not a file", str(path))
    with open(path, "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it is larger than {most >> 20} MiB")
    return content


def text_of(path: Path) -> str:
    """UTF-8 with or without a mark at its front, lines ending in a line feed. Raises OSError or ValueError."""
    return content_of(path).decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")


def decoded(content: str | bytes, constant: Callable[[str], Any] | None = None) -> Any:
    """A JSON document. constant: what NaN and Infinity become. Raises ValueError, also where it is nested too deep."""
    try:
        return json.loads(content, parse_constant=constant)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def whole(text: str) -> int | None:
    """The whole number that a text is, if it is one."""
    return int(text) if re.fullmatch(rf"\s*[+-]?\d{{1,{DIGITS}}}\s*", text) else None
