"""ALTI: Ferrando, Gállego, Costa-jussà, arXiv 2203.04212."""

import torch
from torch import Tensor

from gradtoken.decomposition.blocks import Block, rollout, share
from gradtoken.errors import expect_between
from gradtoken.methods import METHODS
from gradtoken.probe import Probe


@METHODS.add(
    paper="https://arxiv.org/abs/2203.04212",
    formula="R = C_L ... C_1, C_ij = (|y_i| - |y_i - T_ij|)+ / sum_j, y_i attention sublayer, T_ij its part from j",
    cost="2 F + L short B",
    class_aware=False,
    needs=("last", "stream"),
    differs="the paper has no pre-norm blocks; in those T is not normalised, and y is the residual sum",
)
def alti(probe: Probe, *, p: float = 1.0) -> Tensor:
    """How near each token's part brings the attention sublayer to its output, multiplied through the blocks.

    Returns (B, K, S), the same for every target. Unit: share; >= 0; the shares of all tokens, prefix tokens included,
    sum to 1. Padding is exactly 0. p: which norm measures distances.
    """
    expect_between("p", p, 1)

    def contribution(block: Block, start: int, stop: int) -> Tensor:
        y = block.y[:, start:stop, None]
        distance = torch.linalg.vector_norm(y - block.vectors(start, stop), p, dim=-1)
        return share((torch.linalg.vector_norm(y, p, dim=-1) - distance).clamp(min=0))

    return rollout(probe, contribution)[:, None].expand(-1, probe.scores.shape[1], -1)
