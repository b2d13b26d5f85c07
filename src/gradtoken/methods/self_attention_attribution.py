"""Self-attention attribution (AttAttr): Hao, Dong, Wei, Xu, AAAI 2021."""

import torch
from torch import Tensor

from gradtoken.along import mean_gradient, path
from gradtoken.methods import METHODS
from gradtoken.probe import Probe
from gradtoken.readout import collected, content, readout


@METHODS.add(
    paper="https://arxiv.org/abs/2004.11207",
    formula="R = sum_bh (A * mean_k dp(k/m A)/dA)[readout], k = 0 ... m - 1, p the class probability",
    cost="1 F + L steps (F + K B)",
    needs=("plain", "last"),
    trial={"steps": 1},
    differs="the paper scales one head at a time and sums k = 1 ... m; its code, as here, all heads of a block, and by "
    "default 64 steps. Both give a matrix for each block; the sum of the readout's rows over blocks is ours",
)
def self_attention_attribution(probe: Probe, *, steps: int = 20) -> Tensor:
    """Integrated gradients of the class probability along each block's attention, summed over blocks and heads.

    Returns (B, K, S). Unit: probability; signed; all entries of a block's matrices sum to what its attention changes in
    the probability, as `steps` grow.

    steps: how many shares k / m of the attention, m.
    """
    factors = path(probe, steps) * ((steps - 1) / steps)
    return torch.stack([block_map(probe, block, factors) for block in probe.plain.blocks]).sum(dim=0)


def block_map(probe: Probe, block: int, factors: Tensor) -> Tensor:
    """The readout's row of one block's attribution, heads summed. (B, K, S)"""
    run = probe.plain
    dZ, v = mean_gradient(probe, block, factors, probability=True), run.value("v", block)[:, None]

    def E(i: int, j: int) -> Tensor:
        return (run.A(block, i, j)[:, None] * (dZ[..., i:j, :] @ v.mT)).sum(dim=2)

    return content(probe, collected(run.attention[block], readout(probe, block), E))
