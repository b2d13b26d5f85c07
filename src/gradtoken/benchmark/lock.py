"""One process for each share of a run folder. The lock ends with the process, however that ends."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from gradtoken.benchmark.share import Share
from gradtoken.benchmark.store import Address
from gradtoken.errors import BadRun

NAME = ".lock-"


@contextlib.contextmanager
def locked(root: Address, share: Share) -> Iterator[None]:
    """Keep others out. Where no lock can be had (object stores), two processes would write the same files twice."""
    if not isinstance(root, Path):
        yield
        return
    others = [path for path in root.glob(f"{NAME}*") if not path.name.endswith(f"-of-{share.world}")]
    if any(is_held(path) for path in others):
        raise BadRun(in_use(root) + ", with another number of processes; wait for it, or stop it first")
    lock = FileLock(root / f"{NAME}{share}", blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise BadRun(in_use(root) + "; wait for it, or stop it first; nothing was changed") from None
    except (NotImplementedError, OSError):  # a file system without locks
        yield
        return
    try:
        yield
    finally:
        lock.release()


def in_use(root: Path) -> str:
    """How a refusal begins."""
    return f"another process is at work in {root} (`gradtoken benchmark status` shows it)"


def is_held(path: Path) -> bool:
    """Whether a process holds a lock."""
    try:
        with FileLock(path, blocking=False):
            return False
    except Timeout:
        return True
    except (NotImplementedError, OSError):
        return False
