"""What is done where memory is short: half as much at once, and a note of it."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

SIGNS = ("out of memory", "can't allocate memory", "not enough memory", "cannot allocate memory")
NOTES: ContextVar[list[dict[str, Any]] | None] = ContextVar("NOTES", default=None)


def is_short(error: BaseException) -> bool:
    """Whether an error says that memory is short, on whatever device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in SIGNS)


def make_room() -> None:
    """Give back what the allocator keeps."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@dataclass
class Room:
    """What was found to fit at once where more did not: samples in a probe, and pictures in a plain pass."""

    samples: int = sys.maxsize
    pictures: int = sys.maxsize


def in_parts(call: Callable[[int, int], Tensor], count: int, size: int, room: Room) -> Iterator[Tensor]:
    """call(start, stop) over 0 ... count in parts of at most `size`; where memory is short, of halves from then on."""
    start = 0
    while start < count:
        stop, found = min(start + min(size, room.pictures), count), None
        try:
            found = call(start, stop)
        except (MemoryError, RuntimeError) as error:
            if stop - start == 1 or not is_short(error):
                raise
            note({"event": "halved", "pictures": stop - start, "reason": str(error).split("\n")[0]})
        if found is None:  # outside of the handler, which keeps what filled the memory
            make_room()
            room.pictures = -(-(stop - start) // 2)
        else:
            yield found
            start = stop


def note(fact: dict[str, Any]) -> None:
    """Write something down for whoever listens."""
    notes = NOTES.get()
    if notes is not None:
        notes.append(fact)


@contextmanager
def noted() -> Iterator[list[dict[str, Any]]]:
    """What is written down within this block."""
    notes: list[dict[str, Any]] = []
    token = NOTES.set(notes)
    try:
        yield notes
    finally:
        NOTES.reset(token)
