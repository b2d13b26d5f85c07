"""Halo: generic attention, each token's relevance dealt out to the tokens that attend to it."""

from torch import Tensor

from gradtoken.methods import METHODS
from gradtoken.methods.gaze import by_shares
from gradtoken.methods.generic_attention import generic_attention
from gradtoken.probe import Probe


@METHODS.add(
    paper="https://arxiv.org/abs/2103.15679",
    formula="R = P g, g of generic_attention, P = Abar with columns of sum 1",
    cost="1 F + K B",
    needs=("plain", "last"),
    differs="the paper's map is g; spreading it is this package's own, with GradToken's Abar, its columns of sum 1",
)
def halo(probe: Probe, *, start: int = 0) -> Tensor:
    """Generic attention spread over what attends to it: R = P g, the sum of g kept.

    Returns (B, K, S). Unit: none; >= 0; not conserved. Says where evidence lies, and little of which class it is for.
    start: the first block of generic attention, counted from 0; P has all blocks but the last.
    """
    g = generic_attention(probe, start=start)
    return by_shares(probe, g) if probe.earlier else g
