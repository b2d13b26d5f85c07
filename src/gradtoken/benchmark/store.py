"""Where a run lies: a folder, or whatever fsspec opens by its address. A file is whole or absent."""

import contextlib
import os
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec

Address = Path | str  # of a folder here, or as s3://bucket/run
URL = re.compile(r"[a-z][a-z0-9+.-]*(://|::)")


def address(text: str | os.PathLike[str]) -> Address:
    """What a user wrote, as a folder's path or as an address that is left as it is."""
    name = os.fspath(text)
    if not URL.match(name):
        return Path(name).expanduser()
    return Path(name.removeprefix("file://")) if name.startswith("file://") else name.rstrip("/")


def below(place: Address, name: str) -> Address:
    """A folder or file in a folder."""
    return place / name if isinstance(place, Path) else f"{place}/{name}"


@dataclass(frozen=True)
class Store:
    """Files by their names below a root. Whatever fails raises OSError, for a file that is absent FileNotFoundError."""

    root: Address

    def read(self, name: str) -> bytes:
        """The content of a file."""
        if isinstance(self.root, Path):
            return (self.root / name).read_bytes()
        with remote(self.root) as (files, root):
            return bytes(files.cat_file(f"{root}/{name}"))

    def write(self, name: str, content: bytes, new: bool = False) -> None:
        """Put a file in place at once; object stores do so themselves. new: here, one that is there is kept."""
        if isinstance(self.root, Path):
            put(self.root / name, content, new)
        else:
            with remote(self.root) as (files, root):
                files.pipe_file(f"{root}/{name}", content)

    def delete(self, name: str) -> None:
        """Remove a file, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            if isinstance(self.root, Path):
                (self.root / name).unlink()
            else:
                with remote(self.root) as (files, root):
                    files.rm_file(f"{root}/{name}")

    def names(self, folder: str) -> list[str]:
        """Names of what lies directly in a folder, sorted; none for a folder that is absent."""
        with contextlib.suppress(FileNotFoundError):
            if isinstance(self.root, Path):
                return sorted(os.listdir(self.root / folder))
            with remote(self.root) as (files, root):
                files.invalidate_cache()  # others write there too
                found = files.ls(f"{root}/{folder}", detail=False)
                return sorted(str(name).rstrip("/").rpartition("/")[2] for name in found)
        return []


@contextlib.contextmanager
def remote(url: str) -> Iterator[tuple[Any, str]]:
    """A file system and the path in it. Its libraries have errors of their own kinds, which become OSError."""
    try:
        files, root = fsspec.core.url_to_fs(url)
        yield files, root.rstrip("/")
    except OSError:
        raise
    except Exception as error:  # each file system has its own, and they share no base
        raise OSError(f"{type(error).__name__}: {error}") from error


def put(path: Path, content: bytes, new: bool = False) -> None:
    """Write a file beside its place and move it there when the disk has it. new: unless another was first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with open(partial, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if not (new and linked(partial, path)):
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def linked(partial: Path, path: Path) -> bool:
    """Whether a file is there now: this one, or that of a process that was first. False on disks without links."""
    try:
        os.link(partial, path)
    except FileExistsError:
        return True
    except OSError:
        return False
    return True
