"""The presets: which rule each operation gets. An operation without a row is refused."""

from collections.abc import Iterable
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gradtoken.errors import NoRule, UnknownName
from gradtoken.lrp import absolute, modified, names, norms, relevance
from gradtoken.lrp.attended import attended
from gradtoken.lrp.attention import attention
from gradtoken.lrp.names import Op
from gradtoken.lrp.propagate import Nested, Open, Preset, Row, Rule, branch, instead, plain
from gradtoken.multihead import multi_head_attention
from gradtoken.operations import matrix_axes


def rows(rule: Row, *groups: Iterable[Op]) -> dict[Op, Row]:
    """One rule for all operations of these groups."""
    return {op: rule for group in groups for op in group}


# Rows that ask first --------------------------------------------------------------------------------------------------


def divided(rule: Rule, op: Op, a: Any, b: Any, **kwargs: Any) -> Any:
    """A division by a constant."""
    if isinstance(b, Tensor) and b.requires_grad:
        raise NoRule("no relevance rule for a division by what depends on the input; only norms may divide")
    return rule(op, a, b, **kwargs)


def taken(rule: Rule, op: Op, x: Tensor, index: Any) -> Any:
    """A token taken out of (B, N, C), x[:, 0], has a rule; other slices change the shape alone."""
    token = isinstance(index, tuple) and len(index) > 1 and index[0] == slice(None) and isinstance(index[1], int)
    return (rule if token and x.ndim == 3 else plain)(op, x, index)


def raised(rule: Rule, op: Op, x: Tensor, exponent: float = 2, **kwargs: Any) -> Any:
    """A power is an activation, or with a negative exponent a norm."""
    if op in names.SQUARE:
        return rule(op, x, **kwargs)
    return (modified.constant if exponent < 0 else rule)(op, x, exponent, **kwargs)


def fixed(rule: Rule, op: Op, x: Tensor, mean: Tensor | None, *args: Any, **kwargs: Any) -> Any:
    """Batch norm with the statistics of the training set, an affine map."""
    if mean is None or kwargs.get("training") or True in args[3:4]:
        raise NoRule("no relevance rule for torch.nn.functional.batch_norm over the batch itself, which mixes samples")
    return rule(op, x, mean, *args, **kwargs)


# Operations written with others ---------------------------------------------------------------------------------------


def einsum(equation: str, *operands: Any) -> Tensor:
    """A sum of products that is a batch of matrix products."""
    tensors = operands[0] if len(operands) == 1 and not isinstance(operands[0], Tensor) else operands
    axes = matrix_axes(equation) if len(tensors) == 2 else None
    if axes is None:
        raise NoRule(f"no relevance rule for torch.einsum({equation!r}), which is no product of two matrices")
    a, b = (x.permute(order) for x, order in zip(tensors, axes[:2], strict=True))
    product: Tensor = (a @ b).permute(axes[2])
    return product


def added_product(bias: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """Beta * bias + alpha * (a @ b)."""
    product = a @ b if alpha == 1 else (a @ b) * alpha
    return product if beta == 0 else product + (bias if beta == 1 else bias * beta)


def projected(bias: Tensor, x: Tensor, W: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """`addmm`, as a projection where it is one."""
    if beta == alpha == 1 and bias.ndim == 1:
        return F.linear(x, W.mT, bias)
    return added_product(bias, x, W, beta=beta, alpha=alpha)


OPENED: dict[Op, Row] = {
    F.multi_head_attention_forward: Open(multi_head_attention),
    torch.einsum: Open(einsum),
    **rows(Open(added_product), names.named("baddbmm")),
    **rows(Open(projected), names.named("addmm")),
}

BASE: dict[Op, Row] = {
    **rows(plain, names.STRUCTURAL, names.GETITEM, names.DROPOUT),
    **rows(modified.constant, names.NORMALISERS),
    **rows(partial(divided, plain), names.DIV),
    **OPENED,
}

# Modified gradients ---------------------------------------------------------------------------------------------------

GRADIENT: dict[Op, Row] = {
    **BASE,
    **rows(plain, names.LINEAR, names.CONVOLUTIONS, names.POOLINGS),
    **rows(plain, names.ADD, names.SUB, names.RSUB, names.NEGATION),
    **rows(modified.halved, names.MUL),
    **rows(instead(plain, norms.layer_norm), names.LAYER_NORM),
    **rows(instead(plain, norms.rms_norm), names.RMS_NORM),
    **rows(instead(plain, norms.unit), names.NORMALIZE),
    **rows(modified.identity, names.ELEMENTWISE),
    **rows(partial(raised, modified.identity), names.POW),
    **rows(partial(fixed, plain), names.BATCH_NORM),
}

ATTN_LRP: Preset = {
    **GRADIENT,
    **rows(modified.halved, names.MATMUL),
    **rows(instead(plain, norms.softmax), names.SOFTMAX),
    **rows(modified.quartered, names.ATTENTION),
}

CP_LRP: Preset = {
    **GRADIENT,
    **rows(modified.halved, names.MATMUL),
    **rows(instead(modified.constant, norms.softmax), names.SOFTMAX),
    **rows(modified.values_only, names.ATTENTION),
}

LIBRA: Preset = {**CP_LRP, **rows(modified.secant, names.ELEMENTWISE)}


@cache
def with_gamma(linear: float, convolution: float) -> Preset:
    """CP-LRP with the gamma rule on projections and convolutions."""
    preset = dict(CP_LRP)
    for rate, group in ((linear, names.LINEAR), (convolution, names.CONVOLUTIONS)):
        if rate:
            preset |= rows(partial(modified.gamma, rate), group)
    return preset


# Relevance ------------------------------------------------------------------------------------------------------------


def chefer(share: Rule, *, balance: bool) -> Preset:
    """The rules that both sets of Chefer et al. have in common, and those that make the difference."""
    return {
        **BASE,
        branch: relevance.branched,
        **rows(partial(relevance.projection, share), names.LINEAR),
        **rows(partial(relevance.patches, share), names.CONVOLUTIONS),
        **rows(partial(relevance.product, share), names.MATMUL),
        **rows(partial(relevance.added, balance=balance), names.ADD, names.SUB, names.RSUB),
        **rows(relevance.multiplied, names.MUL),
        **rows(partial(divided, relevance.multiplied), names.DIV),
        **rows(relevance.passed, names.NEGATION, names.ELEMENTWISE),
        **rows(partial(raised, relevance.passed), names.POW),
        **rows(partial(fixed, relevance.passed), names.BATCH_NORM),
        **rows(instead(relevance.passed, norms.softmax), names.SOFTMAX),
        **rows(relevance.passed, names.LAYER_NORM, names.RMS_NORM, names.NORMALIZE),
        **rows(relevance.linear_map, names.POOLINGS),
        **rows(partial(taken, relevance.linear_map), names.GETITEM),
        **rows(Nested(attended), names.ATTENTION),
    }


LRP_PUBLISHED = chefer(relevance.separate, balance=False)
LRP_CONSERVATIVE = chefer(relevance.common, balance=True)

CHEFER: dict[str, Preset] = {"published": LRP_PUBLISHED, "conservative": LRP_CONSERVATIVE}


def rule_set(name: str) -> Preset:
    """One of `CHEFER`. Raises UnknownName."""
    if name not in CHEFER:
        raise UnknownName.among("rule set", name, CHEFER)
    return CHEFER[name]


ABS_LRP: Preset = {
    **BASE,
    **rows(absolute.absolute, names.LINEAR, names.CONVOLUTIONS, names.MATMUL, names.POOLINGS),
    **rows(absolute.absolute, names.ELEMENTWISE),
    **rows(partial(raised, absolute.absolute), names.POW),
    **rows(absolute.added, names.ADD, names.SUB, names.RSUB),
    **rows(absolute.multiplied, names.MUL),
    **rows(partial(divided, absolute.multiplied), names.DIV),
    **rows(absolute.scaled, names.NEGATION),
    **rows(absolute.softmax, names.SOFTMAX),
    **rows(instead(absolute.absolute, partial(norms.layer_norm, frozen_mean=True)), names.LAYER_NORM),
    **rows(instead(absolute.absolute, norms.rms_norm), names.RMS_NORM),
    **rows(instead(absolute.absolute, norms.unit), names.NORMALIZE),
    **rows(absolute.dropped, names.DROPOUT),
    **rows(partial(taken, absolute.absolute), names.GETITEM),
    **rows(Open(attention), names.ATTENTION),
}
