"""Transformer attribution: Chefer, Gur, Wolf, CVPR 2021."""

import torch
from torch import Tensor

from gradtoken.lrp.passes import of_attention, propagate
from gradtoken.lrp.presets import LRP_CONSERVATIVE
from gradtoken.methods import METHODS
from gradtoken.probe import Probe
from gradtoken.readout import collected, content, descend, first_block


@METHODS.add(
    paper="https://arxiv.org/abs/2012.09838",
    formula="R = row of (I + E_L) ... (I + E_s), E_b = mean_h (dA_b * R_A_b)+",
    cost="2 F + K B + K relprops",
    needs=("plain", "last"),
    differs="the authors balance residual connections by sums over the batch, here by those of each sample; the paper "
    "uses all blocks and normalises no rows, their experiments as described at the options",
)
def transattrib(
    probe: Probe, *, start: int | None = None, normalise: bool | None = None, precise: bool = False
) -> Tensor:
    """Attention weighted by its relevance and its gradient, multiplied over the blocks: the readout's row.

    Returns (B, K, S). Unit: none; >= 0; not conserved.

    start: the first block used, counted from 0; by default 1 for pictures and the last for texts. normalise: make the
    rows of each factor sum to 1, by default for texts alone. precise: run the network in float64 (on trained weights
    float32 differs by up to 12 %).
    """
    picture = probe.layout.is_grid
    first = first_block(probe, start, default=1 if picture else len(probe.attention))
    run, plain = propagate(probe, LRP_CONSERVATIVE, precise=precise), probe.plain
    for of_Z in (run, plain):
        of_Z.differentiate("Z", run.blocks[first:])
    unit_rows = not picture if normalise is None else normalise

    def step(block: int, row: Tensor) -> Tensor:
        attention = probe.attention[block]
        _, _, N, M = attention.shape

        def factor(i: int, j: int) -> Tensor:
            E = (plain.dA(block, i, j) * of_attention(run, block, i, j)).clamp(min=0).mean(dim=2).to(row.dtype)
            if not attention.square:  # attention pooling has no residual connection
                return E
            E = E + torch.eye(N, M, dtype=E.dtype, device=E.device)[i:j]
            return E / E.sum(dim=-1, keepdim=True) if unit_rows else E

        return collected(attention, row, factor)

    return content(probe, descend(probe, step, first))
