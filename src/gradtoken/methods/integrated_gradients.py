"""Integrated gradients: Sundararajan, Taly, Yan, ICML 2017; computed by captum."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gradtoken.along import explained, fitted, summed
from gradtoken.errors import BadTarget, MissingExtra
from gradtoken.methods import METHODS
from gradtoken.passes import at_once
from gradtoken.probe import Probe
from gradtoken.progress import track
from gradtoken.state import untouched

Baseline = float | Tensor | Mapping[str, Any] | tuple[Any, ...]


@METHODS.add(
    paper="https://arxiv.org/abs/1703.01365",
    formula="R = sum over channels of (x - x0) * mean of dy/dx on the line from x0 to x",
    cost="1 F + K steps (F + B)",
    trial={"steps": 1},
    differs="for a text the paper takes zero embeddings as baseline; here 0 stands for zero tokens at the input of the "
    "first block, after positions and norm. The paper shows magnitudes; here the sign is kept. The mean is "
    "taken by Gauss-Legendre quadrature, as in captum, where the paper takes equal steps",
)
def integrated_gradients(probe: Probe, *, steps: int = 50, baseline: Baseline = 0.0) -> Tensor:
    """Gradients of the score on the way from a baseline to the input, times the way, summed over channels.

    Returns (B, K, H, W), for a text (B, K, S). Unit: logit, signed; sums to y(x) - y(x0) over all pixels or tokens, up
    to `completeness_gap`. Padding is exactly 0.

    steps: points of the quadrature on the way. baseline: x0, a number or a tensor that fits the pictures as the network
    reads them: 0 is mid grey, or the mean colour of its training pictures. For a text, one that fits the tokens that
    enter the first block, or other inputs of the same shape, such as padding, whose tokens are taken.
    """
    return summed(probe, integrated(probe, steps, baseline))


def completeness_gap(probe: Probe, *, steps: int = 50, baseline: Baseline = 0.0) -> Tensor:
    """What integrated gradients leave unexplained: y(x) - y(x0) - sum R, the error of the quadrature. (B, K)"""
    x, scores = explained(probe)
    with torch.no_grad():
        change = scores(x) - scores(start_of(probe, baseline, x))
    return change - integrated(probe, steps, baseline).flatten(2).sum(dim=2)


def integrated(probe: Probe, steps: int, baseline: Baseline) -> Tensor:
    """(x - x0) * mean gradient, before channels are summed. (B, K, C, H, W) or (B, K, N, C)"""
    try:
        from captum.attr import IntegratedGradients
    except ImportError:
        raise MissingExtra.of("captum", "captum") from None
    if steps < 1:
        raise BadTarget(f"expected at least 1 step, got {steps}")
    with untouched(probe.net, []):
        x, scores = explained(probe)
        x0 = start_of(probe, baseline, x)
        how = {"n_steps": steps, "internal_batch_size": probe.batch * at_once(probe, graph=True)}
        maps = [
            IntegratedGradients(lambda z, k=k: scores(z)[:, k]).attribute(x, x0, **how)
            for k in track(range(probe.scores.shape[1]), "integrated gradients")
        ]
    return torch.stack(maps, dim=1)


def start_of(probe: Probe, baseline: Baseline, x: Tensor) -> Tensor:
    """x0, in the shape of x."""
    if isinstance(baseline, Mapping | tuple):
        if probe.picture is not None:
            raise BadTarget("expected a number or a picture as baseline; other inputs are one for texts alone")
        baseline = probe.run(inputs=baseline, graph=False).value("x", probe.residual[0])
    return fitted(baseline, x)
