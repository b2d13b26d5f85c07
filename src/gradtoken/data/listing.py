"""Names in folders, by reading the folder alone: no file is opened or asked for its size."""

import os
from collections.abc import Iterator
from pathlib import Path

from gradtoken.errors import BadData
from gradtoken.models.files import SUFFIXES

ENDINGS = tuple(sorted(SUFFIXES))


def is_picture(name: str) -> bool:
    return name.lower().endswith(ENDINGS) and not name.startswith(".")


def entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """What lies in a folder, but hidden things."""
    try:
        with os.scandir(folder) as found:
            yield from (entry for entry in found if not entry.name.startswith("."))
    except (OSError, ValueError) as error:
        raise BadData(f"the folder {str(folder)!r} cannot be read: {error}") from error


def pictures_in(folder: Path) -> list[str]:
    """Names of the pictures in a folder, by suffix, sorted."""
    return sorted(entry.name for entry in entries(folder) if is_picture(entry.name))


def folders_in(folder: Path) -> list[str]:
    """Names of the folders in a folder, linked ones too, sorted."""
    return sorted(entry.name for entry in entries(folder) if entry.is_dir())


def pictures_below(folder: Path, within: str = "") -> Iterator[str]:
    """Pictures in a folder and all below it, as paths from it; linked folders are left out."""
    inner = folder / within if within else folder
    yield from (f"{within}{name}" for name in pictures_in(inner))
    for name in sorted(entry.name for entry in entries(inner) if entry.is_dir(follow_symlinks=False)):
        yield from pictures_below(folder, f"{within}{name}/")


def by_stem(folder: Path) -> dict[str, str]:
    """Stem -> name of the pictures in a folder; two of one stem are refused."""
    found: dict[str, str] = {}
    for name in pictures_in(folder):
        stem = os.path.splitext(name)[0]
        if stem in found:
            raise BadData(f"{str(folder)!r} holds both {found[stem]!r} and {name!r}; keep one of them")
        found[stem] = name
    return found


def subfolder(folder: Path, *names: str) -> Path | None:
    """The first of the folders named that is there."""
    return next((folder / name for name in names if (folder / name).is_dir()), None)


def expect_folder(folder: Path, purpose: str) -> Path:
    """The folder, if there is one; purpose: what is expected in it."""
    if not folder.is_dir():
        raise BadData(f"there is no folder {str(folder)!r}; expected {purpose} in it")
    return folder
