"""Erase a picture patch by patch, or a text word by word, in the order of a map, and watch the class's probability."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradtoken.errors import BadRelevance, BadTarget
from gradtoken.explaining import Case
from gradtoken.inputs import call, tensors
from gradtoken.metrics.curves import normalised_area
from gradtoken.metrics.maps import enlarge
from gradtoken.metrics.perturbation import erased, ranks
from gradtoken.passes import micro_batches
from gradtoken.pieces import Grouping
from gradtoken.reading import TOGETHER, Read
from gradtoken.result import Explanation
from gradtoken.state import untouched
from gradtoken.targets import logits_of

STEPS = 16
SEEDS = (0, 1, 2)  # of the random orders, whose curves are averaged


@dataclass(frozen=True, eq=False)
class Curve:
    """Probability of the class (steps + 1,), evenly spaced from the whole picture to the erased one.

    most_first: None where the order is random. order: when each patch goes, (patches,), or empty.
    """

    name: str
    most_first: bool | None
    probability: NDArray[np.float64]
    order: NDArray[np.int64]

    @property
    def area(self) -> float:
        """Under the curve, of 1."""
        return float(normalised_area(torch.from_numpy(self.probability)[None])[0])


def patches(relevance: NDArray[np.float32], grid: tuple[int, int]) -> Tensor:
    """The mean relevance of each patch that is erased; maps of pixels are finer. (1, rows, columns)"""
    return torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(relevance.copy())[None], grid)


def curves(case: Case, maps: Sequence[Explanation], steps: int = STEPS) -> list[Curve]:
    """Two curves for each map, most and least relevant patches first, and the mean of random orders.

    Erased patches take the mean colour (0 after normalisation), as in insertion and deletion (arXiv:1806.07421). The
    class is the one that the case was made with.
    """
    expect_maps(maps)
    grid = grid_of(case)
    orders = [(m.method, most, ranks(patches(m.relevance, grid), most)) for m in maps for most in (True, False)]
    noise = [torch.rand(1, *grid, generator=torch.Generator().manual_seed(seed)) for seed in SEEDS]
    random = torch.stack([followed(case, ranks(r), steps) for r in noise]).mean(dim=0)
    found = [Curve(n, most, followed(case, o, steps).numpy(), o.flatten().numpy()) for n, most, o in orders]
    return [*found, Curve("random order", None, random.numpy(), np.empty(0, np.int64))]


def expect_maps(maps: Sequence[Explanation]) -> None:
    """Refuse where there is no order to follow."""
    if not maps:
        raise BadRelevance("there is no map whose order could be followed; choose a method that gives one")


def grid_of(case: Case) -> tuple[int, int]:
    """Rows and columns of the patches."""
    rows, columns = case.probe.layout.rows, case.probe.layout.columns
    if rows is None or columns is None:
        raise BadTarget("erasing needs the patches of a picture; the tokens of this model form no grid")
    return rows, columns


def followed(case: Case, order: Tensor, steps: int) -> Tensor:
    """Probability after 0 ... all patches were erased in an order (1, rows, columns). (steps + 1,), double"""
    probe = case.probe
    pictures = probe.grid
    assert pictures is not None
    size = (int(pictures.shape[-2]), int(pictures.shape[-1]))
    rank = enlarge(order.double(), size, "nearest").to(pictures.device)
    counts = torch.linspace(0, order.numel(), steps + 1).round().to(pictures.device)
    fill = torch.zeros(pictures.shape[1], device=pictures.device, dtype=pictures.dtype)
    scores = [
        probe.score(
            inputs=probe.pictured(erased(pictures, rank, counts[r.start : r.stop], fill).flatten(0, 1)),
            probability=True,
        )[:, 0]
        for r in micro_batches(probe, steps + 1)
    ]
    return torch.cat(scores).cpu().double()


# Texts ----------------------------------------------------------------------------------------------------------------


def curves_of_words(read: Read, maps: Sequence[Explanation], steps: int = STEPS) -> list[Curve]:
    """The same for a text that is read at once, word by word, for the class of the maps.

    The tokens of an erased word are left out and the rest closes up, as in ERASER (arXiv:1911.03429); special tokens
    stay, and without any the last word does.
    """
    expect_maps(maps)
    if len(read.windows.parts) > 1:
        raise BadTarget("erasing follows a text that is read at once; read it without windows, or take a part of it")
    target, count = maps[0].target, len(maps[0].relevance)
    if target is None:
        raise BadTarget("erasing follows the probability of a class; the target of these maps is none")
    orders = [(m.method, most, places(-m.relevance if most else m.relevance)) for m in maps for most in (True, False)]
    noise = [torch.rand(count, generator=torch.Generator().manual_seed(seed)).numpy() for seed in SEEDS]
    steps = min(steps, count)
    random = np.stack([read_without(read, places(r), target, steps) for r in noise]).mean(axis=0)
    found = [Curve(n, most, read_without(read, order, target, steps), order) for n, most, order in orders]
    return [*found, Curve("random order", None, random, np.empty(0, np.int64))]


def places(values: NDArray[Any]) -> NDArray[np.int64]:
    """When each is reached in ascending order, equal ones as they stand. (words,)"""
    order: NDArray[np.int64] = values.argsort(kind="stable").argsort()
    return order


def read_without(read: Read, order: NDArray[np.int64], target: int, steps: int) -> NDArray[np.float64]:
    """Probability after 0 ... all words were left out in an order (words,). (steps + 1,)"""
    part, tokens = read.windows.parts[0], len(read.windows.tokens)
    grouping = Grouping.of(read.text, read.windows.tokens, "max", special=False)
    gone_at = np.full(tokens, len(order))  # special tokens never go
    gone_at[grouping.kept] = order[grouping.owners]
    most = len(order) if tokens > len(grouping.kept) else len(order) - 1
    counts = np.linspace(0, most, steps + 1).round()
    texts = [{name: x[torch.from_numpy(gone_at >= n)] for name, x in part.inputs.items()} for n in counts]
    found = []
    for i in range(0, len(texts), TOGETHER):
        inputs = read.on_device(texts[i : i + TOGETHER])
        with torch.no_grad(), untouched(read.model.net, tensors(inputs)):
            logits = logits_of(call(read.model.net, inputs)).detach().cpu().double()
        found.append(read.model.probabilities(logits)[:, target].numpy())
    return np.concatenate(found)
