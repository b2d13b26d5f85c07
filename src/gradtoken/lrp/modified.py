"""Rules that modify the gradient: relevance is activation times gradient.

AttnLRP (Achtibat et al., arXiv 2402.05602), CP-LRP (Ali et al., arXiv 2202.07304), LibraGrad (Mehri et al., arXiv
2411.16760).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gradtoken.lrp.backward import Hand, nothing, pull
from gradtoken.lrp.names import Op

EPS = 1e-10
NEAR = 1e-6  # an activation's slope is its limit nearer to zero than this


def part(x: Tensor, share: float) -> Tensor:
    """X, whose gradient is multiplied by a share."""
    return Hand.of(lambda x: x.view_as(x), lambda g: (share * g,), x, keep=nothing)


def halved(op: Op, a: Any, b: Any, **kwargs: Any) -> Tensor:
    """A product of two operands that carry relevance gives half to each."""
    if all(isinstance(x, Tensor) and x.requires_grad for x in (a, b)):
        a, b = part(a, 0.5), part(b, 0.5)
    y: Tensor = op(a, b, **kwargs)
    return y


def quartered(op: Op, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Fused attention is two nested products: a half for v, a quarter for q and k (AttnLRP)."""
    carrying = query.requires_grad + key.requires_grad
    of_scores, of_value = 0.5**carrying, 0.5 if carrying else 1.0
    shares = ((query, of_scores), (key, of_scores), (value, of_value))
    y: Tensor = op(*(part(x, share) if x.requires_grad else x for x, share in shares), *args, **kwargs)
    return y


def values_only(op: Op, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Fused attention with A as a constant: relevance flows through v alone (CP-LRP, LibraGrad)."""
    y: Tensor = op(query.detach(), key.detach(), value, *args, **kwargs)
    return y


def constant(op: Op, *args: Any, **kwargs: Any) -> Tensor:
    """A result without relevance: a norm, or attention under CP-LRP."""
    y: Tensor = op(*args, **kwargs)
    return y.detach()


# Activations ----------------------------------------------------------------------------------------------------------


def identity(op: Op, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Elementwise f hands relevance on unchanged: its gradient is f(x) / (x + 1e-10)."""
    return slope(lambda x, y: y / (x + EPS), op, x, *args, **kwargs)


def secant(op: Op, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """The gradient of f is f(x) / x, its limit included: Phi(x) for GELU, the logistic function for SiLU."""

    def through_zero(x: Tensor, y: Tensor) -> Tensor:
        near = x.abs() < NEAR
        h = torch.full_like(x, NEAR)
        return (y / x).where(~near, op(h, *args, **kwargs) / h)

    return slope(through_zero, op, x, *args, **kwargs)


def slope(factor: Callable[[Tensor, Tensor], Tensor], op: Op, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """f(x) with the gradient factor(x, f(x))."""

    def run(x: Tensor) -> Tensor:
        y: Tensor = op(x, *args, **kwargs)
        return y

    return Hand.of(run, lambda g, s: (g * s,), x, keep=lambda y, x: (factor(x, y),))


# Projections ----------------------------------------------------------------------------------------------------------


def gamma(rate: float, op: Op, x: Tensor, weight: Tensor, bias: Tensor | None = None, *more: Any, **how: Any) -> Tensor:
    """Gamma rule: contributions with the sign of the output z count 1 + rate times.

    With z > 0, an input x_i >= 0 hands back by W + rate W+, one < 0 by W + rate W-; with z < 0 the other way round.
    A share is g z / z', where z' is the output under these weights (Montavon et al., doi 10.1007/978-3-030-28954-6_10,
    for inputs of either sign). At rate 0 it is the ordinary gradient.
    """

    def f(x: Tensor, W: Tensor, b: Tensor | None) -> Tensor:
        y: Tensor = op(x, W, b, *more, **how)
        return y

    def shares(g: Tensor, x: Tensor) -> tuple[Tensor]:
        z, total = f(x, weight, bias), torch.zeros_like(x)
        for sign in (1, -1):
            same, other, b = raised(weight, rate, sign), raised(weight, rate, -sign), raised(bias, rate, sign)
            z_, back = pull(
                lambda p, n, s=same, o=other, b=b: f(p, s, b) + f(n, o, None), x.clamp(min=0), x.clamp(max=0)
            )
            positive, negative = back((g * z / z_).where(sign * z > 0, 0))
            total = total + positive.where(x > 0, negative)
        return (total,)

    return Hand.of(lambda x: f(x, weight, bias), shares, x)


def raised(W: Tensor | None, rate: float, sign: int) -> Tensor | None:
    """Weights with this sign (1 + rate) times."""
    return None if W is None else W + rate * sign * (sign * W.detach()).clamp(min=0)
