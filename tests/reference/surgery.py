"""Gradients through a modified backward pass, written out naively: AttnLRP, CP-LRP, and the plain gradient.

AttnLRP: Achtibat et al., arXiv:2402.05602. CP-LRP: Ali et al., arXiv:2202.07304. Gamma rule with its four combinations
of signs: Andeol et al., arXiv:2106.04923. Integrated gradients: Sundararajan et al., arXiv:1703.01365. The methods of
Libra, which differentiate in the same way, are in `tests.reference.libra`.

The forward pass is written once for each model; `Surgery` says which factors are held constant in it.
Letters: N tokens, the class token first; C channels; H heads of width D; S = N - 1 content tokens; y the explained
score.

Choices where the sources leave something open:
* a text's input is the encoder's input, after the norm of the embeddings; its [CLS] is dropped, its [SEP] stays;
* the tanh of a text's pooler is a secant wherever GELU is;
* the gamma rule takes every Linear (q, k, v, both of the MLP, pooler, head) and the bias as one more input of value 1;
  it has no stabiliser, so that gamma = 0 is the gradient itself;
* integrated gradients go straight from the baseline to the input; a text's baseline is zero unless "pad" is asked for,
  the encoder's input where every token is [PAD].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.reference.lrp import Inputs, each, in_float64, is_text, merge, samples, split

Affine = Callable[[Tensor, Tensor, Tensor], Tensor]  # (x, W, b) -> x W^T + b


@dataclass(frozen=True)
class Surgery:
    """What is held constant; the defaults change nothing."""

    norm: bool = False  # the standard deviation, not the mean
    activation: str = "plain"  # "secant": f(x) / (x + 1e-10), "exact": f(x) / x
    attention: str = "plain"  # "constant": A, "divided": nothing, but gradients of q, k / 4, of v / 2
    gamma_linear: float = 0.0
    gamma_conv: float = 0.0


PLAIN = Surgery()
ATTN_LRP = Surgery(norm=True, activation="secant", attention="divided")
CP_LRP = Surgery(norm=True, activation="secant", attention="constant")
LIBRA = Surgery(norm=True, activation="exact", attention="constant")


# ------------------------------------------------------------------------------------------ operations


def standardise(x: Tensor, eps: float, constant: bool) -> Tensor:
    """(x - mean) / std"""
    std = (x.var(dim=-1, keepdim=True, unbiased=False) + eps).sqrt()
    return (x - x.mean(dim=-1, keepdim=True)) / (std.detach() if constant else std)


def activate(f: Callable[[Tensor], Tensor], x: Tensor, how: str) -> Tensor:
    """f(x), or x times the slope of the line from the origin to (x, f(x))."""
    if how == "plain":
        return f(x)
    if how == "secant":
        return x * (f(x) / (x + 1e-10)).detach()
    slope = torch.erf(x / 2**0.5) / 2 + 0.5 if f is F.gelu else f(x) / x
    return x * slope.detach()


def divided(x: Tensor, by: float) -> Tensor:
    """x, with its gradient divided."""
    return x / by + (x - x / by).detach()


def gamma_rule(affine: Affine, x: Tensor, W: Tensor, b: Tensor, gamma: float) -> Tensor:
    """Value z = affine(x, W, b), gradient x_i g_i = sum_j (x_i w_ij)' / (sum_i' (x_i' w_i'j)' + b_j') z_j g_j.

    (x w)' = x w + gamma (x w)+ where z_j > 0 and x w + gamma (x w)- where z_j < 0, which written for x+ and x- is
    x+ (w + gamma w+) + x- (w + gamma w-), and with w+ and w- exchanged; b' = b + gamma b+ or b + gamma b-.
    """
    z = affine(x, W, b)
    if gamma == 0:
        return z
    up, down = (lambda t: t + gamma * t.clamp(min=0)), (lambda t: t + gamma * t.clamp(max=0))
    zero, x1, x2 = torch.zeros_like(b), x.clamp(min=0), x.clamp(max=0)
    positive = affine(x1, up(W), up(b)) + affine(x2, down(W), zero)
    negative = affine(x1, down(W), down(b)) + affine(x2, up(W), zero)
    line = torch.where(z > 0, positive, negative)
    line_or_one = torch.where(z == 0, torch.ones_like(line), line)
    return line * (z / line_or_one).detach()


# ------------------------------------------------------------------------------------------ forward


class Pass:
    """One forward pass; `biases` lists (bias spread over its tokens as a leaf, number of the first of these tokens)."""

    def __init__(self, how: Surgery) -> None:
        self.how = how
        self.x: list[Tensor] = []  # input of every block (N, C)
        self.read: list[Tensor] = []  # what q, k and v are projected from (N, C)
        self.heads: list[tuple[Tensor, ...]] = []  # q, k, v (H, N, D)
        self.A: list[Tensor] = []  # (H, N, N)
        self.Z: list[Tensor] = []  # A v, heads side by side (N, C)
        self.out: list[Tensor] = []  # output of every block (N, C)
        self.biases: list[tuple[Tensor, int]] = []

    def bias(self, b: Tensor, like: Tensor, first: int = 0) -> Tensor:
        leaf = b.expand(like.shape).clone().requires_grad_()
        self.biases.append((leaf, first))
        return leaf

    def linear(self, x: Tensor, m: nn.Linear) -> Tensor:
        """For x (n, C); n may be 1."""
        if self.how.gamma_linear:
            return gamma_rule(F.linear, x, m.weight, m.bias, self.how.gamma_linear)
        out = x @ m.weight.T
        return out + self.bias(m.bias, out)

    def patches(self, picture: Tensor, m: nn.Conv2d) -> Tensor:
        """(S, C)"""

        def affine(x: Tensor, W: Tensor, b: Tensor) -> Tensor:
            return F.conv2d(x[None], W, b, stride=m.stride)[0].flatten(1).T

        if self.how.gamma_conv:
            return gamma_rule(affine, picture, m.weight, m.bias, self.how.gamma_conv)
        out = affine(picture, m.weight, torch.zeros_like(m.bias))
        return out + self.bias(m.bias, out, first=1)

    def norm(self, x: Tensor, m: nn.LayerNorm) -> Tensor:
        out = standardise(x, m.eps, self.how.norm) * m.weight
        return out + self.bias(m.bias, out)

    def activation(self, f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        return activate(f, x, self.how.activation)

    def attention(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Joined heads (N, C) from q, k, v (H, N, D)."""
        self.heads.append((q, k, v))
        if self.how.attention == "divided":
            q, k, v = divided(q, 4), divided(k, 4), divided(v, 2)
        A = torch.softmax(q @ k.transpose(1, 2) / q.shape[-1] ** 0.5, dim=-1)
        if self.how.attention == "constant":
            A = A.detach().requires_grad_()
        self.A.append(A)
        self.Z.append(merge(A @ v))
        return self.Z[-1]


def vit_logits(net: nn.Module, picture: Tensor, p: Pass) -> Tensor:
    """Logits (classes,) of a timm VisionTransformer for (3, height, width)."""
    patches = p.patches(picture, net.patch_embed.proj)
    x = torch.cat([p.bias(net.cls_token[0], patches[:1]), patches])
    x = x + p.bias(net.pos_embed[0], x)
    for block in net.blocks:
        p.x.append(x)
        p.read.append(p.norm(x, block.norm1))
        qkv = p.linear(p.read[-1], block.attn.qkv)
        x = x + p.linear(p.attention(*(split(u, block.attn.num_heads) for u in qkv.chunk(3, dim=-1))), block.attn.proj)
        g = p.activation(F.gelu, p.linear(p.norm(x, block.norm2), block.mlp.fc1))
        x = x + p.linear(g, block.mlp.fc2)
        p.out.append(x)
    return head(net, x, p)


def bert_logits(net: nn.Module, x: Tensor, p: Pass) -> Tensor:
    """Logits (classes,) of a BertForSequenceClassification from the encoder's input (N, C)."""
    for layer in net.bert.encoder.layer:
        p.x.append(x)
        p.read.append(x)
        own, out = layer.attention.self, layer.attention.output
        qkv = (split(p.linear(x, m), own.num_attention_heads) for m in (own.query, own.key, own.value))
        a = p.norm(p.linear(p.attention(*qkv), out.dense) + x, out.LayerNorm)
        g = p.activation(F.gelu, p.linear(a, layer.intermediate.dense))
        x = p.norm(p.linear(g, layer.output.dense) + a, layer.output.LayerNorm)
        p.out.append(x)
    return head(net, x, p)


def head(net: nn.Module, x: Tensor, p: Pass) -> Tensor:
    """Logits (classes,) of the first token of x (N, C)."""
    if is_text(net):
        return p.linear(p.activation(torch.tanh, p.linear(x[:1], net.bert.pooler.dense)), net.classifier)[0]
    return p.linear(p.norm(x, net.norm)[:1], net.head)[0]


def forward(net: nn.Module, x: Tensor, how: Surgery) -> SimpleNamespace:
    """The input as a leaf, logits and what `Pass` lists, all nodes of one graph."""
    p = Pass(how)
    leaf = x.clone().requires_grad_()
    logits = (bert_logits if is_text(net) else vit_logits)(net, leaf, p)
    return SimpleNamespace(input=leaf, logits=logits, **vars(p))


def score_of(logits: Tensor, c: int, score: str) -> Tensor:
    return (logits.softmax(dim=-1) if score == "probability" else logits)[c]


def gradients(y: Tensor, nodes: list[Tensor]) -> list[Tensor]:
    """Gradient of y at each node; 0 where y does not depend on it."""
    return list(torch.autograd.grad(y, nodes, allow_unused=True, materialize_grads=True))


# ------------------------------------------------------------------------------------------ input times gradient


def read(net: nn.Module, relevance: Tensor) -> Tensor:
    """Channel sum: of a picture (height, width), of a text (N - 1,) without its [CLS]."""
    return relevance.sum(dim=-1)[1:] if is_text(net) else relevance.sum(dim=0)


def times_gradient(how: Surgery, score: str = "logit") -> Callable[[nn.Module, Tensor, int], Tensor]:
    def one(net: nn.Module, x: Tensor, c: int) -> Tensor:
        p = forward(net, x, how)
        (dx,) = gradients(score_of(p.logits, c, score), [p.input])
        return read(net, p.input.detach() * dx)

    return one


def input_x_gradient(net: nn.Module, inputs: Inputs, target: Tensor, score: str = "logit") -> Tensor:
    """Channel sum of x dy/dx, signed. (B, K, height, width), text (B, K, N - 1)"""
    return each(net, inputs, target, times_gradient(PLAIN, score))


def attn_lrp(net: nn.Module, inputs: Inputs, target: Tensor) -> Tensor:
    """Logit's x dy/dx, signed: std constant, secants, gradients of q and k / 4, of v / 2. Shapes as above."""
    return each(net, inputs, target, times_gradient(ATTN_LRP))


def cp_lrp(
    net: nn.Module, inputs: Inputs, target: Tensor, gamma_linear: float = 0.0, gamma_conv: float = 0.0
) -> Tensor:
    """Logit's x dy/dx, signed: std and A constant, secants, gamma rule where asked for. Shapes as above."""
    how = Surgery(CP_LRP.norm, CP_LRP.activation, CP_LRP.attention, gamma_linear, gamma_conv)
    return each(net, inputs, target, times_gradient(how))


# ------------------------------------------------------------------------------------------ integrated gradients


def baseline_of(net: nn.Module, x: Tensor, baseline: str) -> Tensor:
    """Zero, or the encoder's input of as many [PAD]."""
    if baseline == "zero":
        return torch.zeros_like(x)
    return net.bert.embeddings(input_ids=torch.full((1, len(x)), net.config.pad_token_id))[0].detach()


def path(
    net: nn.Module, x: Tensor, c: int, steps: int, baseline: str, how: Surgery = PLAIN, score: str = "logit"
) -> Tensor:
    """(x - x0) times the Gauss-Legendre mean of dy/dx from x0 to x, in the shape of x."""
    x0 = baseline_of(net, x, baseline)
    total = torch.zeros_like(x)
    for node, weight in zip(*np.polynomial.legendre.leggauss(steps), strict=True):  # for [-1, 1]
        p = forward(net, x0 + (1 + node) / 2 * (x - x0), how)
        total = total + weight / 2 * gradients(score_of(p.logits, c, score), [p.input])[0]
    return (x - x0) * total


def integrated_gradients(
    net: nn.Module, inputs: Inputs, target: Tensor, steps: int = 50, baseline: str = "zero"
) -> Tensor:
    """Channel sum of the integrated gradients, signed. (B, K, height, width), text (B, K, N - 1)"""
    return each(net, inputs, target, lambda net, x, c: read(net, path(net, x, c, steps, baseline)))


def completeness_gap(net: nn.Module, inputs: Inputs, target: Tensor, steps: int = 50, baseline: str = "zero") -> Tensor:
    """y(x) - y(x0) - sum of the integrated gradients, [CLS] included. (B, K)"""
    net = in_float64(net)
    rows = []
    for (x, _), classes in zip(samples(net, inputs), target, strict=True):
        x0 = baseline_of(net, x, baseline)
        y = (forward(net, x, PLAIN).logits - forward(net, x0, PLAIN).logits).detach()
        rows.append(torch.stack([y[c] - path(net, x, int(c), steps, baseline).sum() for c in classes]))
    return torch.stack(rows)


REFERENCES: dict[str, Any] = {
    "attn_lrp": attn_lrp,
    "cp_lrp": cp_lrp,
    "input_x_gradient": input_x_gradient,
    "integrated_gradients": integrated_gradients,
}
