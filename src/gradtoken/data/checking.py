"""Reads a whole data set once and says what is wrong with it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gradtoken.data.reading import fault
from gradtoken.data.sample import DataSet, Mask, Rationale, Sample
from gradtoken.errors import BadSample

AHEAD = 16  # samples for each thread that are read before the first is reported


@dataclass(frozen=True)
class Problem:
    """error: the sample cannot be used. warning: it can, and some metrics have no answer for it."""

    id: str
    reason: str
    kind: Literal["error", "warning"] = "error"


def check(dataset: DataSet, threads: int = 1) -> Iterator[Problem]:
    """Read every sample and give what is wrong, in the order of the data set; samples are not kept."""
    numbers = range(len(dataset))
    with ThreadPoolExecutor(max(threads, 1)) as pool:
        for start in range(0, len(numbers), AHEAD * max(threads, 1)):
            some = numbers[start : start + AHEAD * max(threads, 1)]
            for problems in pool.map(lambda number: list(problems_of(dataset, number)), some):
                yield from problems


def problems_of(dataset: DataSet, number: int) -> Iterator[Problem]:
    """What is wrong with one sample."""
    id = dataset.ids[number]
    try:
        sample = dataset.read(number)
    except BadSample as error:
        yield Problem(id, str(error).removeprefix(f"{id}: "))
        return
    if reason := fault(sample, len(dataset.classes)):
        yield Problem(id, reason)
    yield from (Problem(id, reason, "warning") for reason in doubts(sample))


def doubts(sample: Sample) -> Iterator[str]:
    """What makes a sample of little use."""
    if not isinstance(sample.input, str) and sample.input.size == (1, 1):
        yield "the picture has one pixel"
    if isinstance(sample.truth, Mask) and not (sample.truth.values > 0).any():
        void = (sample.truth.values < 0).all()
        yield "nothing of the mask counts: every pixel is void" if void else "the mask is all background"
    if isinstance(sample.truth, Rationale) and not np.any(sample.truth.marked):
        yield "no word is marked as the reason"
