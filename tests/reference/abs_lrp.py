"""Relative absolute magnitude propagation (absLRP), written out naively for a timm VisionTransformer and for BERT.

Vukadin et al., arXiv:2412.09311, with the quirks of the published code: every module is wrapped alone, dropouts of
probability 0 included, and every argument's relevance is scaled to sum|R| = 1.

Letters: N tokens, the class token first; C channels; H heads of width D; R a relevance, in the shape of its tensor.

Choices where the sources leave something open:
* the twin of the softmax takes maximum and denominator of |x|, as the twin of LayerNorm takes mean and variance of |x|;
* q k^T / sqrt(D) is one module of two arguments, q before the scale;
* selecting the class token is a module like any other: twice the positive entries, none of the negative ones;
* the copies of a residual stream are summed without scaling; the next module scales;
* BERT, which the paper does not have: modules as above in its own order, with the dropouts of attention, of both
  branches and of the pooled token; q, k and v are three Linears whose shares are summed; the tanh of the pooler is a
  module; the input is the encoder's, after the norm of the embeddings and their dropout; padding is cut off before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.reference.lrp import Inputs, each, is_text, merge, split

EPS = 1e-9


def scaled(R: Tensor) -> Tensor:
    """R / (sum|R| + 1e-9) of one sample's argument."""
    return R / (R.abs().sum() + EPS)


def module(f: Callable[..., Tensor], twin: Callable[..., Tensor], *x: Tensor, R: Tensor) -> list[Tensor]:
    """For each argument x d<f(x) + twin(x), R / (|f(x)| + 1e-9)>/dx, scaled; the twin takes |x| by itself."""
    x = [a.detach().requires_grad_() for a in x]
    with torch.enable_grad():
        y = f(*x)
        weight = (R / (y.abs() + EPS)).detach()
        gradients = torch.autograd.grad(((y + twin(*x)) * weight).sum(), x)
    return [scaled((a * g).detach()) for a, g in zip(x, gradients, strict=True)]


# ------------------------------------------------------------------------------------------ modules


def affine(x: Tensor, m: nn.Module, R: Tensor) -> Tensor:
    W, b = m.weight, m.bias
    return module(lambda a: F.linear(a, W, b), lambda a: F.linear(a.abs(), W.abs(), b.abs()), x, R=R)[0]


def convolution(x: Tensor, m: nn.Conv2d, R: Tensor) -> Tensor:
    W, b, s = m.weight, m.bias, m.stride
    f = lambda a: F.conv2d(a, W, b, stride=s)  # noqa: E731
    return module(f, lambda a: F.conv2d(a.abs(), W.abs(), b.abs(), stride=s), x, R=R)[0]


def standardised(x: Tensor, eps: float) -> Tensor:
    """(x - mean) / std with both held constant."""
    mean, variance = x.mean(dim=-1, keepdim=True), x.var(dim=-1, keepdim=True, unbiased=False)
    return (x - mean.detach()) / (variance + eps).sqrt().detach()


def normalised(x: Tensor, m: nn.LayerNorm) -> Tensor:
    return standardised(x, m.eps) * m.weight + m.bias


def norm(x: Tensor, m: nn.LayerNorm, R: Tensor) -> Tensor:
    twin = lambda a: standardised(a.abs(), m.eps) * m.weight.abs() + m.bias.abs()  # noqa: E731
    return module(lambda a: normalised(a, m), twin, x, R=R)[0]


def softmaxed(O: Tensor) -> Tensor:
    """Softmax with maximum and denominator held constant."""
    e = (O - O.amax(dim=-1, keepdim=True).detach()).exp()
    return e / e.sum(dim=-1, keepdim=True).detach()


def softmax(O: Tensor, R: Tensor) -> Tensor:
    return module(softmaxed, lambda a: softmaxed(a.abs()), O, R=R)[0]


def gelu(x: Tensor, R: Tensor) -> Tensor:
    return module(F.gelu, lambda a: F.gelu(a.abs()), x, R=R)[0]


def dropout(x: Tensor, R: Tensor) -> Tensor:
    """In evaluation the output is the input, and yet: 2 R where x > 0, 0 where x < 0, scaled."""
    return module(lambda a: a, torch.abs, x, R=R)[0]


def select(x: Tensor, R: Tensor) -> Tensor:
    """The class token of (N, C)."""
    return module(lambda a: a[0], lambda a: a.abs()[0], x, R=R)[0]


def matmul(a: Tensor, b: Tensor, R: Tensor, scale: float = 1.0) -> list[Tensor]:
    return module(lambda a, b: scale * a @ b, lambda a, b: scale * a.abs() @ b.abs(), a, b, R=R)


def position(x: Tensor, p: Tensor, R: Tensor) -> Tensor:
    """The share of the position embedding is dropped."""
    return module(torch.add, lambda a, b: a.abs() + b.abs(), x, p, R=R)[0]


def residual(branch: Callable[[Tensor], Tensor], s: Tensor, R: Tensor) -> tuple[Tensor, Tensor]:
    """Relevance of the arguments b = branch(s) and s of y = b + s.

    The gradient is the total one: that of s also runs through the branch.
    """
    with torch.enable_grad():
        s = s.detach().requires_grad_()
        b = branch(s)
        y = b + s
        weight = (R / (y.abs() + EPS)).detach()
        db, ds = torch.autograd.grad(((y + b.abs() + s.abs()) * weight).sum(), [b, s])
    return scaled((b * db).detach()), scaled((s * ds).detach())


# ------------------------------------------------------------------------------------------ the network


def heads(block: nn.Module, n1: Tensor) -> list[Tensor]:
    """q, k, v, each (H, N, D)."""
    return [split(u, block.attn.num_heads) for u in block.attn.qkv(n1).chunk(3, dim=-1)]


def mixed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """A v, heads side by side (N, C), from q, k, v (H, N, D)."""
    return merge(softmaxed(q @ k.transpose(1, 2) * q.shape[-1] ** -0.5) @ v)


def attend(block: nn.Module, x: Tensor) -> Tensor:
    """The attention branch of a block on (N, C), norm included."""
    return block.attn.proj(mixed(*heads(block, normalised(x, block.norm1))))


def mlp(block: nn.Module, x: Tensor) -> Tensor:
    """The MLP branch of a block on (N, C), norm included."""
    return block.mlp.fc2(F.gelu(block.mlp.fc1(normalised(x, block.norm2))))


def through_heads(q: Tensor, k: Tensor, v: Tensor, R: Tensor) -> list[Tensor]:
    """Relevance of q, k and v, (N, C) each, from that of A v (N, C)."""
    kT, scale = k.transpose(1, 2), q.shape[-1] ** -0.5
    O = q @ kT * scale
    A = softmaxed(O)
    RA, Rv = matmul(A, v, split(R, len(A)))
    RA = dropout(A, RA)  # attn_drop
    Rq, RkT = matmul(q, kT, softmax(O, RA), scale)
    return [merge(Rq), merge(RkT.transpose(1, 2)), merge(Rv)]


def through_attention(block: nn.Module, x: Tensor, R: Tensor) -> Tensor:
    """Relevance of x (N, C) from that of attend(x)."""
    n1 = normalised(x, block.norm1)
    q, k, v = heads(block, n1)
    z = mixed(q, k, v)
    R = dropout(block.attn.proj(z), R)  # proj_drop
    R = torch.cat(through_heads(q, k, v, affine(z, block.attn.proj, R)), dim=-1)
    return norm(x, block.norm1, affine(n1, block.attn.qkv, R))


def through_mlp(block: nn.Module, x: Tensor, R: Tensor) -> Tensor:
    """Relevance of x (N, C) from that of mlp(x)."""
    n2 = normalised(x, block.norm2)
    u = block.mlp.fc1(n2)
    g = F.gelu(u)
    R = dropout(block.mlp.fc2(g), R)  # drop2
    R = affine(g, block.mlp.fc2, R)
    R = gelu(u, dropout(g, R))  # drop1
    return norm(x, block.norm2, affine(n2, block.mlp.fc1, R))


def through_block(block: nn.Module, x: Tensor, R: Tensor) -> Tensor:
    x_mid = x + attend(block, x)
    Rb, Rs = residual(lambda s: mlp(block, s), x_mid, R)
    R = through_mlp(block, x_mid, Rb) + Rs
    Rb, Rs = residual(lambda s: attend(block, s), x, R)
    return through_attention(block, x, Rb) + Rs


def propagate(net: nn.Module, picture: Tensor, start: Tensor) -> Tensor:
    """Relevance of the pixels (3, height, width) from the start (classes,) at the logits."""
    conv = net.patch_embed.proj
    patches = F.conv2d(picture[None], conv.weight, conv.bias, stride=conv.stride)
    embedded = torch.cat([net.cls_token[0], patches[0].flatten(1).T])
    x = [embedded + net.pos_embed[0]]
    for block in net.blocks:
        s = x[-1] + attend(block, x[-1])
        x.append(s + mlp(block, s))
    h = normalised(x[-1], net.norm)
    R = dropout(h[0], affine(h[0], net.head, start))  # head_drop
    R = norm(x[-1], net.norm, select(h, R))
    for block, inside in zip(reversed(net.blocks), reversed(x[:-1]), strict=True):
        R = through_block(block, inside, R)
    R = position(embedded, net.pos_embed[0], R)[1:]
    return convolution(picture[None], conv, R.T.reshape(patches.shape))[0]


# ------------------------------------------------------------------------------------------ BERT


def projections(layer: nn.Module) -> list[nn.Linear]:
    own = layer.attention.self
    return [own.query, own.key, own.value]


def bert_heads(layer: nn.Module, x: Tensor) -> list[Tensor]:
    """q, k, v, each (H, N, D)."""
    return [split(m(x), layer.attention.self.num_attention_heads) for m in projections(layer)]


def bert_attend(layer: nn.Module, x: Tensor) -> Tensor:
    """The attention branch of a layer on (N, C)."""
    return layer.attention.output.dense(mixed(*bert_heads(layer, x)))


def bert_mlp(layer: nn.Module, a: Tensor) -> Tensor:
    """The MLP branch of a layer on (N, C)."""
    return layer.output.dense(F.gelu(layer.intermediate.dense(a)))


def through_bert_attention(layer: nn.Module, x: Tensor, R: Tensor) -> Tensor:
    """Relevance of x (N, C) from that of bert_attend(x)."""
    q, k, v = bert_heads(layer, x)
    z, dense = mixed(q, k, v), layer.attention.output.dense
    Rqkv = through_heads(q, k, v, affine(z, dense, dropout(dense(z), R)))
    return sum(affine(x, m, r) for m, r in zip(projections(layer), Rqkv, strict=True))


def through_bert_mlp(layer: nn.Module, a: Tensor, R: Tensor) -> Tensor:
    """Relevance of a (N, C) from that of bert_mlp(a)."""
    u = layer.intermediate.dense(a)
    R = affine(F.gelu(u), layer.output.dense, dropout(bert_mlp(layer, a), R))
    return affine(a, layer.intermediate.dense, gelu(u, R))


def through_layer(layer: nn.Module, x: Tensor, R: Tensor) -> Tensor:
    """Post-LN: a = norm(attention(x) + x), out = norm(mlp(a) + a)."""
    sum1 = bert_attend(layer, x) + x
    a = normalised(sum1, layer.attention.output.LayerNorm)
    R = norm(bert_mlp(layer, a) + a, layer.output.LayerNorm, R)
    Rb, Rs = residual(lambda s: bert_mlp(layer, s), a, R)
    R = norm(sum1, layer.attention.output.LayerNorm, through_bert_mlp(layer, a, Rb) + Rs)
    Rb, Rs = residual(lambda s: bert_attend(layer, s), x, R)
    return through_bert_attention(layer, x, Rb) + Rs


def propagate_text(net: nn.Module, x: Tensor, start: Tensor) -> Tensor:
    """Relevance of the encoder's input (N, C) from the start (classes,) at the logits."""
    inputs = [x]
    for layer in net.bert.encoder.layer:
        a = normalised(bert_attend(layer, inputs[-1]) + inputs[-1], layer.attention.output.LayerNorm)
        inputs.append(normalised(bert_mlp(layer, a) + a, layer.output.LayerNorm))
    h = inputs.pop()
    u = net.bert.pooler.dense(h[0])
    pooled = torch.tanh(u)
    R = dropout(pooled, affine(pooled, net.classifier, start))
    R = module(torch.tanh, lambda t: torch.tanh(t.abs()), u, R=R)[0]
    R = select(h, affine(h[0], net.bert.pooler.dense, R))
    for layer, inside in zip(reversed(net.bert.encoder.layer), reversed(inputs), strict=True):
        R = through_layer(layer, inside, R)
    return R


# ------------------------------------------------------------------------------------------ the method


def between(net: nn.Module, x: Tensor, start: Tensor, other: Tensor | None) -> Tensor:
    """R / (max|R| + 1e-9) of R = R[start] - R[other], each start scaled to sum 1. (3, height, width), text (N, C)"""
    back = propagate_text if is_text(net) else propagate
    R = back(net, x, start / start.sum())
    if other is not None:
        R = R - back(net, x, other / other.sum())
    return R / (R.abs().max() + EPS)


def abs_lrp(net: nn.Module, inputs: Inputs, target: Tensor, contrastive: bool = True) -> Tensor:
    """Channel sum of the class's relevance minus that of all other classes alike. Signed.

    (B, K, height, width), text (B, K, N - 1) without [CLS].
    """

    def one(net: nn.Module, x: Tensor, c: int) -> Tensor:
        start = torch.zeros((net.classifier if is_text(net) else net.head).out_features, dtype=x.dtype)
        start[c] = 1
        R = between(net, x, start, 1 - start if contrastive else None)
        return R.sum(dim=-1)[1:] if is_text(net) else R.sum(dim=0)

    return each(net, inputs, target, one)


REFERENCES: dict[str, Any] = {"abs_lrp": abs_lrp}
