"""Transition attention maps: Yuan, Li, Xiong, Cao, Dou, Explaining Information Flow Inside Vision Transformers Using
Markov Chain, NeurIPS workshop on eXplainable AI 2021.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from gradtoken.attention import average_rows
from gradtoken.errors import BadTarget
from gradtoken.inputs import repeated
from gradtoken.methods import METHODS
from gradtoken.passes import micro_batches
from gradtoken.probe import Probe
from gradtoken.readout import collected, content, descend, first_block, readout
from gradtoken.run import Run


@METHODS.add(
    paper="https://openreview.net/forum?id=TT-cf6QSDaQ",
    formula="R = s * W, s = row of A_L (I + A_{L-1}) ... (I + A_start), W = row of mean_h relu(mean_a dy(a x)/dA_L)",
    cost="1 F + steps (F + K B)",
    needs=("plain", "last"),
    trial=lambda probe: transition_attention_maps(probe, steps=1),
    differs="the authors' script for deletion and insertion uses all blocks: start=0",
)
def transition_attention_maps(
    probe: Probe, *, steps: int = 20, start: int | None = None, integral: bool = True, first_state: bool = False
) -> Tensor:
    """States of a Markov chain down the blocks, times the averaged positive gradient of the last attention: s * W.

    Returns (B, K, S). Unit: logit; >= 0; not conserved. Gradients are averaged over `steps` inputs a * x, a = 0 ... 1
    with both ends (x: the picture, or the embeddings of a text). start: the first block used, by default 4.
    integral=False: the gradient at x alone. first_state=True: no blocks but the last. For a mean of tokens, s and W are
    means of the rows of its tokens, in W clipped before.
    """
    first = len(probe.attention) - 1 if first_state else first_block(probe, start, 4)
    W = positive_gradient(probe, steps if integral else None)
    return content(probe, states(probe, first)) * content(probe, W)


def states(probe: Probe, start: int) -> Tensor:
    """States s = A_L[readout] (I + A_{L-1}) ... (I + A_start). (B, 1, N)"""

    def step(block: int, row: Tensor) -> Tensor:
        A = probe.attention[block]
        collection = average_rows(A, row[:, 0])[:, None]
        return row + collection if block < len(probe.attention) - 1 else collection

    return descend(probe, step, start)


def positive_gradient(probe: Probe, steps: int | None) -> Tensor:
    """The readout's row of W = mean_h relu(mean over runs of dA), last block; None: the plain run. (B, K, M)"""
    block = len(probe.attention) - 1
    runs = [probe.plain] if steps is None else scaled_runs(probe, path(probe, steps))
    found = [(run.gradient("Z", block), run.value("v", block)) for run in runs]
    dZ, v = (torch.cat([beside(x, probe.batch) for x in parts], dim=-1) for parts in zip(*found, strict=True))

    def E(i: int, j: int) -> Tensor:  # one product sums over channels and runs
        return (dZ[..., i:j, :] @ v[:, None].mT / (steps or 1)).clamp(min=0).mean(dim=2)

    return collected(probe.last, readout(probe), E)


def beside(x: Tensor, batch: int) -> Tensor:
    """Repeats of the batch, side by side in the last axis. (m * B, ..., D) -> (B, ..., m * D)"""
    return torch.cat(torch.split(x, batch), dim=-1)


def path(probe: Probe, steps: int) -> Tensor:
    """Factors 0 ... 1, both ends included. Raises BadTarget for none."""
    if steps < 1:
        raise BadTarget(f"expected at least 1 step, got {steps}")
    return torch.linspace(0, 1, steps, dtype=probe.dq.dtype, device=probe.dq.device)


def scaled_runs(probe: Probe, factors: Tensor) -> Iterator[Run]:
    """The batch repeated, its pictures or embeddings multiplied by each factor."""
    for part in micro_batches(probe, len(factors), graph=True):
        yield probe.run(**scaled(probe, factors[part.start : part.stop]))


def scaled(probe: Probe, factors: Tensor) -> dict[str, Any]:
    """How to run the batch once for each factor."""
    each = factors.repeat_interleave(probe.batch)
    if probe.picture is not None:
        return {"inputs": probe.pictured(times(probe.picture.repeat(len(factors), 1, 1, 1), each))}
    return {"inputs": repeated(probe.inputs, len(factors)), "edits": {("x", 0): lambda x: times(x, each)}}


def times(x: Tensor, factors: Tensor) -> Tensor:
    """X (m, ...) with each entry multiplied by its factor (m)."""
    return x * factors.to(x).reshape(-1, *(1,) * (x.ndim - 1))
