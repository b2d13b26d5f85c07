"""Methods that read gradients of features, or of a score that is not the logit, written out naively in float64.

Conventions and letters as in `tests.reference.attention`; h, X (N, C) are hidden states, q, k, v, Z (N, C) have their
heads side by side, w is a gradient.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.reference.models import (
    Inputs,
    blocks,
    forward,
    gradient,
    head,
    is_bert,
    one_by_one,
    prefix,
    read,
    samples,
    weights,
)


@one_by_one
def gradcam_features(net: nn.Module, x: Inputs, c: int) -> Tensor:
    """R = (sum_ch w_ch X_ch)^+, X what the last attention reads, w_ch = mean of dX over content tokens. 1610.02391."""
    trace = forward(net, x)
    X = trace.all("norm")[-1]
    (dX,) = gradient(trace.logits[0, c], [X])
    w = dX[prefix(net) :].mean(dim=0)
    return (X[0] * w).sum(dim=1).clamp(min=0)


def attcat_terms(net: nn.Module, x: Inputs, c: int) -> list[tuple[Tensor, Tensor]]:
    """Of each block: abar_i = mean_h mean_q A[h, q, i], CAT_i = sum_d (dh * h)_id, h the block's input. (N,), (N,)"""
    trace = forward(net, x)
    h = trace.all("x")
    dh = gradient(trace.logits[0, c], h)
    A = trace.all("A")
    return [(A[b][0].mean(dim=(0, 1)), (dh[b] * h[b][0]).sum(dim=1)) for b in range(len(h))]


@one_by_one
def attcat(net: nn.Module, x: Inputs, c: int) -> Tensor:
    """R = sum_b abar^b * CAT^b. Signed. Qiang et al. 2022 (AttCAT)."""
    return sum(abar * cat for abar, cat in attcat_terms(net, x, c))


def projected_branch(net: nn.Module, x: Inputs, block: int) -> tuple[Tensor, Tensor]:
    """Projection e = head(norm(branch)) (K,) of the attention branch before the residual, and its A (1, H, N, N)."""
    trace = forward(net, x)
    return head(net, trace.at["branch", block])[0], trace.at["A", block]


@one_by_one
def class_embedding_projection(net: nn.Module, x: Inputs, c: int, gradient: str = "cross_entropy") -> Tensor:
    """R_j = - sum_b sum_h d loss_b / dA^(b)[h, 0, j]; higher = more important. arXiv:2310.18969.

    cross_entropy: loss_b = -log softmax(softmax(e))_c, soft-maxed twice as published. logit: loss_b = -e_c.
    """
    assert gradient in ("cross_entropy", "logit")
    R = 0
    for b in range(len(blocks(net))):
        e, A = projected_branch(net, x, b)
        loss = -torch.log_softmax(torch.softmax(e, dim=0), dim=0)[c] if gradient == "cross_entropy" else -e[c]
        (dA,) = torch.autograd.grad(loss, A)
        R = R - read(net, dA[0].sum(dim=0))
    return R


def class_identifiability(net: nn.Module, inputs: Inputs, target: Tensor) -> Tensor:
    """1 - pos / classes, pos (0 = first) the rank of the class among the logits of head(norm(token)). (B, K, L, N)

    All N tokens of every block's output, the class token included; padded ones 0. arXiv:2310.18969.
    """
    net = weights(net)
    maps = []
    for x, classes in zip(samples(inputs), target, strict=True):
        out = forward(net, x).all("out")
        e = torch.stack([torch.cat([head(net, h[:, j : j + 1]) for j in range(h.shape[1])]) for h in out])  # (L, N, K)
        pos = [(e > e[..., c, None]).sum(dim=-1).double() for c in classes.tolist()]
        maps.append(torch.stack([1 - p / e.shape[-1] for p in pos]))
    width = max(m.shape[-1] for m in maps)
    return torch.stack([F.pad(m, (0, width - m.shape[-1])) for m in maps])


def probability(net: nn.Module, x: Inputs, c: int, layer: int, alpha: float) -> tuple[Tensor, Tensor]:
    """Probability F = softmax(y)_c with A of the layer replaced by alpha A, and the replacement (1, H, N, N)."""
    trace = forward(net, x, lambda n, b, t: alpha * t if (n, b) == ("A", layer) else t)
    return torch.softmax(trace.logits[0], dim=0)[c], trace.at["A", layer]


def layer_attribution(net: nn.Module, x: Inputs, c: int, layer: int, steps: int = 20) -> Tensor:
    """Attr = A * (1/m) sum_{k=0}^{m-1} dF(k/m A) / dA, all heads scaled together. (H, N, N)"""
    A, total = forward(net, x).at["A", layer][0].detach(), 0
    for k in range(steps):
        F_k, A_k = probability(net, x, c, layer, k / steps)
        total = total + gradient(F_k, [A_k])[0]
    return A * total / steps


@one_by_one
def self_attention_attribution(net: nn.Module, x: Inputs, c: int, steps: int = 20) -> Tensor:
    """R = sum over layers of sum_h Attr[h, 0]. Signed. arXiv:2004.11207."""
    return sum(read(net, layer_attribution(net, x, c, b, steps).sum(dim=0)) for b in range(len(blocks(net))))


def legrad_block(net: nn.Module, x: Inputs, c: int, block: int) -> Tensor:
    """E = mean_h mean_i (d s / dA[h, i])^+, s = head(norm(mean of all tokens of the block's output))_c. (N,)"""
    trace = forward(net, x)
    s = head(net, trace.at["out", block].mean(dim=1, keepdim=True))[0, c]
    (g,) = gradient(s, [trace.at["A", block]])
    return g.clamp(min=0).mean(dim=(0, 1))


@one_by_one
def legrad(net: nn.Module, x: Inputs, c: int, layers: int | str = 2) -> Tensor:
    """R = sum of E over the last `layers` blocks or over "all". arXiv:2404.03214."""
    L = len(blocks(net))
    return sum(legrad_block(net, x, c, b) for b in range(0 if layers == "all" else L - layers, L))


def joined(t: Tensor) -> Tensor:
    """(1, H, N, D) -> (N, H D), the heads side by side."""
    return t[0].transpose(0, 1).flatten(1)


def eclip_parts(net: nn.Module, x: Inputs, c: int, official: bool) -> dict[str, Tensor]:
    """q, k, v, Z (N, C) of the last block, A (H, N, N) that made Z, and w = dy / dZ summed over query rows (C,).

    official: the attention of the last block is computed with one head of width C, scaled by 1 / sqrt(D).
    """
    last, kept = len(blocks(net)) - 1, {}

    def swap(name: str, block: int, t: Tensor) -> Tensor:
        if block != last or name not in ("q", "k", "v", "A", "Z"):
            return t
        kept[name] = t
        if name != "Z" or not official:
            return t
        D = kept["q"].shape[-1]
        q, k, v = (joined(kept[n]) for n in "qkv")
        kept["A"] = torch.softmax(q @ k.T / D**0.5, dim=-1)[None, None]
        kept["Z"] = (kept["A"][0, 0] @ v)[None]
        return kept["Z"]

    y = forward(net, x, swap).logits[0, c]
    (dZ,) = gradient(y, [kept["Z"]])
    parts = {n: joined(kept[n]) for n in "qkv"}
    return {**parts, "A": kept["A"][0], "Z": kept["Z"][0], "w": dZ.sum(dim=0)}


def key_similarity(net: nn.Module, q: Tensor, k: Tensor) -> Tensor:
    """lam_i = cos(q_cls, k_i), min-max over content tokens. (N, C) -> (N,)

    With mean pooling q_cls is the mean of the pooled queries. The prefix tokens have lam = 0: they are not in the map.
    """
    P = prefix(net)
    q_cls = q[0] if is_bert(net) or net.global_pool == "token" else q[P:].mean(dim=0)
    cos = torch.stack([q_cls @ k_i / (q_cls.norm() * k_i.norm()) for k_i in k[P:]])
    lam = (cos - cos.min()) / (cos.max() - cos.min())
    return torch.cat([lam.new_zeros(P), lam])


@one_by_one
def grad_eclip(net: nn.Module, x: Inputs, c: int, official: bool = False) -> Tensor:
    """R_i = (sum_ch w_ch lam_i v_i,ch)^+ in the last block. arXiv:2502.18816."""
    p = eclip_parts(net, x, c, official)
    return (key_similarity(net, p["q"], p["k"]) * (p["v"] @ p["w"])).clamp(min=0)


REFERENCES = {
    "attcat": attcat,
    "class_embedding_projection": class_embedding_projection,
    "grad_eclip": grad_eclip,
    "gradcam_features": gradcam_features,
    "legrad": legrad,
    "self_attention_attribution": self_attention_attribution,
}
