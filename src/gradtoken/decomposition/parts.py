"""Parts of a tensor: (J + 1, *shape), one for each of J source tokens; the last is what has not been shared out yet.

At every point of a model the parts sum to the true value. Biases join the last part, which follows linear operations as
the others do until it is shared out among them.
"""

import torch
from torch import Tensor


def of_tokens(x: Tensor) -> Tensor:
    """Each token is its own source. (1, N, C) -> (N + 1, 1, N, C)"""
    N = x.shape[1]
    own = torch.eye(N + 1, N, dtype=x.dtype, device=x.device)
    return own[:, None, :, None] * x


def as_one(x: Tensor) -> Tensor:
    """All tokens are one source. (1, N, C) -> (2, 1, N, C)"""
    return torch.stack([x, torch.zeros_like(x)])


def of_constant(x: Tensor, like: Tensor) -> Tensor:
    """What no source is part of: all of it is in the last part."""
    rest = x.to(like)[None]
    return torch.cat([rest.new_zeros(()).expand(len(like) - 1, *rest.shape[1:]), rest])


def with_bias(parts: Tensor, bias: Tensor | None) -> Tensor:
    """Parts that nobody else holds, with a bias in the last."""
    if bias is not None:
        parts[-1].add_(bias)
    return parts


def shared(parts: Tensor) -> Tensor:
    """The last part b shared out: x_j + w_j b with w_j = |<x_j, b>| / sum_k |<x_k, b>| (absdot).

    Where no source has a part yet, b stays what it is.
    """
    b = parts[-1]
    if not b.any():
        return parts
    w = (parts[:-1] * b).sum(dim=-1, keepdim=True).abs()
    total = w.sum(dim=0, keepdim=True)
    known = total > 0
    w = torch.cat([w / total.where(known, 1), -known.to(w.dtype)])
    return torch.addcmul(parts, w, b)
