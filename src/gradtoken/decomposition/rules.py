"""What every operation makes of the parts of its operands: one table, `RULES`.

A rule gets a step and `parts`, which gives the parts of a tensor that the step read, and returns those of its result:
a tensor, or a tuple of them.
"""

from collections.abc import Callable, Mapping
from numbers import Number
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import vmap
from torch.overrides import resolve_name

from gradtoken.decomposition.journal import Step
from gradtoken.decomposition.parts import of_constant, shared, with_bias
from gradtoken.errors import NoRule
from gradtoken.operations import PRODUCTS, Op, named

Parts = Callable[[Tensor], Tensor]
Rule = Callable[[Step, Parts], Any]


# Operations that are linear ------------------------------------------------------------------------------------------


def each(step: Step, parts: Parts) -> Any:
    """A linear operation on one operand: it acts on each part."""
    if len(step.read) > 1:
        shapes = " and ".join(str(tuple(x.shape)) for x in step.read)
        raise NoRule(
            f"{resolve_name(step.op)} takes tensors {shapes}, which are all made of tokens: their product is no sum of "
            "parts; only attention weights and the gates of sigmoid units count as constants"
        )
    return apply(step, {id(x): parts(x) for x in step.read})


def joined(step: Step, parts: Parts) -> Any:
    """An operation that is linear in all its operands together; those without parts are constants."""
    like = parts(step.read[0])
    read = {id(x) for x in step.read}
    tensors = [x for x in leaves((step.args, step.kwargs)) if isinstance(x, Tensor)]
    return apply(step, {id(x): parts(x) if id(x) in read else of_constant(x, like) for x in tensors})


def added(step: Step, parts: Parts) -> Tensor:
    """A sum on the residual stream: parts add, then what is left of biases is shared out."""
    args = [torch.tensor(x, device=step.out.device) if isinstance(x, Number) else x for x in step.args[:2]]
    total: Tensor = joined(step._replace(args=(*args, *step.args[2:])), parts)
    return shared(total)


def unchanged(step: Step, parts: Parts) -> Tensor:
    """Another copy, another number format, or dropout that does nothing."""
    return parts(step.read[0])


def linear(step: Step, parts: Parts) -> Tensor:
    """W x_j; the bias joins the last part."""
    W, bias = step.argument(1, "weight"), step.argument(2, "bias")
    p = parts(step.read[0])
    return with_bias(F.linear(p, W.to(p.dtype)), bias)


def added_matrix(step: Step, parts: Parts) -> Tensor:
    """The same with the bias first, as `torch.addmm` has it."""
    p = parts(step.read[0])
    return with_bias(p @ step.argument(2, "mat2").to(p.dtype), step.argument(0, "input"))


def apply(step: Step, values: Mapping[int, Tensor]) -> Any:
    """The operation on each part of these operands, found by their identity, everything else as it was."""
    op = Tensor.reshape if step.op is Tensor.view else step.op

    def run(one: Mapping[int, Tensor]) -> Any:
        args, kwargs = replaced((step.args, step.kwargs), one)
        return op(*args, **kwargs)

    return vmap(run)(dict(values))


def replaced(x: Any, values: Mapping[int, Tensor]) -> Any:
    """Arguments with some of their tensors, found by their identity, in place of others."""
    if isinstance(x, dict):
        return {name: replaced(value, values) for name, value in x.items()}
    if isinstance(x, list | tuple) and not isinstance(x, torch.Size):
        return type(x)([replaced(value, values) for value in x])
    return values.get(id(x), x)


def leaves(x: Any) -> list[Any]:
    """Everything in nested arguments."""
    inner = x.values() if isinstance(x, dict) else x if isinstance(x, list | tuple) else None
    return [x] if inner is None else [leaf for value in inner for leaf in leaves(value)]


# Attention: A is a constant ------------------------------------------------------------------------------------------


def attention(step: Step, parts: Parts) -> Tensor:
    """A v_j, with A = the attention of an identity matrix."""
    query, key, value, mask = (step.argument(i, name) for i, name in enumerate(("query", "key", "value", "attn_mask")))
    p = parts(value)
    identity = torch.eye(value.shape[-2], dtype=p.dtype, device=p.device).expand(*value.shape[:-1], -1)
    mask = mask if mask is None or mask.dtype == torch.bool else mask.to(p.dtype)
    kwargs = {name: x for name, x in step.kwargs.items() if name not in ("query", "key", "value", "attn_mask")}
    return weighted(step.op(query.to(p.dtype), key.to(p.dtype), identity, mask, *step.args[4:], **kwargs), p)


def product(step: Step, parts: Parts) -> Any:
    """A v_j written by hand, or any product with a constant matrix."""
    if len(step.read) == 1 and step.read[0] is step.argument(1, "other"):
        return weighted(step.args[0], parts(step.read[0]))
    return each(step, parts)


def weighted(A: Tensor, p: Tensor) -> Tensor:
    """A times every part, in one product. (..., N, M), (J, ..., M, D) -> (J, ..., N, D)"""
    if A.ndim > 2 and p.ndim > 3 and A.shape[-3] > p.shape[-3] > 1:  # grouped heads
        p = p.repeat_interleave(A.shape[-3] // p.shape[-3], dim=-3)
    columns = p.movedim(0, -2)
    Z = A.to(p.dtype) @ columns.flatten(-2)
    return Z.reshape(*Z.shape[:-1], *columns.shape[-2:]).movedim(-2, 0)


# Operations made linear at the true value ----------------------------------------------------------------------------


def layer_norm(step: Step, parts: Parts) -> Tensor:
    """(x_j - mean(x_j)) gamma / sigma with the sigma of the true value; beta is shared out."""
    x, shape = step.read[0], step.argument(1, "normalized_shape")
    gamma, beta = step.argument(2, "weight"), step.argument(3, "bias")
    p, dims = parts(x), tuple(range(-len(shape), 0))
    variance = x.to(p.dtype).var(dims, correction=0, keepdim=True)
    p = (p - p.mean(dims, keepdim=True)) / (variance + step.argument(4, "eps", 1e-5)).sqrt()
    return shared(with_bias(p if gamma is None else p * gamma, beta))


def rms_norm(step: Step, parts: Parts) -> Tensor:
    """x_j gamma / rms with the rms of the true value."""
    x, shape, gamma = step.read[0], step.argument(1, "normalized_shape"), step.argument(2, "weight")
    p, dims, eps = parts(x), tuple(range(-len(shape), 0)), step.argument(3, "eps")
    square = x.to(p.dtype).square().mean(dims, keepdim=True)
    p = p / (square + (torch.finfo(x.dtype).eps if eps is None else eps)).sqrt()
    return p if gamma is None else p * gamma


def unit(step: Step, parts: Parts) -> Tensor:
    """x_j / |x| with the length of the true value."""
    x, p = step.read[0], parts(step.read[0])
    order, dim, eps = step.argument(1, "p", 2), step.argument(2, "dim", 1), step.argument(3, "eps", 1e-12)
    length: Tensor = x.to(p.dtype).norm(order, dim, keepdim=True)
    return p / length.clamp(min=eps)


def zero_origin(step: Step, parts: Parts) -> Tensor:
    """f(x) / x times each part, after biases are shared out: the line from the origin to the true value."""
    x = step.read[0]
    slope: Tensor = (step.out / x.where(x != 0, 1)).where(x != 0, 0)
    return shared(parts(x)) * slope


# The table -----------------------------------------------------------------------------------------------------------

LINEAR: set[Op] = {F.linear, torch.addmm}
ATTENTION: set[Op] = {F.scaled_dot_product_attention}
ACTIVATIONS = named(
    *("gelu", "silu", "relu", "relu6", "tanh", "leaky_relu", "elu", "celu", "selu", "mish", "hardswish")
)
STRUCTURE = (
    *named(
        "reshape",
        "reshape_as",
        "view",
        "view_as",
        "flatten",
        "unflatten",
        "squeeze",
        "unsqueeze",
        "__getitem__",
        "select",
    ),
    *named("transpose", "swapaxes", "swapdims", "permute", "movedim", "moveaxis", "flip", "roll", "narrow"),
    *named("expand", "expand_as", "repeat", "repeat_interleave", "chunk", "split", "tensor_split", "unbind"),
    *named("gather", "index_select", "take_along_dim", "mean", "sum", "neg", "negative", "__neg__"),
    *(Tensor.T.__get__, Tensor.mT.__get__),  # type: ignore[attr-defined]
)
SCALINGS = named("mul", "multiply", "__mul__", "__rmul__", "div", "divide", "true_divide", "__truediv__")
COPIES = (
    *named("contiguous", "clone", "detach", "to", "type", "type_as", "float", "double", "half", "bfloat16"),
    *named("dropout", "dropout1d", "feature_dropout"),
)
RULES: dict[Op, Rule] = {
    **dict.fromkeys((*STRUCTURE, *SCALINGS), each),
    **dict.fromkeys(named("cat", "concat", "concatenate", "stack"), joined),
    **dict.fromkeys(named("add", "__add__", "__radd__", "sub", "subtract", "__sub__"), added),
    **dict.fromkeys(COPIES, unchanged),
    **dict.fromkeys(ACTIVATIONS, zero_origin),
    **dict.fromkeys(named("layer_norm"), layer_norm),
    **dict.fromkeys(named("rms_norm"), rms_norm),
    F.normalize: unit,
    **dict.fromkeys(PRODUCTS, product),
    **dict.fromkeys(ATTENTION, attention),
    F.linear: linear,
    torch.addmm: added_matrix,
}
