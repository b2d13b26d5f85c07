"""A text from wherever it is, or a refusal that says what is wrong with it."""

import os
from pathlib import Path
from typing import IO, Any

from gradtoken.errors import BadText

SUFFIX = ".txt"
LARGEST = 2**26  # bytes of a text: far more than any model reads

Source = str | os.PathLike[str] | bytes | IO[Any]


def open_text(source: Any) -> str:
    """A str is the text itself; a path, bytes or an open file hold it as UTF-8. Raises BadText."""
    if isinstance(source, str):
        return checked(source)
    if isinstance(source, os.PathLike):
        return decoded(content_of(Path(source)), repr(os.fspath(source)))
    if isinstance(source, bytes | bytearray):
        return decoded(bytes(source), f"the {len(source)} bytes given")
    if hasattr(source, "read"):
        content = source.read(LARGEST + 1)
        return checked(content) if isinstance(content, str) else decoded(content, "the open file")
    raise BadText(f"expected a text, its path, bytes or an open file, got {type(source).__name__}")


def content_of(path: Path) -> bytes:
    """The bytes of a file that is not too large."""
    what = repr(str(path))
    try:
        if path.exists() and not path.is_file():
            raise BadText(f"{what} is a folder or a device, not a text; name a file")
        with open(path, "rb") as file:
            return file.read(LARGEST + 1)
    except FileNotFoundError as error:
        raise BadText(f"no file {what}; check the name and the folder ({Path.cwd()})") from error
    except (OSError, ValueError) as error:
        raise BadText(f"{what} cannot be opened: {error}") from error


def decoded(content: bytes, what: str) -> str:
    """UTF-8, with or without a mark at its front."""
    if len(content) > LARGEST:
        raise BadText(f"{what}: more than {LARGEST >> 20} MiB; explain a part of it")
    if b"\0" in content[:4096]:
        raise BadText(f"{what}: binary data, not a text; expected UTF-8")
    try:
        return checked(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise BadText(f"{what}: no UTF-8 at byte {error.start}; convert it, for example with iconv") from error


def checked(text: str) -> str:
    """The text, if it holds anything to read."""
    if len(text) > LARGEST:
        raise BadText(f"a text of {len(text):,} characters is more than {LARGEST:,}; explain a part of it")
    if not text.strip():
        raise BadText("the text is empty; expected at least one word")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadText(
            f"character {error.start} of the text is half of a pair ({text[error.start]!r}), as of bytes that were "
            "decoded with errors='surrogateescape'; decode the text again"
        ) from error
    if text.endswith(SUFFIX) and len(text.split()) == 1 and os.path.isfile(text):
        raise BadText(f"{text!r} is a file; for the text in it give pathlib.Path({text!r})")
    return text
