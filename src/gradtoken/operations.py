"""The operations that attention is made of, and what the recorder does at each.

An attention is `scaled_dot_product_attention`, `multi_head_attention_forward`, or a softmax over the last axis between
two matrix products, written with `@`, `bmm`, `baddbmm` or `einsum`.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gradtoken.call import Call
from gradtoken.multihead import multi_head_attention
from gradtoken.rowwise import fits, rowwise_linear, saved_by

if TYPE_CHECKING:
    from gradtoken.record import Recorder

Op = Callable[..., Any]


def sdpa(
    record: "Recorder",
    op: Op,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    options = {"dropout_p": dropout_p, "is_causal": is_causal, "scale": scale, "enable_gqa": enable_gqa}
    before, record.operands = record.operands, (key, value)
    if record.full:
        return op(query, key, value, attn_mask, **options)  # type: ignore[no-any-return]
    if value is before[1] and key is not before[0]:  # differential attention: a second map of the same values
        return op(query, key, value, attn_mask, **options)  # type: ignore[no-any-return]
    q = record.begin(query)
    mask = None if attn_mask is None else attn_mask.detach()  # a mask with a gradient would forbid the fused kernel
    scale_ = q.shape[-1] ** -0.5 if scale is None else scale
    record.confirm(Call(record.site, q, key.detach(), scale_, mask, is_causal))
    return record.finish(value, op(q, key, value, mask, **options))


def multihead(record: "Recorder", _op: Op, *args: Any, **kwargs: Any) -> Any:
    with record:  # a mode is off inside its own handler
        out = multi_head_attention(*args, **kwargs)
    record.unfinished = 0  # the weights that a caller asked for are one more softmax
    return out


def linear(record: "Recorder", op: Op, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Where a gradient is wanted by the input alone, one of the rows that are read."""
    rowwise = record.rowwise and torch.is_grad_enabled() and saved_by(record.pack) and fits(input, weight)
    out: Tensor = rowwise_linear(input, weight, bias) if rowwise else op(input, weight, bias)
    with torch._C.DisableTorchFunction():
        record.follow(op, out, (input, weight))
    return out


def product(record: "Recorder", op: Op, *args: Any, **kwargs: Any) -> Tensor:
    """Q @ K' begins an attention written by hand; A @ V, or V' @ A' for tokens in columns, ends it."""
    a, b = (*args, *(kwargs.pop(name) for name in ("input", "other", "mat2") if name in kwargs))
    A = weights_in(record, a, b)
    if A is not None:
        call, weights = A
        record.confirm(replace(call, weights=weights.detach()))
        record.marks.clear()
        if weights is a:
            return record.finish(b, op(a, b, **kwargs))
        return record.finish(a.mT, op(a, b, **kwargs).mT).mT
    operands = all(isinstance(x, Tensor) and x.ndim >= 3 and x.is_floating_point() for x in (a, b))
    if record.full or not operands:
        return op(a, b, **kwargs)  # type: ignore[no-any-return]
    factors = record.factors.get(a, 1.0), record.factors.get(b, 1.0)
    q = record.begin(a)
    O = op(q, b, **kwargs)
    record.marks[O] = Call(record.site, q, b.detach().mT, q_factor=factors[0], k_factor=factors[1])
    return O  # type: ignore[no-any-return]


def added_product(record: "Recorder", op: Op, input: Tensor, batch1: Tensor, batch2: Tensor, **kwargs: Any) -> Tensor:
    """Q @ K' with the bias and the scale in one operation. The names are those of torch.baddbmm."""
    if record.full:
        return op(input, batch1, batch2, **kwargs)  # type: ignore[no-any-return]
    q = record.begin(batch1)
    O = op(input, q, batch2, **kwargs)
    record.marks[O] = Call(record.site, q, batch2.detach().mT)
    return O  # type: ignore[no-any-return]


def weights_in(record: "Recorder", a: Any, b: Any) -> tuple[Call, Tensor] | None:
    """The attention that a product ends, and its weights with queries as rows."""
    for x in (a, b):
        call = record.marks.get(x) if isinstance(x, Tensor) else None
        if call is not None and call.weights is not None and in_columns(x) == (x is b):
            return call, x if x is a else x.mT
    return None


def in_columns(scores: Tensor) -> bool:
    """Whether this view has the last two axes of its memory swapped: rows are keys."""
    return scores.shape[-2] > 1 and scores.stride(-2) < scores.stride(-1)


def einsum(record: "Recorder", op: Op, equation: str, *operands: Any) -> Tensor:
    """A sum of products that is a batch of matrix products is seen as one."""
    tensors = operands[0] if len(operands) == 1 and not isinstance(operands[0], Tensor) else operands
    axes = matrix_axes(equation) if len(tensors) == 2 else None
    if axes is None:
        return op(equation, *operands)  # type: ignore[no-any-return]
    with record:  # a mode is off inside its own handler
        a, b = (x.permute(order) for x, order in zip(tensors, axes[:2], strict=True))
        O: Tensor = (a @ b).permute(axes[2])
    return O


def matrix_axes(equation: str) -> tuple[list[int], list[int], list[int]] | None:
    """How to permute two operands for `@`, and what it gives: `bhid,bhjd->bhij` as 0123, 0132 and 0123."""
    left, _, out = equation.replace(" ", "").partition("->")
    one, _, two = left.partition(",")
    if not out or "." in equation or any(len(set(letters)) < len(letters) for letters in (one, two, out)):
        return None
    batch = [letter for letter in one if letter in two and letter in out]
    inner, rows, columns = set(one) & set(two) - set(out), set(one) - set(two), set(two) - set(one)
    if any(len(letters) != 1 for letters in (inner, rows, columns)) or set(out) != {*batch, *rows, *columns}:
        return None
    result = [*batch, *rows, *columns]
    left_order, right_order = [*batch, *rows, *inner], [*batch, *inner, *columns]
    return list(map(one.index, left_order)), list(map(two.index, right_order)), list(map(result.index, out))


def softmax(record: "Recorder", op: Op, *args: Any, **kwargs: Any) -> Tensor:
    A = op(*args, **kwargs)
    scores = args[0] if args else kwargs["input"]
    dim = args[1] if len(args) > 1 else kwargs.get("dim")
    mark = record.marks.get(scores)
    if mark is not None:
        record.unfinished += 1
        if dim in (-1, scores.ndim - 1) and not in_columns(scores):
            normaliser = scores.detach().logsumexp(dim=-1, keepdim=True) if record.normalisers else None
            record.marks[A] = replace(mark, weights=A.detach(), normaliser=normaliser)
    return A  # type: ignore[no-any-return]


def scaled(record: "Recorder", op: Op, *args: Any, **kwargs: Any) -> Any:
    """Multiplication by a number is remembered, so that q is known without the scale."""
    out = op(*args, **kwargs)
    x, other = args if len(args) == 2 else (None, None)
    if isinstance(x, Tensor) and isinstance(other, int | float) and not isinstance(other, bool) and other != 0:
        factor = 1 / other if op in DIVISIONS else other
        record.factors[out] = record.factors.get(x, 1.0) * factor
    record.follow(op, out, args)
    return out


def convolution(record: "Recorder", op: Op, *args: Any, **kwargs: Any) -> Tensor:
    """The sizes that convolutions produce may be the grid; some mix the heads of an attention instead."""
    out = by_patches(op(*args, **kwargs), *args, **kwargs)
    record.follow(op, out, args)
    flat = op is F.conv1d
    size = 0 if flat else out.shape[-2], out.shape[-1]
    if out.ndim == (3 if flat else 4) and size not in record.grids and out not in record.marks:
        record.grids.append(size)
    return out


def by_patches(out: Tensor, input: Tensor, weight: Tensor, *_: Any, **__: Any) -> Tensor:
    """The result of a convolution; with `Patches` if these neither overlap nor leave a gap, and no rule is on it."""
    if out.ndim != 4:
        return out
    (H, W), (h, w) = out.shape[-2:], weight.shape[-2:]
    fits = weight.shape[1:] == (input.shape[1], h, w) and input.shape[-2:] == (H * h, W * w)
    if not fits or not input.requires_grad or type(out.grad_fn).__name__ != "ConvolutionBackward0":
        return out
    result: Tensor = Patches.apply(out.detach(), input, weight.detach())  # type: ignore[no-untyped-call]
    return result


class Patches(torch.autograd.Function):
    """The result of a convolution of patches: dx = W' dy for each patch, seven times as fast as PyTorch's on a CPU."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, _x: Tensor, W: Tensor) -> Tensor:
        ctx.W = W  # not saved as a tensor: a checkpoint counts those
        return y.clone()

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[None, Tensor, None]:
        patches = dy.permute(0, 2, 3, 1) @ ctx.W.flatten(1)  # (B, H, W, C h w)
        dx = patches.unflatten(3, ctx.W.shape[1:]).permute(0, 3, 1, 4, 2, 5)  # (B, C, H, h, W, w)
        return None, dx.flatten(4, 5).flatten(2, 3), None


def grad_mode(_record: "Recorder", _op: Op, _enabled: bool) -> None:
    """A model that turns gradients off for itself is not asked: the recorder decides where a graph is built."""


def joined(record: "Recorder", op: Op, tensors: Any, *args: Any, **kwargs: Any) -> Tensor:
    """Scores that columns are added to (attention sinks) can no longer be followed."""
    record.unfinished += any(isinstance(x, Tensor) and x in record.marks for x in tensors)
    return op(tensors, *args, **kwargs)  # type: ignore[no-any-return]


def named(*names: str) -> tuple[Op, ...]:
    """Every function of PyTorch and method of a tensor with one of these names: each is an operation of its own."""
    found = (getattr(place, name, None) for name in names for place in (torch, F, Tensor))
    return tuple(op for op in found if callable(op))


DIVISIONS: set[Op] = {torch.div, torch.true_divide, Tensor.div, Tensor.div_, Tensor.__truediv__, Tensor.true_divide}
PRODUCTS: tuple[Op, ...] = (torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, Tensor.bmm)
ADDED_PRODUCTS: tuple[Op, ...] = (torch.baddbmm, Tensor.baddbmm)
SOFTMAXES: tuple[Op, ...] = (torch.softmax, Tensor.softmax, F.softmax)
SCALINGS: tuple[Op, ...] = (
    torch.mul,
    torch.multiply,
    Tensor.mul,
    Tensor.mul_,
    Tensor.multiply,
    Tensor.__mul__,
    *DIVISIONS,
)
RESHAPES: set[Op] = {
    *(torch.reshape, torch.transpose, torch.permute, torch.flatten, torch.swapaxes, torch.squeeze, torch.unsqueeze),
    *(Tensor.reshape, Tensor.transpose, Tensor.permute, Tensor.flatten, Tensor.swapaxes, Tensor.squeeze),
    *(Tensor.unsqueeze, Tensor.view, Tensor.contiguous, Tensor.unflatten, Tensor.to, Tensor.float),
}
OUT_OF_PLACE: dict[Op, Op] = {  # `x += y` is no other operation than x.add_(y)
    **{getattr(Tensor, f"{name}_"): getattr(Tensor, name) for name in ("add", "sub", "mul", "div", "relu")},
    **{getattr(Tensor, f"__i{name}__"): getattr(Tensor, name) for name in ("add", "sub", "mul")},
    Tensor.__itruediv__: Tensor.div,
    torch.relu_: torch.relu,
}
HANDLERS: dict[Op, Op] = {
    F.scaled_dot_product_attention: sdpa,
    F.multi_head_attention_forward: multihead,
    F.conv1d: convolution,
    F.conv2d: convolution,
    F.linear: linear,
    torch.einsum: einsum,
    torch._C._set_grad_enabled: grad_mode,
    **dict.fromkeys((torch.cat, torch.concat, torch.concatenate), joined),
    **dict.fromkeys(ADDED_PRODUCTS, added_product),
    **dict.fromkeys(PRODUCTS, product),
    **dict.fromkeys(SOFTMAXES, softmax),
    **dict.fromkeys(SCALINGS, scaled),
}
