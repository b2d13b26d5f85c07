"""From rows to numbers: means over samples, bootstrap intervals, and differences paired by sample."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from gradtoken.benchmark.rows import Row
from gradtoken.protocols.protocol import Array, Protocol

DRAWS, SEED, BLOCK = 2000, 0, 100


@dataclass(frozen=True, eq=False)
class Measured:
    """All values of one method and ask. ids: samples that have them. values: by metric, (samples, n).

    reasons: why other samples have none, and how many.
    """

    title: str
    ask: str
    ids: tuple[str, ...]
    values: dict[str, Array]
    reasons: Counter[str]


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval: percentiles over resampled samples."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Line:
    """One method and ask in a report. numbers and differences (from the baseline, on the samples both have) by name."""

    title: str
    ask: str
    samples: int
    numbers: dict[str, Estimate]
    differences: dict[str, Estimate]
    reasons: Counter[str]


def gathered(title: str, rows: Iterable[Row]) -> list[Measured]:
    """One for each ask; for none where every sample was refused, one without values."""
    kept: dict[str, dict[str, dict[str, list[float]]]] = {}
    reasons: Counter[str] = Counter()
    for row in rows:
        if row.reason:
            reasons[row.reason.removeprefix(f"{row.sample}: ")] += 1
        else:
            kept.setdefault(row.ask, {}).setdefault(row.sample, {})[row.metric] = row.values
    return [
        Measured(title, ask, tuple(samples), stacked(list(samples.values())), reasons) for ask, samples in kept.items()
    ] or [Measured(title, "", (), {}, reasons)]


def stacked(samples: Sequence[dict[str, list[float]]]) -> dict[str, Array]:
    """(samples, n) by metric."""
    return {name: np.array([sample[name] for sample in samples], dtype=np.float64) for name in samples[0]}


def summarised(found: Sequence[Measured], protocol: Protocol, baseline: str = "gradtoken") -> list[Line]:
    """A line for each method and ask. baseline: title of the method that the others are compared with."""
    names = sorted({one for measured in found for one in measured.ids})
    position = {name: i for i, name in enumerate(names)}
    base = {one.ask: one for one in found if one.title == baseline}
    return [line(one, base.get(one.ask) or next(iter(base.values()), None), protocol, position) for one in found]


def line(one: Measured, base: Measured | None, protocol: Protocol, position: dict[str, int]) -> Line:
    """Numbers and their intervals; every method is resampled by the same draws."""
    if not one.ids:
        return Line(one.title, one.ask, 0, {}, {}, one.reasons)
    numbers = estimates([one], protocol, position)
    apart = {} if base is None or base is one else compared(one, base, protocol, position)
    return Line(one.title, one.ask, len(one.ids), numbers, apart, one.reasons)


def compared(one: Measured, base: Measured, protocol: Protocol, position: dict[str, int]) -> dict[str, Estimate]:
    """The method minus the baseline, on the samples that both have."""
    both = set(one.ids) & set(base.ids)
    if not both:
        return {}
    return estimates([only(one, both), only(base, both)], protocol, position)


def only(one: Measured, ids: set[str]) -> Measured:
    """The values of some samples, in the order of their names."""
    chosen = sorted((name, i) for i, name in enumerate(one.ids) if name in ids)
    numbers = [i for _, i in chosen]
    values = {name: values[numbers] for name, values in one.values.items()}
    return Measured(one.title, one.ask, tuple(name for name, _ in chosen), values, one.reasons)


def estimates(found: Sequence[Measured], protocol: Protocol, position: dict[str, int]) -> dict[str, Estimate]:
    """The numbers of one method, or of the first minus the second."""
    rows = np.array([position[name] for name in found[0].ids])
    value = {name: float(number[0]) for name, number in apart(found, np.ones((1, len(rows))), protocol).items()}
    drawn = [apart(found, weights[:, rows], protocol) for weights in draws(len(position))]
    return {
        name: Estimate(number, *np.nanpercentile(np.concatenate([one[name] for one in drawn]), [2.5, 97.5]))
        for name, number in value.items()
    }


def apart(found: Sequence[Measured], weights: Array, protocol: Protocol) -> dict[str, Array]:
    """Numbers (draws,) of the first, less those of the second if there is one."""
    first, *others = [protocol.conclude(means(one, weights)) for one in found]
    return {name: sum((-other[name] for other in others), first[name]) for name in first}


def means(one: Measured, weights: Array) -> dict[str, Array]:
    """Weighted means over samples. weights (draws, samples) -> (draws, n) by metric"""
    share = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1)
    return {name: share @ values for name, values in one.values.items()}


def draws(samples: int) -> Iterable[Array]:
    """How often each sample is drawn, in blocks (BLOCK, samples) of the same DRAWS for everything."""
    rng = np.random.default_rng(SEED)
    for _ in range(0, DRAWS, BLOCK):
        yield rng.multinomial(samples, np.full(samples, 1 / samples), size=BLOCK).astype(np.float64)
