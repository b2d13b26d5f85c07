"""Which picture files a list of names, folders and patterns means."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from gradtoken.errors import BadPicture

SUFFIXES = {".avif", ".bmp", ".dib", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"}
SUFFIXES |= {".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
SOUNDS = {".aif", ".aiff", ".au", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".wav"}


def find_pictures(patterns: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Files as named; of folders, all pictures below them by suffix, sorted; of patterns (* ? [..] **), their matches.

    Where these hold no picture, their sounds.

    The order of the patterns is kept, a file found twice is listed once, hidden files are skipped unless named.
    """
    found = [path for pattern in patterns for path in matches(os.fspath(pattern))]
    return list(dict.fromkeys(found))


def matches(pattern: str) -> list[Path]:
    """All pictures that one pattern means, at least one."""
    path = Path(pattern)
    try:
        if pattern and not path.is_dir() and os.path.lexists(path):
            return [path]
        search = walk if pattern and path.is_dir() else expand
        paths = list(search(path, SUFFIXES)) or list(search(path, SOUNDS))
    except (OSError, ValueError) as error:  # a name that is too long or holds a zero byte, a folder that is locked
        raise BadPicture(f"{pattern!r} cannot be searched: {error}") from error
    if paths:
        return paths
    if pattern and path.is_dir():
        expected = ", ".join(sorted(SUFFIXES | SOUNDS))
        raise BadPicture(f"the folder {pattern!r} holds no picture; expected files in {expected}")
    kind = "no picture matches" if glob.has_magic(pattern) else "there is no file or folder"
    raise BadPicture(f"{kind} {pattern!r}; check the name and the folder ({Path.cwd()})")


def walk(folder: Path, suffixes: set[str]) -> Iterator[Path]:
    """Files below a folder, by suffix; neither hidden files nor linked folders."""
    for root, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(root, name) for name in sorted(names) if is_one(name, suffixes))


def refuse(error: OSError) -> None:
    raise error


def is_one(name: str, suffixes: set[str]) -> bool:
    return Path(name).suffix.lower() in suffixes and not name.startswith(".")


def expand(path: Path, suffixes: set[str]) -> Iterator[Path]:
    """Matches of a glob pattern; brackets in folders that exist under that very name are taken as they are."""
    pattern, literal, rest = str(path), path, list[str]()
    while literal.name and not literal.exists():
        rest.insert(0, literal.name)
        literal = literal.parent
    escaped = os.path.join(glob.escape(str(literal)), *rest)
    for name in sorted(glob.glob(escaped, recursive=True)) if glob.has_magic(pattern) else []:
        if Path(name).is_dir():
            yield from walk(Path(name), suffixes)
        elif is_one(Path(name).name, suffixes):
            yield Path(name)
