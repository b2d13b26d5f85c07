"""Gaze: what a class gains as its readout looks more at a token, spread over the tokens that attend to it."""

from typing import Literal, get_args

import torch
from torch import Tensor

from gradtoken.attention import average, average_rows
from gradtoken.errors import UnknownName
from gradtoken.methods import METHODS
from gradtoken.methods.gradtoken import average_matmul
from gradtoken.probe import Probe
from gradtoken.readout import first_block, readout, summed, visible_content, widened
from gradtoken.softmax import check_choice, gained

Spread = Literal["shares", "average", "none"]
Clip = Literal["after", "before"]


@METHODS.add(
    paper="https://doi.org/10.1016/j.neunet.2024.106837",
    formula="R = relu(P s), s_j = sum_bh dy/dO_0j, P = Abar with columns of sum 1",
    cost="1 F + K B",
    needs=("plain", "last"),
    differs="no paper: GradToken's eq. 5 in every block instead of the last, and its Abar with columns of sum 1",
)
def gaze(probe: Probe, *, start: int = 0, spread: Spread = "shares", clip: Clip = "after") -> Tensor:
    """Gradient of each class by one number added to all scores that its readout gives a token, in all heads and blocks.

    A token's number then goes to the tokens that attend to it, in shares of the attention it gets: R = relu(P s). So a
    token that draws everybody's attention gives each of them little.

    Returns (B, K, S). Unit: logit per score; >= 0; before the clip, R has the sum of s. What leaves all attention and
    the model's answer as they are, such as an offset or the scale of a head's keys or values, leaves the map.

    start: the first block whose scores count, from 0. spread: `shares`; `average`, GradToken's Abar, where a token
    collects from those it attends to; or `none`. clip: below 0 `after` tokens were spread, so that what speaks against
    the class takes from what is near it, or `before`.
    """
    for kind, name, type_ in (("spread", spread, Spread), ("clip", clip, Clip)):
        if name not in get_args(type_):
            raise UnknownName.among(kind, name, get_args(type_))
    check_choice(probe)
    s = scores_gained(probe, first_block(probe, start, 0)) * visible_content(probe)[:, None]
    s = s.clamp(min=0) if clip == "before" else s
    if probe.earlier and spread != "none":
        s = SPREADS[spread](probe, s)
    return s.clamp(min=0)


def scores_gained(probe: Probe, start: int) -> Tensor:
    """The sum over heads, blocks and the rows that are read of dy/dO, for content tokens. (B, K, S)"""
    run = probe.plain
    run.differentiate("Z", run.blocks[start:])

    def of_block(block: int) -> Tensor:
        read = readout(probe, block)[:, 0] > 0
        dZ = run.gradient("Z", block) * read[:, None, None, :, None]
        gain = gained(run.attention[block], run.value("v", block), dZ).sum(dim=2)
        return probe.layout.content(gain, gain.shape[2])

    return torch.stack([of_block(block) for block in run.blocks[start:]]).sum(dim=0)


def by_shares(probe: Probe, s: Tensor) -> Tensor:
    """P s with P = Abar over the patches and its columns divided by their sums, which keeps the sum of s. (B, K, S)"""
    blocks, total = probe.earlier, probe.earlier[0].shape[2]
    seen = visible_content(probe).to(s.dtype)
    content = widened(probe, seen, total)
    drawn = summed(probe, lambda A: average_rows(A, content), blocks)
    drawn = probe.layout.content(drawn, drawn.shape[1])[:, None]
    values = widened(probe, s / drawn.where(drawn > 0, 1), total).mT.contiguous()
    spread = summed(probe, lambda A: average(A, values), blocks)
    return probe.layout.content(spread.mT, total) * seen[:, None]


def by_average(probe: Probe, s: Tensor) -> Tensor:
    """Abar s, GradToken's propagation. (B, K, S)"""
    return average_matmul(probe, s[:, :, None], probe.earlier)[:, :, 0] * visible_content(probe)[:, None]


SPREADS = {"shares": by_shares, "average": by_average}
