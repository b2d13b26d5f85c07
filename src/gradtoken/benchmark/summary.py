"""From rows to numbers: means over samples, bootstrap intervals, and differences paired by sample."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradtoken.benchmark.columns import Column, Measured
from gradtoken.protocols.protocol import Array, Means, Protocol

DRAWS, SEED, BLOCK = 2000, 0, 100
BASELINE = "gradtoken"


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval: percentiles over resampled samples."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Curve:
    """What can be drawn, with its interval at each point."""

    x: Sequence[float]
    y: Array
    low: Array
    high: Array


@dataclass(frozen=True, eq=False)
class Line:
    """One method and ask in a report. numbers and differences (from the baseline, on `common` samples) by name.

    failed: samples that have no values though the protocol meant to use them; reasons: why, with those it left out.
    units: done, of how many.
    """

    title: str
    ask: str
    samples: int
    numbers: dict[str, Estimate]
    differences: dict[str, Estimate]
    common: int
    failed: int
    reasons: Counter[str]
    units: tuple[int, int]
    curves: dict[str, Curve] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Drawn:
    """Numbers and curves of one method: on its samples first, then on each draw of them."""

    numbers: dict[str, Array]
    curves: dict[str, tuple[Sequence[float], Array]]


@dataclass(frozen=True, eq=False)
class Resampling:
    """How often each sample is drawn: (1 + DRAWS, samples), the first row once each. The same for every method."""

    position: Mapping[str, int]
    counts: np.ndarray[Any, np.dtype[np.uint8]]

    @classmethod
    def of(cls, ids: Iterable[str]) -> "Resampling":
        """Samples drawn with replacement, as many as there are."""
        names = sorted(ids)
        rng, n = np.random.default_rng(SEED), len(names)
        counts = np.ones((1 + DRAWS, n), dtype=np.uint8)  # more than 255 times one of many is as good as impossible
        for drawn in counts[1:]:
            drawn[:] = np.minimum(np.bincount(rng.integers(0, n, size=n), minlength=n), 255)
        return cls({name: i for i, name in enumerate(names)}, counts)

    def means(self, one: Measured) -> Means:
        """Means over the drawn samples, (1 + DRAWS, n) by metric; a draw without any of them is not a number."""
        columns = [self.position[name] for name in one.ids]
        all_of_them = columns == list(range(self.counts.shape[1]))
        values = np.concatenate(list(one.values.values()), axis=1)
        found = np.empty((len(self.counts), values.shape[1]))
        for start in range(0, len(self.counts), BLOCK):
            some = self.counts[start : start + BLOCK]
            weights = (some if all_of_them else some[:, columns]).astype(np.float64)
            total = weights.sum(axis=1, keepdims=True)
            found[start : start + BLOCK] = (weights @ values) / np.where(total, total, np.nan)
        ends = np.cumsum([v.shape[1] for v in one.values.values()])
        return dict(zip(one.values, np.split(found, ends[:-1], axis=1), strict=True))

    def drawn(self, one: Measured, protocol: Protocol) -> Drawn:
        """What the protocol concludes."""
        means = self.means(one)
        with np.errstate(invalid="ignore", divide="ignore"):
            return Drawn(dict(protocol.conclude(means)), dict(protocol.curves(means)))


def summarised(columns: Iterable[Column], protocol: Protocol, baseline: Column | None = None) -> Iterator[Line]:
    """A line for each method and ask, one method after the other. baseline: what the others are compared with.

    A number that is the best of several thresholds is the best of each draw.
    """
    resampling = None if baseline is None else Resampling.of(baseline.ids)
    base: dict[str, tuple[Measured, Drawn]] = {}
    for column in columns:
        if resampling is None or not column.ids <= resampling.position.keys():
            resampling = Resampling.of(column.ids | (baseline.ids if baseline else set()))
            base = {}
        if baseline and not base:
            base = {one.ask: (one, resampling.drawn(one, protocol)) for one in baseline.measured}
        for one in column.measured:
            yield line(column, one, protocol, resampling, base)
        if not column.measured:
            yield Line(column.variant.title, "", 0, {}, {}, 0, column.failed, column.counted, column.units)


def line(
    column: Column, one: Measured, protocol: Protocol, resampling: Resampling, base: dict[str, tuple[Measured, Drawn]]
) -> Line:
    """Numbers and their intervals, and those of the differences."""
    found = resampling.drawn(one, protocol)
    other = base.get(one.ask) or next(iter(base.values()), None)  # a map that is the same for all classes has one ask
    common, apart = 0, dict[str, Array]()
    if other is not None and other[0].title != one.title:
        common, apart = compared(one, found, other, protocol, resampling)
    return Line(
        title=one.title,
        ask=one.ask,
        samples=len(one.ids),
        numbers={name: estimate(drawn) for name, drawn in found.numbers.items()},
        differences={name: estimate(drawn) for name, drawn in apart.items()},
        common=common,
        failed=column.failed,
        reasons=column.counted,
        units=column.units,
        curves={name: curve(x, drawn) for name, (x, drawn) in found.curves.items()},
    )


def compared(
    one: Measured, found: Drawn, other: tuple[Measured, Drawn], protocol: Protocol, resampling: Resampling
) -> tuple[int, dict[str, Array]]:
    """How many samples both have, and the first minus the second on these."""
    base, of_base = other
    if one.ids != base.ids:
        both = set(one.ids) & set(base.ids)
        if not both:
            return 0, {}
        base = base.among(both)
        found, of_base = (resampling.drawn(part, protocol) for part in (one.among(both), base))
    return len(base.ids), {name: found.numbers[name] - of_base.numbers[name] for name in found.numbers}


def estimate(drawn: Array) -> Estimate:
    """The first value with the interval of the others. drawn: (1 + DRAWS,)"""
    low, high = interval(drawn[:, None])
    return Estimate(float(drawn[0]), float(low[0]), float(high[0]))


def curve(x: Sequence[float], drawn: Array) -> Curve:
    """drawn: (1 + DRAWS, points)"""
    return Curve(x, drawn[0], *interval(drawn))


def interval(drawn: Array) -> Array:
    """2.5th and 97.5th percentile of the draws that are numbers. (1 + DRAWS, n) -> (2, n)"""
    some = drawn[1:]
    if np.isfinite(some).all():
        return np.percentile(some, [2.5, 97.5], axis=0)
    none = ~np.isfinite(some).any(axis=0)
    ends = np.nanpercentile(np.where(none | np.isfinite(some), np.where(none, 0, some), np.nan), [2.5, 97.5], axis=0)
    return np.asarray(np.where(none, np.nan, ends))
