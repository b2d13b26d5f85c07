"""Gradient methods on the balanced backward pass of Libra, written out naively: Mehri et al., arXiv:2411.16760.

Attention A and the standard deviation of norms are constant, an activation has the slope of its secant through 0; y is
the class probability after the softmax, or the logit. Letters as in `tests.reference.surgery`; content tokens are all
but the first. The methods: FullGrad, arXiv:1905.00780; AttCAT, NeurIPS 2022; generic attention, arXiv:2103.15679;
GradCAM on attention, arXiv:2012.09838, and on features, arXiv:1610.02391; Grad-ECLIP, arXiv:2502.18816; LeGrad,
arXiv:2404.03214; integrated gradients, arXiv:1703.01365, and at random points, arXiv:1906.10670; transition attention
maps, NeurIPS workshop on eXplainable AI 2021; Beyond Intuition, TMLR 2023.

Choices where the sources leave something open:
* every forward pass of a method is a balanced one, and each differentiates the same kind of score;
* LeGrad's score of a block's mean token is a probability where the others' are.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from tests.reference.lrp import Inputs, each, in_float64, is_text, samples
from tests.reference.surgery import (
    LIBRA,
    Pass,
    forward,
    gradients,
    head,
    path,
    read,
    score_of,
    times_gradient,
)

# ------------------------------------------------------------------------------------------ input and biases


def bias_terms(p: SimpleNamespace, y: Tensor) -> Tensor:
    """sum_b b db of every token that the bias b is added to. (N,)"""
    total = torch.zeros(p.A[0].shape[-1], dtype=y.dtype)
    for (b, start), db in zip(p.biases, gradients(y, [b for b, _ in p.biases]), strict=True):
        total[start : start + len(b)] += (b.detach() * db).sum(dim=-1)
    return total


def fullgrad_parts(net: nn.Module, x: Tensor, c: int, score: str) -> tuple[Tensor, Tensor]:
    """Input terms, in the shape of the input, and bias terms (N,)."""
    p = forward(net, x, LIBRA)
    y = score_of(p.logits, c, score)
    (dx,) = torch.autograd.grad(y, [p.input], retain_graph=True)
    return p.input.detach() * dx, bias_terms(p, y)


def fullgrad_terms(net: nn.Module, inputs: Inputs, target: Tensor, score: str = "logit") -> tuple[Tensor, Tensor]:
    """Sums of x dx and of b db; together the logit. (B, K) each"""
    net = in_float64(net)
    parts = [
        [fullgrad_parts(net, x, int(c), score) for c in classes]
        for (x, _), classes in zip(samples(net, inputs), target, strict=True)
    ]
    return tuple(torch.stack([torch.stack([part[i].sum() for part in row]) for row in parts]) for i in (0, 1))


def fullgrad(net: nn.Module, x: Tensor, c: int, score: str) -> Tensor:
    """Input terms summed over each patch or token, plus the bias terms of that token. (S,)"""
    term, biases = fullgrad_parts(net, x, c, score)
    if is_text(net):
        return term.sum(dim=-1)[1:] + biases[1:]
    height, width = net.patch_embed.proj.stride
    patches = term.unfold(1, height, height).unfold(2, width, width)  # (3, rows, columns, height, width)
    return patches.sum(dim=(0, 3, 4)).flatten() + biases[1:]


# ------------------------------------------------------------------------------------------ one pass


def taken(net: nn.Module, x: Tensor, c: int, score: str, nodes: str) -> tuple[SimpleNamespace, list[Tensor]]:
    """A balanced pass, and the gradients of y by one kind of nodes in every block."""
    p = forward(net, x, LIBRA)
    return p, gradients(score_of(p.logits, c, score), getattr(p, nodes))


def attcat(net: nn.Module, x: Tensor, c: int, score: str) -> Tensor:
    """sum_b abar_i sum_d (x dx)_id of the blocks' inputs, abar_i the mean over heads and queries of A_i. (S,)"""
    p, dx = taken(net, x, c, score, "x")
    received = [A.detach().mean(dim=(0, 1)) for A in p.A]
    return sum(a * (h.detach() * g).sum(dim=-1) for a, h, g in zip(received, p.x, dx, strict=True))[1:]


def generic_attention(net: nn.Module, x: Tensor, c: int, score: str) -> Tensor:
    """R <- R + mean_h (dA_h A_h)+ R from R = I, class token's row. (S,)"""
    p, dA = taken(net, x, c, score, "A")
    R = torch.eye(p.A[0].shape[-1], dtype=x.dtype)
    for A, g in zip(p.A, dA, strict=True):
        R = R + (A.detach() * g).clamp(min=0).mean(dim=0) @ R
    return R[0, 1:]


def gradcam(net: nn.Module, x: Tensor, c: int, score: str) -> Tensor:
    """(mean_h w_h A_h[0])+ of the last block, w_h the mean of dA_h[0] over patches, in a text of all dA_h. (S,)"""
    p, dA = taken(net, x, c, score, "A")
    w = dA[-1].mean(dim=(1, 2)) if is_text(net) else dA[-1][:, 0, 1:].mean(dim=1)
    return sum(w_h * A_h[0].detach() for w_h, A_h in zip(w, p.A[-1], strict=True)).clamp(min=0)[1:] / len(w)


def gradcam_features(net: nn.Module, x: Tensor, c: int, score: str) -> Tensor:
    """(sum_ch w_ch X_ch)+, X what the last block projects q, k and v from, w the mean of dX over content. (S,)"""
    p, dX = taken(net, x, c, score, "read")
    return (p.read[-1].detach() @ dX[-1][1:].mean(dim=0)).clamp(min=0)[1:]


def grad_eclip(net: nn.Module, x: Tensor, c: int, score: str) -> Tensor:
    """(lam_i sum_ch w_ch v_i,ch)+ of the last block, w = dy/dZ[0], lam the cosine of q[0] and k_i from 0 to 1. (S,)"""
    p, dZ = taken(net, x, c, score, "Z")
    q, k, v = (t.detach().transpose(0, 1).flatten(1) for t in p.heads[-1])  # (N, C)
    cosine = torch.stack([q[0] @ k_i / (q[0] @ q[0]).sqrt() / (k_i @ k_i).sqrt() for k_i in k])
    low, high = cosine[1:].min(), cosine[1:].max()
    return ((cosine - low) / (high - low) * (v @ dZ[-1][0])).clamp(min=0)[1:]


def legrad(net: nn.Module, x: Tensor, c: int, score: str) -> Tensor:
    """Sum over the last two blocks of mean_hi (dy_b/dA_hi)+, y_b of the head on the mean of all tokens. (S,)"""
    p = forward(net, x, LIBRA)
    R = 0
    for A, out in zip(p.A[-2:], p.out[-2:], strict=True):
        y = score_of(head(net, out.mean(dim=0, keepdim=True), Pass(LIBRA)), c, score)
        (dA,) = torch.autograd.grad(y, [A], retain_graph=True)
        R = R + dA.clamp(min=0).mean(dim=(0, 1))
    return R[1:]


# ------------------------------------------------------------------------------------------ several passes


def mean_gradient(net: nn.Module, x: Tensor, c: int, score: str, steps: int = 20) -> Tensor:
    """W = mean_h (mean_a dA_h[0])+ of the last block, a = 0, 1 / (steps - 1), ... 1 times the input. (S,)"""
    maps = [taken(net, i / (steps - 1) * x, c, score, "A")[1][-1] for i in range(steps)]
    return (sum(maps) / steps)[:, 0, 1:].clamp(min=0).mean(dim=0)


def transition_attention_maps(net: nn.Module, x: Tensor, c: int, score: str) -> Tensor:
    """The product s * W, s = A_L[0] (I + A_{L-1}) ... (I + A_4), blocks from 0, heads averaged. (S,)"""
    A = [a.detach().mean(dim=0) for a in forward(net, x, LIBRA).A]
    s = A[-1][0]
    for b in range(len(A) - 2, 3, -1):
        s = s + s @ A[b]
    return s[1:] * mean_gradient(net, x, c, score)


def beyond_intuition(net: nn.Module, x: Tensor, c: int, score: str) -> Tensor:
    """P * W, P the class token's row of (I + E_L) ... (I + E_3), E = sum_h I_h A_h, I_h ~ mean |A_h' dA_h|. (S,)"""
    p, dA = taken(net, x, c, score, "A")
    P = torch.eye(p.A[0].shape[-1], dtype=x.dtype)
    for A, g in list(zip(p.A, dA, strict=True))[3:]:
        I = (A.detach().transpose(1, 2) @ g).abs().mean(dim=(1, 2))
        P = P + torch.einsum("h,hij->ij", I / I.sum(), A.detach()) @ P
    return P[0, 1:] * mean_gradient(net, x, c, score)


def integrated_gradients(net: nn.Module, x: Tensor, c: int, score: str) -> Tensor:
    """Channel sum of x times the mean gradient from 0 to x in 50 steps, in the shape of `read`."""
    return read(net, path(net, x, c, 50, "zero", LIBRA, score))


def gradient_shap(net: nn.Module, x: Tensor, c: int, score: str) -> Tensor:
    """Channel sum of x times the mean gradient at 50 points a x, a drawn from [0, 1) after a seed of 0."""
    source, total = torch.Generator().manual_seed(0), 0
    for a in torch.rand(50, generator=source, dtype=torch.float64).tolist():
        p = forward(net, a * x, LIBRA)
        total = total + gradients(score_of(p.logits, c, score), [p.input])[0]
    return read(net, x * total / 50)


MAPS: dict[str, Callable[[nn.Module, Tensor, int, str], Tensor]] = {
    "attcat": attcat,
    "beyond_intuition": beyond_intuition,
    "fullgrad": fullgrad,
    "generic_attention": generic_attention,
    "grad_eclip": grad_eclip,
    "gradcam": gradcam,
    "gradcam_features": gradcam_features,
    "gradient_shap": gradient_shap,
    "input_x_gradient": lambda net, x, c, score: times_gradient(LIBRA, score)(net, x, c),
    "integrated_gradients": integrated_gradients,
    "legrad": legrad,
    "transition_attention_maps": transition_attention_maps,
}


def libra(
    net: nn.Module, inputs: Inputs, target: Tensor, of: str = "input_x_gradient", score: str = "probability"
) -> Tensor:
    """A gradient method with A and the std constant and GELU a secant: pixels (B, K, height, width) or (B, K, S)."""
    return each(net, inputs, target, lambda net, x, c: MAPS[of](net, x, c, score))


REFERENCES: dict[str, Any] = {"libra": libra}
