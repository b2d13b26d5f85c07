"""DecompX written out for BERT and for a ViT, in float64, as its authors' code shares out the biases of attention.

Both biases of an attention, W_O b_V + b_O, are shared out together, after the residual sum; in the first block, where
every value has one source, b_V stays with its token. All others are shared out where they are added.
"""

import torch
from torch import Tensor, nn

from tests.reference import models


def decompx(net: nn.Module, inputs: models.Inputs) -> Tensor:
    """The share of each token in each logit, for one sample. (N, classes)"""
    trace = models.forward(net, inputs)
    x = trace.at["x", 0][0]
    parts = torch.eye(len(x), dtype=x.dtype)[:, :, None] * x  # (token, source, C)
    for b, block in enumerate(models.blocks(net)):
        values = {name: trace.at[name, b][0] for name in ("x", "A", "mid")}
        parts = (bert_block if models.is_bert(net) else vit_block)(block, parts, values, first=b == 0)
    end = trace.at["end", -1][0]
    if models.is_bert(net):
        z = models.linear(end[0], net.bert.pooler.dense)
        pooled = linear(parts[:1], net.bert.pooler.dense) * (torch.tanh(z) / z)
        return linear(pooled, net.classifier)[0]
    return linear(norm(parts, end, net.norm)[:1], net.head)[0]


def vit_block(block, parts, values, first):
    W, b = block.attn.qkv.weight.chunk(3)[2], block.attn.qkv.bias.chunk(3)[2]
    branch, bias = attention(norm(parts, values["x"], block.norm1), values["A"], W, b, block.attn.proj, first)
    mid = share(parts + branch, bias)
    n = models.layer_norm(values["mid"], block.norm2)
    return mid + mlp(norm(mid, values["mid"], block.norm2), n, block.mlp.fc1, block.mlp.fc2)


def bert_block(block, parts, values, first):
    a, out = block.attention.self, block.attention.output
    branch, bias = attention(parts, values["A"], a.value.weight, a.value.bias, out.dense, first)
    total = branch.sum(dim=1) + bias + values["x"]
    mid = norm(share(parts + branch, bias), total, out.LayerNorm)
    m = values["mid"]
    dense, last = block.intermediate.dense, block.output
    total = m + models.linear(models.gelu(models.linear(m, dense)), last.dense)
    return norm(mid + mlp(mid, m, dense, last.dense), total, last.LayerNorm)


def attention(parts, A, W, b, out, first):
    """What each source adds to each token through all heads, and the bias that nobody has yet."""
    v = parts @ W.T
    if first:  # each value is its own source
        v = v + torch.eye(len(v), dtype=v.dtype)[:, :, None] * b
    heads = v.unflatten(-1, (len(A), -1))  # (m, j, h, d)
    Z = torch.stack(
        [sum(A[h, i, m] * heads[m, :, h] for m in range(len(v))) for h in range(len(A)) for i in range(len(v))]
    )
    Z = Z.unflatten(0, (len(A), len(v))).permute(1, 2, 0, 3).flatten(2)  # (i, j, h d)
    return Z @ out.weight.T, out.bias if first else out.weight @ b + out.bias


def mlp(parts, x, fc1, fc2):
    z = models.linear(x, fc1)
    return linear(linear(parts, fc1) * (models.gelu(z) / z)[:, None], fc2)


def linear(parts, layer):
    return share(parts @ layer.weight.T, layer.bias)


def norm(parts, x, layer):
    sigma = (x.var(dim=-1, correction=0) + layer.eps).sqrt()[:, None, None]
    return share((parts - parts.mean(dim=-1, keepdim=True)) / sigma * layer.weight, layer.bias)


def share(parts, bias):
    """A bias (C) shared out to parts (i, j, C), proportional to |<part, bias>|."""
    w = (parts @ bias).abs()
    return parts + (w / w.sum(dim=1, keepdim=True))[:, :, None] * bias
