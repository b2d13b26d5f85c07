"""What the readout collects: its rows of matrices over tokens, carried from the last block down to the first."""

from collections.abc import Callable
from dataclasses import replace
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from gradtoken.attention import Attention, reachable, rows
from gradtoken.errors import BadTarget, NoBlocks
from gradtoken.keeping import summed_again
from gradtoken.probe import Probe

Matrix = Callable[[int, int], Tensor]  # rows start ... stop of a matrix for each target, (B, K or 1, stop - start, M)
CELLS = 2**22  # entries of all heads' matrices formed at a time, for each target


def readout(probe: Probe, block: int | None = None) -> Tensor:
    """The row that stands for the class token: itself, or the mean of the tokens that are pooled. (B, 1, N)

    block: over the query tokens of which block, by default the last. Where a pooling query or a class token joins only
    later, the mean patch stands for it.
    """
    read, last = probe.readers.to(probe.dq.dtype), len(probe.attention) - 1
    total = probe.attention[last if block is None else block].shape[2]
    if block not in (None, last) and (not probe.last.square or total != read.shape[1]):
        read = widened(probe, visible_content(probe).to(read), total)
    return (read / read.sum(dim=1, keepdim=True))[:, None]


def visible_content(probe: Probe) -> Tensor:
    """Content tokens that are no padding. (B, S) bool"""
    seen = unpadded(probe)
    return probe.layout.content(seen, seen.shape[1])


def unpadded(probe: Probe) -> Tensor:
    """Tokens that reach the readers through any of the blocks: all but padding. (B, M) bool

    Where attention slides, the last one sees only the nearest of them.
    """
    seen, last = probe.reachable, probe.last
    if last.mask is None or last.mask.shape[-2] == 1:
        return seen
    for attention in reversed(probe.earlier):
        if attention.square and attention.shape[2] == seen.shape[1]:
            seen = seen | reachable(attention, seen)
    return seen


def widened(probe: Probe, content: Tensor, total: int) -> Tensor:
    """Values of content tokens among `total` tokens, the others 0. (..., S) -> (..., total)"""
    first = probe.layout.first_of(total)
    return F.pad(content, (first, total - first - probe.layout.count))


def fitted(probe: Probe, row: Tensor, total: int) -> Tensor:
    """A row over the tokens of one attention as a row over the `total` of another. (..., N) -> (..., total)"""
    if row.shape[-1] == total:
        return row
    return widened(probe, probe.layout.content(row, row.shape[-1]), total)


def collected(attention: Attention, row: Tensor, E: Matrix) -> Tensor:
    """Row @ E, of which only the rows that are used are formed, some at a time. (B, K or 1, N) -> (B, K, M)"""
    used = row.abs().sum(dim=(0, 1)).nonzero()[:, 0].tolist() or [0]
    ranges = chunks(attention, used[0], used[-1] + 1)
    return torch.stack([(row[:, :, None, i:j] @ E(i, j))[:, :, 0] for i, j in ranges]).sum(dim=0)


def chunks(attention: Attention, start: int, stop: int) -> list[tuple[int, int]]:
    """Ranges of rows that are formed at a time."""
    B, H, _, M = attention.shape
    size = max(1, CELLS // (B * H * M))
    return [(i, min(i + size, stop)) for i in range(start, stop, size)]


def summed(probe: Probe, f: Callable[[Attention], Tensor], blocks: list[Attention]) -> Tensor:
    """Sum of f(A) over the attentions before the last, or the last few of them; computed again if they were not kept.

    blocks: `probe.earlier`, or an end of it.
    """
    if blocks[0].is_kept:
        return reduce(torch.add, map(f, blocks))
    return summed_again(probe.net, probe.inputs, probe.blocks[-1 - len(blocks) : -1], f)


def through(attention: Attention, row: Tensor, E: Matrix) -> Tensor:
    """Row @ (I + E); where the queries are not the keys there is no residual connection and no I."""
    collection = collected(attention, row, E)
    return row + collection if attention.square else collection


def descend(probe: Probe, step: Callable[[int, Tensor], Tensor], start: int) -> Tensor:
    """The readout's row, changed by step(block, row) in each block from the last down to `start`. (B, K, N)"""
    row = readout(probe)
    for block in reversed(range(start, len(probe.attention))):
        row = step(block, fitted(probe, row, probe.attention[block].shape[2]))
    return row


def content(probe: Probe, row: Tensor) -> Tensor:
    """The content tokens of a row, padding exactly 0, for each target. (B, K or 1, N) -> (B, K, S)

    A row over a class token alone, which joined late, has none.
    """
    seen, total = visible_content(probe), row.shape[-1]
    found = probe.layout.content(row, total) if total >= probe.layout.count else row.new_zeros(*row.shape[:2], 1)
    R = found * seen[:, None]
    return R.expand(-1, probe.scores.shape[1], -1)


def over_content(probe: Probe) -> list[int]:
    """The blocks of the stream whose tokens are content: all but those of a class token alone. Raises NoBlocks."""
    found = [block for block in probe.stream if probe.attention[block].shape[2] >= probe.layout.count]
    if not found:
        raise NoBlocks(probe.missing_blocks)
    return found


def present(probe: Probe, total: int) -> Tensor:
    """Tokens that are no padding, as weights that sum to 1. (B, total)"""
    seen = unpadded(probe).to(probe.dq.dtype)
    seen = seen if seen.shape[1] == total else seen.new_ones(len(seen), total)
    return seen / seen.sum(dim=1, keepdim=True)


def content_weights(probe: Probe, total: int) -> Tensor:
    """Content tokens that can be seen, as weights that sum to 1. (B, total)"""
    seen = visible_content(probe).to(probe.dq.dtype)
    return widened(probe, seen / seen.sum(dim=1, keepdim=True), total)


def visible(attention: Attention, start: int, stop: int) -> Tensor:
    """Where these rows of A may be other than 0: neither padding nor a later token. (B, H, stop - start, M) bool"""
    return rows(replace(attention, q=torch.zeros_like(attention.q)), start, stop) > 0


def first_block(probe: Probe, start: int | None, default: int) -> int:
    """The first block used, counted from 0: the default, or the last one of a model with fewer."""
    L = len(probe.attention)
    if start is None:
        return min(default, L - 1)
    if isinstance(start, int) and 0 <= start < L:
        return start
    raise BadTarget(f"expected start from 0 to {L - 1}, the last of the blocks over its tokens, got {start!r}")
