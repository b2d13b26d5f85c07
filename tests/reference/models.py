"""Two architectures written out by hand in float64: timm's pre-norm VisionTransformer and BERT with a classifier.

Every named intermediate passes through `swap`, so that a formula can read, detach, scale or replace it.

Names per block, block 0-based: "x" (block input, (B, N, C)); "norm" (what the q, k, v projections read: norm1(x) in a
ViT, x itself in BERT); "q", "k", "v" (B, H, N, D); "O" (scaled and masked scores) and "A" (B, H, N, N); "Z" (heads
concatenated, before the output projection), "branch" (the attention branch before the residual addition), "mid" (after
it, and after its LayerNorm in BERT) and "out" (block output), all (B, N, C).
Model level, block = -1: "input" (pixels; in BERT the sum of embeddings before its LayerNorm), "words" (BERT only: the
word embeddings in that sum), "end" (output of the last block, before the final norm), "logits".
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Inputs = Tensor | dict[str, Tensor]
Swap = Callable[[str, int, Tensor], Tensor]
BLOCKED = -10000.0  # added to the scores of a padded key; exp of it is 0 in float64 too


@dataclass(frozen=True)
class Trace:
    """One forward pass: the logits (B, classes) and every named intermediate, all in one autograd graph."""

    logits: Tensor
    at: dict[tuple[str, int], Tensor]

    def all(self, name: str) -> list[Tensor]:
        """The intermediate of this name in every block, first block first."""
        return [self.at[name, b] for b in range(sum(key[0] == name for key in self.at))]


def weights(net: nn.Module) -> nn.Module:
    """A copy in float64 and eval mode, all its parameters part of the graph."""
    return copy.deepcopy(net).double().eval().requires_grad_(True)


def forward(net: nn.Module, inputs: Inputs, swap: Swap | None = None) -> Trace:
    """Logits and intermediates of `net` at pixels (B, 3, H, W) or at a dict with input_ids (and attention_mask).

    A net that is float64 already is used as it is, so that gradients of `weights(net)` can be had; else a copy.
    """
    net = net if next(net.parameters()).dtype == torch.float64 else weights(net)
    at: dict[tuple[str, int], Tensor] = {}

    def named(name: str, block: int, value: Tensor) -> Tensor:
        value = value if swap is None else swap(name, block, value)
        at[name, block] = value
        return value

    x, bias = embed_text(net, inputs, named) if is_bert(net) else embed_pixels(net, inputs, named)
    for b, block in enumerate(blocks(net)):
        x = (bert_block if is_bert(net) else vit_block)(block, named("x", b, x), bias, lambda n, t, b=b: named(n, b, t))
    return Trace(named("logits", -1, head(net, named("end", -1, x))), at)


def head(net: nn.Module, x: Tensor) -> Tensor:
    """What the model makes of the output of its last block: norm, pooling, classifier. (B, N, C) -> (B, classes)"""
    if is_bert(net):
        return linear(torch.tanh(linear(x[:, 0], net.bert.pooler.dense)), net.classifier)
    x = layer_norm(x, net.norm)
    x = x[:, 0] if net.global_pool == "token" else x[:, net.num_prefix_tokens :].mean(dim=1)
    return linear(layer_norm(x, net.fc_norm), net.head)


def is_bert(net: nn.Module) -> bool:
    return hasattr(net, "bert")


def blocks(net: nn.Module) -> nn.Module:
    return net.bert.encoder.layer if is_bert(net) else net.blocks


def prefix(net: nn.Module) -> int:
    """Number of tokens before the first content token: [CLS] in a text, the prefix tokens of a ViT."""
    return 1 if is_bert(net) else net.num_prefix_tokens


# ---------------------------------------------------------------------------------------------- layers


def linear(x: Tensor, layer: nn.Linear) -> Tensor:
    y = x @ layer.weight.to(x).T
    return y if layer.bias is None else y + layer.bias.to(x)


def layer_norm(x: Tensor, layer: nn.Module) -> Tensor:
    """(x - mean) / sqrt(var + eps) * gamma + beta over channels, var without Bessel's correction; or nothing."""
    if isinstance(layer, nn.Identity):
        return x
    centred = x - x.mean(dim=-1, keepdim=True)
    var = (centred**2).mean(dim=-1, keepdim=True)
    return centred / torch.sqrt(var + layer.eps) * layer.weight.to(x) + layer.bias.to(x)


def gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / 2**0.5))


def in_graph(x: Tensor) -> Tensor:
    return x if x.requires_grad else x.requires_grad_()


def split(x: Tensor, heads: int) -> Tensor:
    """(B, N, H D) -> (B, H, N, D)"""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, named: Callable[[str, Tensor], Tensor]) -> Tensor:
    """O = q k^T / sqrt(D) + bias, A = softmax(O), Z = A v with the heads side by side. -> (B, N, H D)"""
    q, k, v = named("q", q), named("k", k), named("v", v)
    O = named("O", q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5 + bias)
    A = named("A", torch.softmax(O, dim=-1))
    return named("Z", (A @ v).transpose(1, 2).flatten(-2))


# ---------------------------------------------------------------------------------------------- ViT


def embed_pixels(net: nn.Module, pixels: Inputs, named: Callable[[str, int, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Patch embedding, class token, position embedding. (B, 3, H, W) -> (B, N, C) and a bias of 0"""
    x = named("input", -1, in_graph(pixels.detach().double().clone()))
    W = net.patch_embed.proj.weight  # (C, 3, p, p)
    x = F.unfold(x, W.shape[2:], stride=W.shape[2:]).transpose(1, 2) @ W.flatten(1).T + net.patch_embed.proj.bias
    if net.cls_token is not None:
        x = torch.cat([net.cls_token.expand(len(x), -1, -1), x], dim=1)
    return x + net.pos_embed, torch.zeros((), dtype=x.dtype)


def vit_block(block: nn.Module, x: Tensor, bias: Tensor, named: Callable[[str, Tensor], Tensor]) -> Tensor:
    """A pre-norm block: mid = x + s1 attention(norm1(x)), out = mid + s2 mlp(norm2(mid)); s1, s2: layer scales."""
    norm = named("norm", layer_norm(x, block.norm1))
    q, k, v = (split(t, block.attn.num_heads) for t in linear(norm, block.attn.qkv).chunk(3, dim=-1))
    Z = attend(q, k, v, bias, named)
    branch = named("branch", scale(linear(Z, block.attn.proj), block.ls1))
    mid = named("mid", x + branch)
    hidden = gelu(linear(layer_norm(mid, block.norm2), block.mlp.fc1))
    return named("out", mid + scale(linear(hidden, block.mlp.fc2), block.ls2))


def scale(x: Tensor, layer: nn.Module) -> Tensor:
    return x if isinstance(layer, nn.Identity) else x * layer.gamma


# ---------------------------------------------------------------------------------------------- BERT


def embed_text(
    net: nn.Module, inputs: dict[str, Any], named: Callable[[str, int, Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """LayerNorm of word + position + token type, and (1 - mask) * -10000. (B, N) -> (B, N, C) and (B, 1, 1, N)"""
    ids, e = inputs["input_ids"], net.bert.embeddings
    types = inputs.get("token_type_ids", torch.zeros_like(ids))
    mask = inputs.get("attention_mask", torch.ones_like(ids)).double()
    positions = e.position_embeddings.weight[: ids.shape[1]]
    words = named("words", -1, e.word_embeddings.weight[ids])
    x = named("input", -1, in_graph(words + positions + e.token_type_embeddings.weight[types]))
    return layer_norm(x, e.LayerNorm), ((1 - mask) * BLOCKED)[:, None, None, :]


def bert_block(block: nn.Module, x: Tensor, bias: Tensor, named: Callable[[str, Tensor], Tensor]) -> Tensor:
    """A post-norm layer: mid = LN(x + attention(x)), out = LN(mid + mlp(mid))."""
    norm, a = named("norm", x), block.attention.self
    q, k, v = (split(linear(norm, layer), a.num_attention_heads) for layer in (a.query, a.key, a.value))
    Z = attend(q, k, v, bias, named)
    branch = named("branch", linear(Z, block.attention.output.dense))
    mid = named("mid", layer_norm(x + branch, block.attention.output.LayerNorm))
    mlp = linear(gelu(linear(mid, block.intermediate.dense)), block.output.dense)
    return named("out", layer_norm(mid + mlp, block.output.LayerNorm))


# ---------------------------------------------------------------------------------------------- one map at a time


def one_by_one(method: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """From method(net, x, c) -> (N,), one sample and one class, to method(net, inputs, target (B, K)) -> (B, K, S).

    ViT: the S patches. BERT: S = N - 1, all tokens but [CLS]; each sample runs without its padding, which gets 0.
    """

    @functools.wraps(method)
    def looped(net: nn.Module, inputs: Inputs, target: Tensor, **options: Any) -> Tensor:
        net = weights(net)
        width = inputs["input_ids"].shape[1] if isinstance(inputs, dict) else None
        return torch.stack(
            [
                torch.stack([content(net, method(net, x, int(c), **options).detach(), width) for c in classes])
                for x, classes in zip(samples(inputs), target, strict=True)
            ]
        )

    return looped


def samples(inputs: Inputs) -> Iterator[Inputs]:
    """Batches of one; a text ends where its padding starts."""
    if isinstance(inputs, Tensor):
        yield from inputs.split(1)
        return
    mask = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"]))
    for i, n in enumerate(mask.sum(dim=1).tolist()):
        assert mask[i, :n].all(), "padding must follow the text"
        yield {name: t[i : i + 1, :n] for name, t in inputs.items() if name != "attention_mask"}


def content(net: nn.Module, R: Tensor, width: int | None) -> Tensor:
    """The content tokens of R (N,), a text filled up with 0 as if it had `width` tokens. (S,)"""
    return F.pad(R, (0, 0 if width is None else width - len(R)))[prefix(net) :]


def read(net: nn.Module, M: Tensor) -> Tensor:
    """The query rows of M (..., N, N) that the head reads: that of the class token, or the mean of the pooled ones."""
    if is_bert(net) or net.global_pool == "token":
        return M[..., 0, :]
    return M[..., prefix(net) :, :].mean(dim=-2)


def gradient(y: Tensor, tensors: list[Tensor]) -> list[Tensor]:
    """Gradients of the scalar y, without the batch dimension of one."""
    return [g[0] for g in torch.autograd.grad(y, tensors, retain_graph=True)]
