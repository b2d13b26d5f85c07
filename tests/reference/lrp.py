"""Layer-wise relevance propagation through a Transformer, written out naively: float64, one sample and class at a time.

Three methods that read one pass: the relevance of the pixels, of the last attention, and of every attention weighed by
its gradient. Chefer, Gur, Wolf, arXiv:2012.09838; Voita et al., arXiv:1905.09418. The rules are those of the published
code, quirks included: rule "published" for the first two, "conservative" for the third, each offered for all.

Letters: N tokens, the class token first; C channels; H heads of width D; S = N - 1 content tokens; W (out, in);
x+ and x- the non-negative and the non-positive part of x; R a relevance, in the shape of what it belongs to.

Choices where the sources leave something open:
* both quotients in the conservative rule of an addition are safe divisions, so that sums hold to about 1e-9 only;
* the additive mask of a text is always added, as zeros: its rule changes a relevance by the 1e-9 alone;
* the content tokens of a text are all tokens but [CLS]; [SEP] stays.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS = 1e-9

Inputs = Tensor | dict[str, Tensor]
One = Callable[[nn.Module, Tensor, int], Tensor]  # (net, one sample, class) -> its map


# ------------------------------------------------------------------------------------------ one sample at a time


def in_float64(net: nn.Module) -> nn.Module:
    """A copy in float64 and eval mode without gradients of the weights."""
    return copy.deepcopy(net).double().eval().requires_grad_(False)


def samples(net: nn.Module, inputs: Inputs) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Each picture (3, height, width), or each text as (encoder input (n, C) of its n real tokens, their places)."""
    if isinstance(inputs, Tensor):
        for x in inputs:
            yield x.double(), None
        return
    ids = inputs["input_ids"]
    for i, mask in enumerate(inputs.get("attention_mask", torch.ones_like(ids))):
        kept = mask.nonzero()[:, 0]
        words = {name: t[i, kept][None] for name, t in inputs.items() if name in ("input_ids", "token_type_ids")}
        yield net.bert.embeddings(**words)[0].detach(), kept


def each(net: nn.Module, inputs: Inputs, target: Tensor, one: One) -> Tensor:
    """one(net, sample, class) for every entry of target (B, K), stacked; 0 where a text is padded. (B, K, ...)"""
    net = in_float64(net)
    rows = []
    for (x, kept), classes in zip(samples(net, inputs), target, strict=True):
        row = torch.stack([one(net, x, int(c)) for c in classes]).detach()
        if kept is not None:
            full = torch.zeros(len(classes), inputs["input_ids"].shape[1] - 1, dtype=row.dtype)
            full[:, kept[1:] - 1] = row
            row = full
        rows.append(row)
    return torch.stack(rows)


def is_text(net: nn.Module) -> bool:
    return hasattr(net, "bert")


# ------------------------------------------------------------------------------------------ forward, inputs stored


def split(x: Tensor, H: int) -> Tensor:
    """(N, H D) -> (H, N, D)"""
    return x.unflatten(-1, (H, -1)).transpose(0, 1)


def merge(x: Tensor) -> Tensor:
    """(H, N, D) -> (N, H D)"""
    return x.transpose(0, 1).flatten(1)


def vit_block(block: nn.Module, x: Tensor) -> SimpleNamespace:
    """Pre-LN: x_mid = x + attention(norm1(x)), out = x_mid + mlp(norm2(x_mid))."""
    t = SimpleNamespace(x=x, n1=block.norm1(x))
    t.q, t.k, t.v = (split(u, block.attn.num_heads) for u in block.attn.qkv(t.n1).chunk(3, dim=-1))
    t.A = torch.softmax(t.q @ t.k.transpose(1, 2) / t.q.shape[-1] ** 0.5, dim=-1)
    t.z = merge(t.A @ t.v)
    t.attention = block.attn.proj(t.z)
    t.x_mid = x + t.attention
    t.n2 = block.norm2(t.x_mid)
    t.g = F.gelu(block.mlp.fc1(t.n2))
    t.mlp = block.mlp.fc2(t.g)
    t.out = t.x_mid + t.mlp
    return t


def vit(net: nn.Module, picture: Tensor) -> SimpleNamespace:
    """Forward of a timm VisionTransformer on (3, height, width)."""
    conv = net.patch_embed.proj
    t = SimpleNamespace(picture=picture, blocks=[])
    patches = F.conv2d(picture[None], conv.weight, conv.bias, stride=conv.stride)[0].flatten(1).T  # (S, C)
    t.embedded = torch.cat([net.cls_token[0], patches])
    t.position = net.pos_embed[0]
    x = t.embedded + t.position
    for block in net.blocks:
        t.blocks.append(vit_block(block, x))
        x = t.blocks[-1].out
    t.h = net.norm(x)
    t.logits = net.head(t.h[0])
    return t


def bert_block(layer: nn.Module, x: Tensor) -> SimpleNamespace:
    """Post-LN: a = norm(x + attention(x)), out = norm(a + mlp(a))."""
    own, H = layer.attention.self, layer.attention.self.num_attention_heads
    t = SimpleNamespace(x=x)
    t.q, t.k, t.v = (split(part(x), H) for part in (own.query, own.key, own.value))
    t.O = t.q @ t.k.transpose(1, 2) / t.q.shape[-1] ** 0.5
    t.mask = torch.zeros_like(t.O)
    t.A = torch.softmax(t.O + t.mask, dim=-1)
    t.z = merge(t.A @ t.v)
    t.attention = layer.attention.output.dense(t.z)
    t.a = layer.attention.output.LayerNorm(t.attention + x)
    t.g = F.gelu(layer.intermediate.dense(t.a))
    t.mlp = layer.output.dense(t.g)
    t.out = layer.output.LayerNorm(t.mlp + t.a)
    return t


def bert(net: nn.Module, x: Tensor) -> SimpleNamespace:
    """Forward of a BertForSequenceClassification from the encoder's input (N, C)."""
    t = SimpleNamespace(blocks=[])
    for layer in net.bert.encoder.layer:
        t.blocks.append(bert_block(layer, x))
        x = t.blocks[-1].out
    t.h = x
    t.pooled = torch.tanh(net.bert.pooler.dense(t.h[0]))
    t.logits = net.classifier(t.pooled)
    return t


# ------------------------------------------------------------------------------------------ rules


def sd(a: Tensor, b: Tensor) -> Tensor:
    """Quotient a / (b + 1e-9), whatever the sign of b; 0 where b = 0."""
    below = b + EPS
    below = torch.where(below == 0, EPS, below)
    return a / below * (b != 0)


def linear(rule: str, x: Tensor, W: Tensor, R: Tensor) -> Tensor:
    """x+ (sd(R, Z1) W+) + x- (sd(R, Z2) W-) with Z1 = x+ W+^T, Z2 = x- W-^T; conservative: Z1 + Z2 below both."""
    x1, x2, W1, W2 = x.clamp(min=0), x.clamp(max=0), W.clamp(min=0), W.clamp(max=0)
    Z1, Z2 = x1 @ W1.T, x2 @ W2.T
    if rule == "conservative":
        Z1 = Z2 = Z1 + Z2
    return x1 * (sd(R, Z1) @ W1) + x2 * (sd(R, Z2) @ W2)


def add(rule: str, x1: Tensor, x2: Tensor, R: Tensor) -> tuple[Tensor, Tensor]:
    """x_i sd(R, x1 + x2); conservative: each rescaled, so that the sums are |S_i| / (|S1| + |S2|) of sum(R)."""
    S = sd(R, x1 + x2)
    a, b = x1 * S, x2 * S
    if rule == "conservative":
        Sa, Sb = a.sum(), b.sum()
        whole = Sa.abs() + Sb.abs()
        a, b = a * sd(sd(Sa.abs(), whole) * R.sum(), Sa), b * sd(sd(Sb.abs(), whole) * R.sum(), Sb)
    return a, b


def clone(x: Tensor, *R: Tensor) -> Tensor:
    """What the copies of x received: x sum_i sd(R_i, x)."""
    return x * sum(sd(r, x) for r in R)


def matmul(a: Tensor, b: Tensor, R: Tensor) -> tuple[Tensor, Tensor]:
    """Half of a (S b^T) and half of b (a^T S), with S = sd(R, a b)."""
    S = sd(R, a @ b)
    return a * (S @ b.transpose(1, 2)) / 2, b * (a.transpose(1, 2) @ S) / 2


def attention(rule: str, t: SimpleNamespace, R: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Relevance of q, k, v (N, C each) and of A (H, N, N) from that of the joined heads (N, C). Softmax: identity."""
    RA, Rv = matmul(t.A, t.v, split(R, len(t.A)))
    RO = add(rule, t.O, t.mask, RA)[0] if hasattr(t, "mask") else RA
    Rq, Rk = matmul(t.q, t.k.transpose(1, 2), RO)
    return merge(Rq), merge(Rk.transpose(1, 2)), merge(Rv), RA


def relprop_vit_block(rule: str, block: nn.Module, t: SimpleNamespace, R: Tensor) -> tuple[Tensor, Tensor]:
    """Relevance of the block's input (N, C) and of its A (H, N, N); LayerNorm and GELU: identity."""
    r1, r2 = add(rule, t.x_mid, t.mlp, R)
    r2 = linear(rule, t.g, block.mlp.fc2.weight, r2)
    r2 = linear(rule, t.n2, block.mlp.fc1.weight, r2)
    R = clone(t.x_mid, r1, r2)
    r1, r2 = add(rule, t.x, t.attention, R)
    r2 = linear(rule, t.z, block.attn.proj.weight, r2)
    *qkv, RA = attention(rule, t, r2)
    r2 = linear(rule, t.n1, block.attn.qkv.weight, torch.cat(qkv, dim=-1))
    return clone(t.x, r1, r2), RA


def relprop_bert_block(rule: str, layer: nn.Module, t: SimpleNamespace, R: Tensor) -> tuple[Tensor, Tensor]:
    """Relevance of the layer's input (N, C) and of its A (H, N, N); LayerNorm and GELU: identity."""
    r1, r2 = add(rule, t.mlp, t.a, R)
    r1 = linear(rule, t.g, layer.output.dense.weight, r1)
    r1 = linear(rule, t.a, layer.intermediate.dense.weight, r1)
    R = clone(t.a, r1, r2)
    r1, r2 = add(rule, t.attention, t.x, R)
    r1 = linear(rule, t.z, layer.attention.output.dense.weight, r1)
    *qkv, RA = attention(rule, t, r1)
    own = layer.attention.self
    parts = [linear(rule, t.x, m.weight, r) for m, r in zip((own.query, own.key, own.value), qkv, strict=True)]
    return clone(t.x, clone(t.x, *parts), r2), RA


def first(h: Tensor, R: Tensor) -> Tensor:
    """Relevance of all tokens (N, C) from that of the class token (C,)."""
    out = torch.zeros_like(h)
    out[0] = h[0] * sd(R, h[0])
    return out


def z_box(picture: Tensor, conv: nn.Conv2d, R: Tensor) -> Tensor:
    """Relevance of the pixels (3, height, width) from that of the patches (S, C), bounded by the picture's extremes."""
    W, X = conv.weight, picture[None]
    low, high = torch.full_like(X, float(X.min())), torch.full_like(X, float(X.max()))
    parts = [(X, W, 1), (low, W.clamp(min=0), -1), (high, W.clamp(max=0), -1)]
    Za = sum(sign * F.conv2d(x, w, stride=conv.stride) for x, w, sign in parts) + EPS
    S = R.T.reshape(Za.shape) / Za
    return sum(sign * x * F.conv_transpose2d(S, w, stride=conv.stride) for x, w, sign in parts)[0]


# ------------------------------------------------------------------------------------------ the pass


def relprop(net: nn.Module, x: Tensor, c: int, rule: str = "published") -> SimpleNamespace:
    """One pass from a one at the logit of class c.

    head (C,): relevance below the head; at: the relevance (N, C) above the last block, ..., below the first block;
    RA, A, dA: (H, N, N) of each block, first block first, dA the gradient of the logit; pixels (3, height, width).
    """
    text = is_text(net)
    t = (bert if text else vit)(net, x.clone().requires_grad_())
    dA = torch.autograd.grad(t.logits[c], [b.A for b in t.blocks])
    one_hot = torch.zeros_like(t.logits)
    one_hot[c] = 1
    with torch.no_grad():
        if text:
            R = linear(rule, t.pooled, net.classifier.weight, one_hot)
            R = linear(rule, t.h[0], net.bert.pooler.dense.weight, R)
        else:
            R = linear(rule, t.h[0], net.head.weight, one_hot)
        out = SimpleNamespace(head=R, at=[first(t.h, R)], RA=[], dA=list(dA), A=[b.A.detach() for b in t.blocks])
        modules, step = (net.bert.encoder.layer, relprop_bert_block) if text else (net.blocks, relprop_vit_block)
        for module, block in zip(reversed(modules), reversed(t.blocks), strict=True):
            R, RA = step(rule, module, block, out.at[-1])
            out.at.append(R)
            out.RA.insert(0, RA)
        if not text:
            R, _ = add(rule, t.embedded, t.position, R)
            out.pixels = z_box(t.picture, net.patch_embed.proj, R[1:])
    return out


# ------------------------------------------------------------------------------------------ methods


def lrp(net: nn.Module, inputs: Inputs, target: Tensor, rule: str = "published") -> Tensor:
    """Relevance of the pixels summed over channels (B, K, height, width), or of the encoder's input (B, K, N - 1)."""

    def one(net: nn.Module, x: Tensor, c: int) -> Tensor:
        out = relprop(net, x, c, rule)
        return out.at[-1].sum(dim=-1)[1:] if is_text(net) else out.pixels.sum(dim=0)

    return each(net, inputs, target, one)


def partial_lrp(
    net: nn.Module, inputs: Inputs, target: Tensor, rule: str = "published", gradient: bool = False
) -> Tensor:
    """mean_h (R^A_h)+ of the last block, class token's row; with `gradient`, of dA_h R^A_h. (B, K, S)"""

    def one(net: nn.Module, x: Tensor, c: int) -> Tensor:
        out = relprop(net, x, c, rule)
        RA = out.RA[-1] * out.dA[-1] if gradient else out.RA[-1]
        return RA.clamp(min=0).mean(dim=0)[0, 1:]

    return each(net, inputs, target, one)


def product(out: SimpleNamespace, start: int, normalise: bool) -> Tensor:
    """(I + E_L) ... (I + E_start) with E_b = mean_h (dA_h R^A_h)+ of the blocks from number `start`, 0 first. (N, N)"""
    I = torch.eye(out.RA[0].shape[-1], dtype=out.RA[0].dtype)
    C = I
    for dA, RA in zip(out.dA[start:], out.RA[start:], strict=True):
        step = I + (dA * RA).clamp(min=0).mean(dim=0)
        C = (step / step.sum(dim=-1, keepdim=True) if normalise else step) @ C
    return C


def transattrib(
    net: nn.Module,
    inputs: Inputs,
    target: Tensor,
    rule: str = "conservative",
    start: int | None = None,
    normalise: bool | None = None,
) -> Tensor:
    """Class token's row of the product over blocks. (B, K, S)

    As published: pictures leave out the first block (start 1), texts use the last alone and normalise the rows.
    """
    text = is_text(net)
    start = (len(net.bert.encoder.layer) - 1 if text else 1) if start is None else start
    normalise = text if normalise is None else normalise

    def one(net: nn.Module, x: Tensor, c: int) -> Tensor:
        return product(relprop(net, x, c, rule), start, normalise)[0, 1:]

    return each(net, inputs, target, one)


REFERENCES: dict[str, Any] = {"lrp": lrp, "partial_lrp": partial_lrp, "transattrib": transattrib}
