"""Attention in the open: each of its steps has a row of its own."""

import torch
import torch.nn.functional as F
from torch import Tensor

from gradtoken.attention import MASKED


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(q k' scale + mask) v. The scale comes after the product, whose rule then does not see it."""
    if enable_gqa:
        key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], dim=1) for x in (key, value))
    O = (query @ key.mT) * (query.shape[-1] ** -0.5 if scale is None else scale)
    mask = causal(O) if is_causal else attn_mask
    if mask is not None:
        O = O + additive(mask, O.dtype)
    A = F.dropout(O.softmax(dim=-1), dropout_p, training=False)  # one rule set gives dropout a share
    return A @ value


def additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask as numbers to add: -10000, which rules can divide by, where it hides a key."""
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, MASKED)
    return mask.clamp(min=MASKED)


def causal(O: Tensor) -> Tensor:
    """Which keys a query may see: those up to its own place."""
    return torch.ones(O.shape[-2:], dtype=torch.bool, device=O.device).tril()
