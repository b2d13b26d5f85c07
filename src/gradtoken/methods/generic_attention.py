"""Generic attention explainability: Chefer, Gur, Wolf, ICCV 2021; also known as CheferCAM.

Below the method are the rules for two modalities that attend to each other, on matrices that a caller has.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from gradtoken.methods import METHODS
from gradtoken.probe import Probe
from gradtoken.readout import content, descend, first_block, through


@METHODS.add(
    paper="https://arxiv.org/abs/2103.15679",
    formula="R = row of (I + E_L) ... (I + E_1), E_b = mean_h relu(dy/dA * A)",
    cost="1 F + K B",
    needs=("plain", "last"),
    differs="the authors' CLIP notebook uses the last block alone: start = number of blocks - 1",
)
def generic_attention(probe: Probe, *, start: int = 0) -> Tensor:
    """Attention weighted by its positive gradient, through all blocks: R <- R + E R, E = mean_h relu(dA * A).

    Returns (B, K, S). Unit: none; >= 0; not conserved. start: the first block used, counted from 0.
    """
    run, first = probe.plain, first_block(probe, start, 0)
    run.differentiate("Z", run.blocks[first:])

    def step(block: int, row: Tensor) -> Tensor:
        def E(i: int, j: int) -> Tensor:  # eq. 5
            return (run.dA(block, i, j) * run.A(block, i, j)[:, None]).clamp(min=0).mean(dim=2)

        return through(run.attention[block], row, E)  # eq. 6

    return content(probe, descend(probe, step, first))


class BiModal(NamedTuple):
    """Relevance of tokens for tokens, of two modalities s and q: R_ss begins as I, R_sq as 0.

    (..., s, s) and (..., s, q).
    """

    ss: Tensor
    sq: Tensor


def self_attended(E: Tensor, R: BiModal) -> BiModal:
    """A layer of self-attention of s, eq. 6 and 7. E (..., s, s)"""
    return BiModal(R.ss + E @ R.ss, R.sq + E @ R.sq)


def cross_attended(E: Tensor, R: BiModal, other: BiModal) -> BiModal:
    """A layer in which s reads q, eq. 10 and 11. E (..., s, q); other: relevance of q, with R_qq and R_qs."""
    return BiModal(R.ss + E @ other.sq, R.sq + residual_normalised(R.ss).mT @ E @ residual_normalised(other.ss))


def residual_normalised(R: Tensor) -> Tensor:
    """The rows of R - I with sum 1, and I, eq. 8 and 9; a row that collected nothing stays 0. (..., s, s)"""
    I = torch.eye(R.shape[-1], dtype=R.dtype, device=R.device)
    collected = R - I
    total = collected.sum(dim=-1, keepdim=True)
    return collected / total.where(total != 0, 1) + I
