"""What became of each input that was tried: read, or refused with a reason; anything else fails the test."""

import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from gradtoken.errors import GradTokenError

SECONDS, WAITED = 30, 600  # of processor time, or by the clock, after which a call hangs
SHORTEST = 12  # letters of a reason
TALLY: Counter[tuple[str, str]] = Counter()  # (surface, outcome); printed by conftest.py


class Hangs(BaseException):
    """A call that took longer than any of its kind needs."""


@contextmanager
def limited(seconds: int = SECONDS) -> Iterator[None]:
    """Interrupt what takes too long; the clock alone says little on a machine that others use too."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Hangs(f"no answer after {seconds} seconds of processor time, or {WAITED} by the clock")

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGALRM, signal.SIGPROF)}
    signal.setitimer(signal.ITIMER_REAL, WAITED)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


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
