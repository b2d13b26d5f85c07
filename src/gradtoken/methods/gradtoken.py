"""GradToken: Cheng, Liang, Lu, Cheung, Neural Networks 181 (2025) 106837."""

from typing import Literal, get_args

import torch
from torch import Tensor

from gradtoken.attention import Attention, average, average_rows
from gradtoken.errors import BadTarget, UnknownName
from gradtoken.methods import METHODS
from gradtoken.probe import Probe
from gradtoken.readout import present, readout, summed, widened

Propagation = Literal["none", "rollout_elementwise", "rollout_matmul", "average_elementwise", "average_matmul"]
Heads = Literal["relu_mean", "mean"]


@METHODS.add(
    paper="https://doi.org/10.1016/j.neunet.2024.106837",
    formula="R = mean_h relu(Abar K_h G_h), G = sum of the rows of dy/dQ of the last block",
    cost="1 F + K short B",
    needs=("last",),
)
def gradtoken(
    probe: Probe,
    *,
    propagation: Propagation = "average_matmul",
    heads: Heads = "relu_mean",
    depth: int = 1,
) -> Tensor:
    """Class-aware gradient of the last query, correlated with the keys and smoothed by earlier attention.

    Returns the relevance of each content token for each target, (B, K, S). Unit: logit times key energy; >= 0 with
    `relu_mean`, signed with `mean`; not conserved. Padding is exactly 0.

    propagation: `average_matmul` is the published method; the others are its Table 3, GradToken-0 to -3 in the order of
    the type. heads: `relu_mean` clips each head below 0 before they are averaged, as published. depth: the first block
    whose attention is used, 1 (published) to the number of blocks (none).
    """
    check(probe, propagation, heads, depth)
    return integrated(head_maps(probe, propagation=propagation, depth=depth), heads)


def head_maps(probe: Probe, *, propagation: Propagation = "average_matmul", depth: int = 1) -> Tensor:
    """M propagated, before the heads are clipped and averaged: (B, K, H, S), signed. Padding is exactly 0."""
    check(probe, propagation, "mean", depth)
    return propagated(probe, correlation(probe), propagation, depth)


def correlation(probe: Probe) -> Tensor:
    """M = K G, over all keys of the last block. (B, K, H, M), signed"""
    G = probe.dq.sum(dim=3)  # eq. 6, 7: the rows that are no readout are zero (B, K, H, D)
    return torch.einsum("bhnd,bkhd->bkhn", probe.last.k.to(G.dtype), G)  # eq. 8


def propagated(probe: Probe, M: Tensor, propagation: Propagation, depth: int) -> Tensor:
    """Relevance of the last block's keys through earlier attention, eq. 14 and 16. (B, K, H, M) -> (B, K, H, S)"""
    seen = probe.layout.content(probe.reachable, M.shape[3])[:, None, None]
    M = probe.layout.content(M, M.shape[3]) * seen
    blocks = probe.earlier[depth - 1 :]
    if blocks and propagation != "none":
        M = SCHEMES[propagation](probe, M, blocks)
    return M * seen


def integrated(M: Tensor, heads: Heads) -> Tensor:
    """Mean over heads, each clipped below 0 or not, eq. 18. (B, K, H, S) -> (B, K, S)"""
    return (M.clamp(min=0) if heads == "relu_mean" else M).mean(dim=2)


def check(probe: Probe, propagation: str, heads: str, depth: int) -> None:
    for kind, name, type_ in (("propagation", propagation, Propagation), ("head integration", heads, Heads)):
        if name not in get_args(type_):
            raise UnknownName.among(kind, name, get_args(type_))
    L = len(probe.earlier) + 1
    if not isinstance(depth, int) or not 1 <= depth <= L:
        raise BadTarget(
            f"expected depth from 1 to {L}, the number of blocks over the last block's tokens, got {depth!r}"
        )


# Propagation: M (B, K, H, S) -> (B, K, H, S) through the attention of the given blocks --------------------------------


def average_matmul(probe: Probe, M: Tensor, blocks: list[Attention]) -> Tensor:
    """Abar M with Abar = sum of the blocks' head means / L: a token collects from those it attends to (eq. 14, 16)."""
    L = len(probe.earlier) + 1
    values = values_of(probe, M, blocks)
    total = summed(probe, lambda A: average(A, values), blocks)
    return narrowed(probe, total / L, M)


def rollout_matmul(probe: Probe, M: Tensor, blocks: list[Attention]) -> Tensor:
    """(I + A1)(I + A2)...(I + A_{L-1}) M."""
    values = values_of(probe, M, blocks)
    seen = unpadded(probe, values.shape[1])[..., None]
    for A in reversed(blocks):
        values = (values + average(A, values)) * seen  # which earlier blocks need not mask
    return narrowed(probe, values, M)


def average_elementwise(probe: Probe, M: Tensor, blocks: list[Attention]) -> Tensor:
    """The readout's row of Abar, times M."""
    r = row_of(probe, blocks)
    row = summed(probe, lambda A: average_rows(A, r), blocks) / (len(probe.earlier) + 1)
    return probe.layout.content(row, row.shape[1])[:, None, None] * M


def rollout_elementwise(probe: Probe, M: Tensor, blocks: list[Attention]) -> Tensor:
    """The readout's row of (I + A_{L-1})...(I + A2)(I + A1), times M."""
    row = row_of(probe, blocks)
    for A in reversed(blocks):
        row = (row + average_rows(A, row)) * unpadded(probe, row.shape[1])
    return probe.layout.content(row, row.shape[1])[:, None, None] * M


SCHEMES = {
    "average_matmul": average_matmul,
    "rollout_matmul": rollout_matmul,
    "average_elementwise": average_elementwise,
    "rollout_elementwise": rollout_elementwise,
}


def values_of(probe: Probe, M: Tensor, blocks: list[Attention]) -> Tensor:
    """M as values of an attention over all tokens, zero off the patches; all targets and heads side by side.

    (B, K, H, S) -> (B, N, K * H)
    """
    return widened(probe, M, blocks[0].shape[2]).flatten(1, 2).mT.contiguous()


def narrowed(probe: Probe, values: Tensor, like: Tensor) -> Tensor:
    """The patches of `values` in the shape of M. (B, N, K * H) -> (B, K, H, S)"""
    return probe.layout.content(values.mT, values.shape[1]).reshape(like.shape)


def row_of(probe: Probe, blocks: list[Attention]) -> Tensor:
    """The readout's row over the tokens of these blocks; padding that is pooled too asks, but is no row. (B, N)"""
    row = readout(probe, len(probe.earlier) - len(blocks))[:, 0]
    row = row * unpadded(probe, row.shape[1])
    return row / row.sum(dim=1, keepdim=True)


def unpadded(probe: Probe, total: int) -> Tensor:
    """Which tokens are no padding. (B, total)"""
    return present(probe, total) > 0
