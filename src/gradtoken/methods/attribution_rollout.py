"""Attribution rollout: Xu, Yan, et al., Journal of Ambient Intelligence and Humanized Computing 14, 2023."""

from typing import Literal, get_args

import torch
from torch import Tensor

from gradtoken.along import mean_gradient, path
from gradtoken.errors import UnknownName
from gradtoken.lens import projected, pulled
from gradtoken.methods import METHODS
from gradtoken.probe import Probe
from gradtoken.readout import collected, content, descend

Mode = Literal["code", "paper"]


@METHODS.add(
    paper="https://doi.org/10.1007/s12652-022-04354-2",
    formula="R = row of T_L ... T_1, T_b = rows of I + max_h(A * g) with sum 1, g = dy_b/dA, y_b the head on block b",
    cost="1 F + L short F + L K short B, with mode='paper' 1 F + L steps (F + K B)",
    needs=("plain", "last"),
    differs="the paper integrates gradients along A; its code, the default, multiplies one gradient by the mean of the "
    "path, 1/2, and explains the predicted class alone",
)
def attribution_rollout(probe: Probe, *, mode: Mode = "code", steps: int = 20) -> Tensor:
    """Rollout of attention times its gradient, each block's for the scores that the head gives to its own output.

    Returns (B, K, S). Unit: share of attribution; signed; the shares of all tokens, prefix tokens included, sum to 1.
    mode: `code` is A * g / 2, `paper` the integrated gradient A * mean_a g(a A). steps: of the mean, a = 0 ... 1 with
    both ends; `paper` alone reads it.
    """
    if mode not in get_args(Mode):
        raise UnknownName.among("mode", mode, get_args(Mode))
    run = probe.plain

    def step(block: int, row: Tensor) -> Tensor:
        attention, v = run.attention[block], run.value("v", block)[:, None]
        if mode == "paper":
            dZ = mean_gradient(probe, block, path(probe, steps), own_head=True)
        else:
            dZ = own_gradient(probe, block) / 2

        def T(i: int, j: int) -> Tensor:
            E = (run.A(block, i, j)[:, None] * (dZ[..., i:j, :] @ v.mT)).amax(dim=2)
            E = E + torch.eye(E.shape[-1], dtype=E.dtype, device=E.device)[i:j] if attention.square else E
            total = E.sum(dim=-1, keepdim=True)
            return E / total.where(total != 0, 1)

        return collected(attention, row, T)

    return content(probe, descend(probe, step, start=0))


def own_gradient(probe: Probe, block: int) -> Tensor:
    """Gradient of the scores that the head gives to a block's output, by its A v. (B, K, H, N, D)"""
    run = probe.plain
    if block not in probe.followed:  # an attention pooling is part of the head
        return run.gradient("Z", block)
    probe.stream  # noqa: B018  which refuses a decoder
    return pulled(run, ("out", block), projected(probe, run.value("out", block)), block)
