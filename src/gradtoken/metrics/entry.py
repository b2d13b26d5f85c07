"""A metric: a pure function of tensors, one value or curve per sample; and what is known about it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from gradtoken.named import Named

Better = Literal["higher", "lower", ""]
C = TypeVar("C", bound=Callable[..., Any])


@dataclass(frozen=True)
class Metric:
    """summary: the first line of the docstring. better: which direction, or "" for counts and curves."""

    name: str
    call: Callable[..., Any]
    paper: str
    summary: str
    better: Better


METRICS: Named[Metric] = Named("metric")


def metric(*, paper: str, better: Better) -> Callable[[C], C]:
    """Register the decorated function under its own name."""

    def register(call: C) -> C:
        summary = (call.__doc__ or "").strip().split("\n")[0]
        METRICS.enter(Metric(call.__name__, call, paper, summary, better))
        return call

    return register
