"""Find out which tokens are which patches: change single patches of a picture and see which tokens change."""

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gradtoken.align import align, aligned
from gradtoken.blocks import blocks_over, candidates, fullest
from gradtoken.errors import NoGrid
from gradtoken.inputs import call, replaced
from gradtoken.record import Enough, Recorder
from gradtoken.tokens import Layout, disorder, find_grid, first_patch, marked_pictures

if TYPE_CHECKING:
    from gradtoken.probe import Probe


@dataclass(frozen=True)
class Learnt:
    """What a first run on inputs of one shape showed.

    Where the tail starts, how many attentions count where the score depends on no later one, how many there are, the
    layout of a picture, and which attentions work on the tokens of the last one.
    """

    start: int
    limit: int | None
    count: int
    layout: Layout | None
    blocks: list[int]


def look(probe: "Probe") -> Learnt:
    """What the first pass of a probe shows."""
    first = probe.first
    return Learnt(first.start, first.limit, len(first.calls), *find(probe))


def find(probe: "Probe") -> tuple[Layout | None, list[int]]:
    """Change single patches of the first picture and see which tokens change: the layout, and the blocks."""
    attentions = [*(aligned(c, probe.batch) for c in probe.calls[:-1]), probe.last]
    if probe.picture is None:
        return None, blocks_over(attentions, None)
    size = probe.picture.shape[-2], probe.picture.shape[-1]
    rows, columns = find_grid(probe.last.shape[3], probe.first.grids, size)
    fault: str | None = None
    for blocks in candidates(attentions, rows * columns):
        numbers = blocks[0], fullest(attentions, blocks)
        first, full = changes(probe, probe.picture, (rows, columns), numbers)
        fault = disorder(first, (rows, columns), mixed=blocks[0] > 0)
        if fault is None:
            return Layout(first_patch(full, (rows, columns)), rows * columns, rows, columns), blocks
    raise NoGrid(fault)


def changes(probe: "Probe", picture: Tensor, grid: tuple[int, int], numbers: tuple[int, ...]) -> list[Tensor]:
    """How much the keys of these attentions change with each of `marked_pictures`: (cells, N) each.

    In batches of the inputs' size, of which nothing but the change is kept.
    """
    unmarked: list[Tensor] = []
    seen: list[list[Tensor]] = []
    for pictures in marked_pictures(picture[0], grid, probe.batch):
        record = Recorder(start=-1, until=max(numbers) + 1)
        with torch.no_grad(), contextlib.suppress(Enough), record:
            call(probe.net, replaced(probe.inputs, picture, pictures))
        found = [align(record.calls[number].k, len(pictures)) for number in numbers]
        keys = [k for k in found if k is not None]
        unmarked = unmarked or [k[:1].clone() for k in keys]
        seen.append([(k - u).float().square().sum(dim=(1, 3)) for k, u in zip(keys, unmarked, strict=True)])
    return [torch.cat(changes)[1:] for changes in zip(*seen, strict=True)]


def sequence(probe: "Probe") -> Layout:
    """Every token; the first one apart where it is the one the head reads, and is no content (a class token)."""
    total = probe.last.shape[3]
    only_first = bool(probe.readers[:, 0].all() and not probe.readers[:, 1:].any()) and probe.last.square
    first = 1 if only_first and total > 1 and not probe.last.causal else 0
    return Layout(first, total - first)
