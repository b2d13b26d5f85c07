"""A digest inside a Parquet file, over every other byte of it; readers that do not know it pass over it."""

import hashlib

MARK = b"gradtoken-sha256:"
LENGTH = len(MARK) + 64
TAIL = 8  # bytes after the footer: its length, and PAR1


def sealed(content: bytes) -> bytes:
    """The file with its digest between the last page and the footer, where a footer points at nothing."""
    cut = footer(content)
    return content[:cut] + MARK + hashlib.sha256(content).hexdigest().encode() + content[cut:]


def opened(content: bytes) -> tuple[bytes, bool]:
    """The file as it was before, and whether it had a digest. Raises ValueError for one with another content."""
    cut = footer(content)
    mark = content[cut - LENGTH : cut] if cut >= LENGTH else b""
    if not mark.startswith(MARK):
        return content, False
    plain = content[: cut - LENGTH] + content[cut:]
    if hashlib.sha256(plain).hexdigest().encode() != mark[len(MARK) :]:
        raise ValueError("its bytes are not those of its digest")
    return plain, True


def footer(content: bytes) -> int:
    """Where the footer begins. Raises ValueError for what is no whole Parquet file."""
    start = len(content) - TAIL - int.from_bytes(content[-TAIL:-4], "little")
    if content[-4:] != b"PAR1" or content[:4] != b"PAR1" or start < 4:
        raise ValueError("it is no whole Parquet file")
    return start
