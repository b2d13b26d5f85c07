"""Operations whose backward pass is written by hand."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Keep = Callable[..., tuple[Tensor, ...]]


class Hand(torch.autograd.Function):
    """y = run(*x), whose backward pass is `shares(R, *x)`: one result for each x, in its shape.

    keep: from (y, *x) to what `shares` reads instead of x.
    """

    @staticmethod
    def forward(
        ctx: Any, run: Callable[..., Tensor], shares: Callable[..., Any], keep: Keep | None, *x: Tensor
    ) -> Tensor:
        y = run(*x)
        ctx.shares = shares
        ctx.save_for_backward(*(x if keep is None else keep(y, *x)))
        return y

    @staticmethod
    def backward(ctx: Any, R: Tensor) -> tuple[Any, ...]:
        with torch._C.DisableTorchFunction():  # a mode may still be on
            return None, None, None, *ctx.shares(R, *ctx.saved_tensors)

    @classmethod
    def of(cls, run: Callable[..., Tensor], shares: Callable[..., Any], *x: Tensor, keep: Keep | None = None) -> Tensor:
        y: Tensor = cls.apply(run, shares, keep, *x)  # type: ignore[no-untyped-call]
        return y


def nothing(*_: Tensor) -> tuple[Tensor, ...]:
    """What shares that only pass relevance on need to keep."""
    return ()


def origin(x: Tensor) -> Any:
    """The node of the last operation with a backward pass by hand that x is nothing but a change of shape of."""
    node: Any = x.grad_fn
    while node is not None and not hasattr(node, "shares"):
        parents = [parent for parent, _ in node.next_functions if parent is not None]
        node = parents[0] if len(parents) == 1 else None
    return node


def pull(f: Callable[..., Tensor], *x: Tensor) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, ...]]]:
    """f(*x), and the function that pulls a gradient of it back to each x."""
    with torch.enable_grad():
        inputs = [e.detach().requires_grad_() for e in x]
        y = f(*inputs)
    return y.detach(), lambda S: torch.autograd.grad(y, inputs, S)
