"""Grad-ECLIP: Zhao, Wang, Zeng, Zhao, Chan, ICML 2024 and arXiv 2502.18816."""

import torch
import torch.nn.functional as F
from torch import Tensor

from gradtoken.attention import Attention, average
from gradtoken.methods import METHODS
from gradtoken.probe import Probe
from gradtoken.readout import content, readout
from gradtoken.run import Run, heads_in


@METHODS.add(
    paper="https://arxiv.org/abs/2502.18816",
    formula="R_i = relu(lam_i sum_c w_c v_ic), w = dy/dz, z = (A v)[readout], lam_i = minmax cos(q, k_i), last block",
    cost="1 F + K B",
    needs=("plain", "last"),
    differs="the authors' code recomputes the last attention with one head of the width of all: official=True, the "
    "form of their notebook for ViT",
)
def grad_eclip(probe: Probe, *, official: bool = False, similarity: bool = True) -> Tensor:
    """Values of the last block, weighted by the gradient of what attention makes of them and by a loose attention.

    Returns (B, K, S). Unit: logit; >= 0; not conserved. Of pooled tokens the mean query is read, and the gradient by a
    change of all of them, its sum. official: attention with one head, its scores divided by the root of one head's
    width as in the authors' code for ViT. similarity=False: without the loose attention, lam = 1.
    """
    block = len(probe.attention) - 1
    run = one_head(probe) if official else probe.plain
    w = run.gradient("Z", block).sum(dim=3)  # (B, K, H, D)
    R = torch.einsum("bkhd,bhid->bki", w, probe.plain.value("v", block))
    return content(probe, R * loose_attention(probe)[:, None] if similarity else R).clamp(min=0)


def loose_attention(probe: Probe) -> Tensor:
    """Lam: cosine of the query and each key, all heads side by side, from 0 to 1 over content. (B, M)"""
    q, k = (x.transpose(1, 2).flatten(2).to(probe.dq.dtype) for x in (probe.last.q, probe.last.k))  # (B, N, C)
    cosine = F.cosine_similarity(readout(probe) @ q, k, dim=-1)
    of_content, seen = (probe.layout.content(x, k.shape[1]) for x in (cosine, probe.reachable))
    low = of_content.masked_fill(~seen, torch.inf).amin(dim=-1, keepdim=True)
    high = of_content.masked_fill(~seen, -torch.inf).amax(dim=-1, keepdim=True)
    return (cosine - low) / (high - low).where(high > low, 1)


def one_head(probe: Probe) -> Run:
    """A pass in which the last attention has one head as wide as all of them, and the same keys are hidden."""
    last, block = probe.last, len(probe.attention) - 1
    v = probe.plain.value("v", block)
    q, k, V = (x.transpose(1, 2).flatten(2).to(v.dtype) for x in (last.q, last.k, v))
    wide = Attention(q[:, None], k[:, None], last.q.shape[3] ** -0.5, probe.reachable[:, None, None], last.causal)
    z = average(wide, V).reshape(*q.shape[:2], *v.shape[1::2]).transpose(1, 2)

    def exchanged(Z: Tensor) -> Tensor:
        view = heads_in(Z, v.shape[0], v.shape[1])
        return view.back(z.to(Z.dtype)).requires_grad_()

    return probe.run(edits={("Z", block): exchanged})
