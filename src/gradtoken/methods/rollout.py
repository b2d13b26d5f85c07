"""Rollout: Abnar and Zuidema, Quantifying Attention Flow in Transformers, ACL 2020."""

from torch import Tensor

from gradtoken.attention import average_rows
from gradtoken.methods import METHODS
from gradtoken.probe import Probe
from gradtoken.readout import content, descend, first_block


@METHODS.add(
    paper="https://arxiv.org/abs/2005.00928",
    formula="R = row of (I + A_L)/2 ... (I + A_1)/2, A_b = mean_h A",
    cost="1 F",
    class_aware=False,
    needs=("last",),
    differs="the paper uses all blocks; published numbers for pictures leave the first one out",
)
def rollout(probe: Probe, *, start: int | None = None) -> Tensor:
    """Attention of all blocks and their residual connections, multiplied: R = row of (I + A_L)/2 ... (I + A_1)/2.

    Returns (B, K, S), the same for every target. Unit: share of attention, in [0, 1]; the shares of all tokens, prefix
    tokens included, sum to 1. start: the first block used, counted from 0; by default 1 for pictures and 0 for texts.
    """

    def step(block: int, row: Tensor) -> Tensor:
        A = probe.attention[block]
        collection = average_rows(A, row[:, 0])[:, None]
        return (row + collection) / 2 if A.square else collection

    return content(probe, descend(probe, step, first_block(probe, start, default=int(probe.layout.is_grid))))
