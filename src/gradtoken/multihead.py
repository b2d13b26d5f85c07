"""`F.multi_head_attention_forward` written with `F.scaled_dot_product_attention`, so that its attention can be seen."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gradtoken.errors import BadModel


def additive(mask: Tensor | None, like: Tensor) -> Tensor | None:
    """PyTorch's multi-head masks as numbers to add: True means hidden there."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, -torch.inf)


def merged_mask(attn_mask: Tensor | None, padding: Tensor | None, batch: int, like: Tensor) -> Tensor | None:
    """Attention mask (N, M) or (B * H, N, M) and padding mask (B, M) as one that broadcasts to (B, H, N, M)."""
    mask, hidden = additive(attn_mask, like), additive(padding, like)
    if mask is not None:
        mask = mask[None, None] if mask.ndim == 2 else mask.reshape(batch, -1, *mask.shape[1:])
    if hidden is not None:
        hidden = hidden.reshape(batch, 1, 1, -1)
        mask = hidden if mask is None else mask + hidden
    return mask


def multi_head_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    average_attn_weights: bool = True,
    **other: Any,
) -> tuple[Tensor, Tensor | None]:
    """The same result as PyTorch's function of this signature. (N, B, C) -> (N, B, C) and A or None."""
    if bias_k is not None or bias_v is not None or add_zero_attn or other.get("static_k") is not None:
        raise BadModel("nn.MultiheadAttention with add_bias_kv, add_zero_attn or static keys cannot be explained")
    single = query.ndim == 2
    # Samples first, as everywhere else; one tensor for all three stays one, whose gradient is that by all of them.
    turned = {id(x): (x[:, None] if single else x).transpose(0, 1) for x in (query, key, value)}
    query, key, value = (turned[id(x)] for x in (query, key, value))
    B, N, C = query.shape
    stacked = None if use_separate_proj_weight or in_proj_weight is None else in_proj_weight.chunk(3)
    weights = stacked or (q_proj_weight, k_proj_weight, v_proj_weight)
    biases = (None, None, None) if in_proj_bias is None else in_proj_bias.chunk(3)
    q, k, v = (
        F.linear(x, w, b).reshape(B, x.shape[1], num_heads, -1).transpose(1, 2)  # (B, H, N, D)
        for x, w, b in zip((query, key, value), weights, biases, strict=True)
        if w is not None
    )
    mask = merged_mask(attn_mask, key_padding_mask, B, q)
    Z = F.scaled_dot_product_attention(q, k, v, mask, dropout_p if training else 0.0)
    out = F.linear(Z.transpose(1, 2).reshape(B, N, C), out_proj_weight, out_proj_bias).transpose(0, 1)
    A = open_weights(q, k, mask, average_attn_weights) if need_weights else None
    if single:
        out, A = out[:, 0], None if A is None else A[0]
    return out, A


def open_weights(q: Tensor, k: Tensor, mask: Tensor | None, average: bool) -> Tensor:
    """The attention matrix that a caller asked for. (B, N, M), or (B, H, N, M) without the mean over heads."""
    O = q @ k.mT * q.shape[-1] ** -0.5
    A = (O if mask is None else O + mask).softmax(dim=-1)
    weights: Tensor = A.mean(dim=1) if average else A
    return weights
