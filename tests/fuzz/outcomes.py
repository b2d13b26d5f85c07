"""What became of each input that was tried: read, or refused with a reason; anything else fails the test."""

import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from gradtoken.errors import GradTokenError

SECONDS = 30  # after which a call hangs
SHORTEST = 12  # letters of a reason
TALLY: Counter[tuple[str, str]] = Counter()  # (surface, outcome); printed by conftest.py


class Hangs(BaseException):
    """A call that took longer than any of its kind needs."""


@contextmanager
def limited(seconds: int = SECONDS) -> Iterator[None]:
    """Interrupt what takes too long."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Hangs(f"no answer after {seconds} seconds")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def tried(surface: str, call: Callable[[], Any]) -> Any:
    """What a call gives; None where it refuses. Raises what is no refusal."""
    TALLY[surface, "tried"] += 1
    try:
        with limited():
            found = call()
    except GradTokenError as error:
        if len(str(error)) < SHORTEST:
            raise AssertionError(f"no reason: {error!r}") from error
        TALLY[surface, "refused"] += 1
        return None
    except BaseException as error:
        TALLY[surface, "hung" if isinstance(error, Hangs) else "crashed"] += 1
        raise
    TALLY[surface, "read"] += 1
    return found


@contextmanager
def expected_right(surface: str) -> Iterator[None]:
    """Assertions on what was read: where one fails, a result was wrong and nobody was told."""
    try:
        yield
    except AssertionError:
        TALLY[surface, "silently wrong"] += 1
        raise
