"""Norms and softmax with some of their statistics as constants of the graph."""

from typing import Any

import torch
from torch import Tensor


def layer_norm(
    x: Tensor,
    shape: tuple[int, ...],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *_: bool,
    frozen_mean: bool = False,
) -> Tensor:
    """(x - mean) / std w + b with std as a constant, and the mean too where it is frozen."""
    over = tuple(range(-len(shape), 0))
    y = wide(x)
    mean = y.mean(over, keepdim=True)
    d = y - (mean.detach() if frozen_mean else mean)
    return affine(x, d * (d.square().mean(over, keepdim=True) + eps).rsqrt().detach(), weight, bias)


def rms_norm(x: Tensor, shape: tuple[int, ...], weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    """X / rms(x) w with the root mean square as a constant."""
    over = tuple(range(-len(shape), 0))
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    y = wide(x)
    return affine(x, y * (y.square().mean(over, keepdim=True) + eps).rsqrt().detach(), weight, None)


def wide(x: Tensor) -> Tensor:
    """X in at least float32: squares leave the range of half precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def affine(like: Tensor, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if weight is None else x * weight
    return (x if bias is None else x + bias).to(like.dtype)


def unit(x: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, **_: None) -> Tensor:
    """X / |x| with the norm as a constant."""
    y: Tensor = x / x.norm(p, dim, keepdim=True).clamp(min=eps).detach()
    return y


def softmax(x: Tensor, dim: int = -1, *_: int, dtype: torch.dtype | None = None, **_options: Any) -> Tensor:
    """Softmax that is never less precise than x, where a model asks for float32."""
    return x.softmax(dim, dtype=torch.promote_types(x.dtype, dtype or x.dtype))
