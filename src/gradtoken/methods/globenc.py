"""GlobEnc: Modarressi, Fayyaz, Yaghoobzadeh, Pilehvar, arXiv 2205.03286."""

import torch
from torch import Tensor

from gradtoken.decomposition.blocks import Block, rollout
from gradtoken.methods import METHODS
from gradtoken.probe import Probe


@METHODS.add(
    paper="https://arxiv.org/abs/2205.03286",
    formula="R = N_L ... N_1, N_ij = |LN2(LN1(T_ij))|, T_ij part of attention sublayer i from j, norms linear",
    cost="2 F + L short B",
    class_aware=False,
    needs=("last", "stream"),
    differs="scaled to sum 1, since deep products of norms overflow; the paper has no pre-norm blocks, where no norm "
    "lies on the residual stream: N_ij = |T_ij|",
)
def globenc(probe: Probe) -> Tensor:
    """Length of each token's part in the output of a block's attention and norms, multiplied through the blocks.

    The feed-forward networks are passed over. Returns (B, K, S), the same for every target. Unit: share; >= 0; the
    shares of all tokens, prefix tokens included, sum to 1. Padding is exactly 0.
    """

    def contribution(block: Block, start: int, stop: int) -> Tensor:
        T = block.vectors(start, stop)
        T = T if block.last_norm is None else block.last_norm(T, start)
        length: Tensor = torch.linalg.vector_norm(T, dim=-1)
        return length

    return rollout(probe, contribution)[:, None].expand(-1, probe.scores.shape[1], -1)
