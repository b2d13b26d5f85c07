"""Progress of long computations: silent, unless someone who shows it asked for it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")
Show = Callable[[Sequence[T], str], Iterable[T]]
SHOWN: ContextVar[Show | None] = ContextVar("SHOWN", default=None)  # type: ignore[type-arg]


def track(steps: Sequence[T], what: str) -> Iterable[T]:
    """The steps, one by one, shown where `showing` is active."""
    show = SHOWN.get()
    return steps if show is None else show(steps, what)


@contextmanager
def showing(show: Show) -> Iterator[None]:  # type: ignore[type-arg]
    """Show progress within this block: `show(steps, what)` yields the steps, as `rich.progress.track` does."""
    token = SHOWN.set(show)
    try:
        yield
    finally:
        SHOWN.reset(token)
