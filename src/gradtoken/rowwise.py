"""A linear layer whose gradient is computed for the rows that have one.

A class is read from one token, and whatever lies between the last attention and the head works on each token alone: the
other rows of the gradient are zero, and products with them would be most of a backward pass through the last block.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class RowwiseLinear(torch.autograd.Function):
    """y = x W' + b, with a gradient by x alone. x (..., I), W (O, I), b (O,) -> (..., O)"""

    @staticmethod
    def forward(ctx: Any, x: Tensor, W: Tensor, b: Tensor | None) -> Tensor:
        ctx.save_for_backward(W)
        ctx.dtype = x.dtype  # which autocast may leave
        y: Tensor = F.linear(x, W, b)
        apart: Tensor = torch.ops.aten._unsafe_view(y, y.shape)  # no view, so that a model may write to slices of it
        return apart

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        """Dx = g W, where g is not zero."""
        (W,) = ctx.saved_tensors
        W, rows = W.to(g.dtype), g.flatten(0, -2)
        read = rows.any(dim=1).nonzero()[:, 0]
        if 2 * len(read) > len(rows):  # a mean over tokens reads all of them
            dx = rows @ W
        else:
            dx = rows.new_zeros(len(rows), W.shape[1]).index_copy(0, read, rows[read] @ W)
        return dx.view(*g.shape[:-1], -1).to(ctx.dtype), None, None


def rowwise_linear(x: Tensor, W: Tensor, b: Tensor | None) -> Tensor:
    """X W' + b, differentiable by x alone."""
    y: Tensor = RowwiseLinear.apply(x, W, b)  # type: ignore[no-untyped-call]
    return y


def fits(x: Any, W: Any) -> bool:
    """Whether the gradient by an input is wanted, and both are plain numbers: no tensors of other packages."""
    return x.requires_grad and x.ndim > 1 and type(x) is Tensor and type(W) in (Tensor, torch.nn.Parameter)


def saved_by(pack: Any) -> bool:
    """Whether what the graph saves goes here; a checkpoint that computes again counts it, and forbids other layers."""
    asked = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
    hooks = None if asked is None else asked(True)  # older versions of PyTorch do not tell
    return bool(hooks is not None and hooks[0] == pack)
