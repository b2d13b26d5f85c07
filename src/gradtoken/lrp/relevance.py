"""Rules of layer-wise relevance propagation in the form of Chefer et al. (arXiv 2012.09838).

What a rule's result hands back in the backward pass is relevance: R in, R out. Two sets share most rows. The published
LRP baseline divides the positive and the negative inputs of a projection each by their own sum, which hands out up to
twice the relevance; the conservative set divides by the common sum and balances residual connections.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gradtoken.lrp.backward import Hand, nothing, origin, pull
from gradtoken.lrp.names import DIV, LINEAR, Op, named, signs_of

Share = Callable[..., Tensor]
Map = Callable[[Tensor, Tensor], tuple[Tensor, Callable[[Tensor], Tensor]]]  # x, W -> x W, and S -> S W'
EPS = 1e-9
REVERSED = named("__rmatmul__")


def sd(a: Tensor, b: Tensor) -> Tensor:
    """Safe division: a / (b + 1e-9), 0 where b = 0. Masks of numbers are several times as fast as those of booleans."""
    divisor = b + EPS
    return a / divisor.add(1 - divisor.sign().abs(), alpha=EPS) * b.sign().abs()


# Projections ----------------------------------------------------------------------------------------------------------


def separate(f: Map, R: Tensor, x: Tensor, W: Tensor) -> Tensor:
    """R_in = x+ (R/Z1 W+) + x- (R/Z2 W-), Z1 = x+ W+, Z2 = x- W-: alpha = 1 in each half, no bias."""
    halves = ((x.clamp(min=0), W.clamp(min=0)), (x.clamp(max=0), W.clamp(max=0)))
    total = torch.zeros_like(x)
    for x_, W_ in halves:
        Z, back = f(x_, W_)
        total = total + x_ * back(R / (Z + EPS))  # Z >= 0; where it is 0 no input has a share
    return total


def common(f: Map, R: Tensor, x: Tensor, W: Tensor) -> Tensor:
    """R_in = x+ (T W+) + x- (T W-), T = R / (x+ W+ + x- W-): conserved, no bias."""
    xp, xn = x.clamp(min=0), x.clamp(max=0)
    (Zp, p), (Zn, n) = f(xp, W.clamp(min=0)), f(xn, W.clamp(max=0))
    T = R / (Zp + Zn + EPS)  # Z >= 0; where it is 0 no input has a share
    return torch.addcmul(xp * p(T), xn, n(T))


def box(f: Map, R: Tensor, x: Tensor, W: Tensor) -> Tensor:
    """z^B rule for pixels between the smallest and largest of each picture, l and h: Z = x W - l W+ - h W-."""
    l, h = (e.reshape(-1, *(1,) * (x.ndim - 1)).expand_as(x) for e in (x.flatten(1).amin(1), x.flatten(1).amax(1)))
    (Zx, of_x), (Zl, of_l), (Zh, of_h) = f(x, W), f(l, W.clamp(min=0)), f(h, W.clamp(max=0))
    S = R / (Zx - Zl - Zh + EPS)
    return x * of_x(S) - l * of_l(S) - h * of_h(S)


def projection(
    share: Share, op: Op, x: Tensor, weight: Tensor, bias: Tensor | None = None, *more: Any, **how: Any
) -> Tensor:
    """A projection or convolution, its relevance shared out by `separate` or `common`; its bias takes none."""
    W = weight.detach()

    def f(x: Tensor, W: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        if op in LINEAR and W.ndim == 2:
            return x @ W.mT, lambda S: S @ W
        y, back = pull(lambda x: op(x, W, None, *more, **how), x)
        return y, lambda S: back(S)[0]

    def shares(R: Tensor, x: Tensor) -> tuple[Tensor]:
        return (share(f, R, x, W),)

    return Hand.of(lambda x: op(x, weight, bias, *more, **how), shares, x)


def patches(share: Share, op: Op, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """A convolution; with up to three channels x is the picture, and takes the rule for pixels."""
    return projection(box if x.shape[1] <= 3 else share, op, x, *args, **kwargs)


# Products and sums ----------------------------------------------------------------------------------------------------


def product(share: Share, op: Op, a: Tensor, b: Tensor) -> Tensor:
    """Matrix product, z-rule for each operand and half of R to each: R_a = a (S b') / 2, S = R / (a b).

    The epsilon of the division is added before the scale of an attention, also where q or k had it already.
    """
    if not b.requires_grad and b.ndim == 2:
        return projection(share, F.linear, a, b.mT)
    both, scale = a.requires_grad and b.requires_grad, scale_of(a) * scale_of(b)

    def shares(R: Tensor, Z: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        S = sd(R, Z if scale == 1 else Z / scale) / (scale * (1 + both))
        return tuple(x * g for x, g in zip((a, b), operands(op, a, b, S), strict=True))

    return Hand.of(op, shares, a, b, keep=lambda *kept: kept)


def operands(op: Op, a: Tensor, b: Tensor, S: Tensor) -> tuple[Tensor, ...]:
    """The gradient S of a matrix product by each operand, which is S b' and a' S in matrices of one batch."""
    if op not in REVERSED and a.shape[:-2] == b.shape[:-2] and min(a.ndim, b.ndim) > 1:
        return S @ b.mT, a.mT @ S
    return pull(op, a, b)[1](S)


@dataclass(frozen=True)
class Scaled:
    """A factor hands relevance on unchanged; a number is remembered."""

    factor: float = 1.0

    def __call__(self, R: Tensor, x: Tensor) -> tuple[Tensor]:
        return (R.sum_to_size(x.shape),)


def scale_of(x: Tensor) -> float:
    """The number that x has just been multiplied by."""
    shares = getattr(origin(x), "shares", None)
    return shares.factor if isinstance(shares, Scaled) else 1.0


def scaled(x: Tensor, factor: float) -> Tensor:
    """X as it is, with the number that it is said to have been multiplied by."""
    return x if factor == 1 else Hand.of(lambda x: x.view_as(x), Scaled(factor), x)


def multiplied(op: Op, a: Any, b: Any, **kwargs: Any) -> Tensor:
    """Elementwise: half of R to each; all of it where the other is a constant."""
    tensors = [x for x in (a, b) if isinstance(x, Tensor) and x.requires_grad]
    if len(tensors) == 2:
        return Hand.of(op, lambda R, a, b: ((R / 2).sum_to_size(a.shape), (R / 2).sum_to_size(b.shape)), a, b)
    if isinstance(b, int | float) and b != 0:
        return Hand.of(lambda x: op(x, b, **kwargs), Scaled(1 / b if op in DIV else b), a)
    run = (lambda x: op(x, b, **kwargs)) if tensors[0] is a else (lambda x: op(a, x, **kwargs))
    return Hand.of(run, Scaled(), *tensors)


def added(op: Op, a: Any, b: Any, *, alpha: float = 1, balance: bool) -> Tensor:
    """Residual connections, positions and masks: R_a = a R / (a + b), where a constant keeps its share.

    balance: rescale the two so that, in each sample, they sum to |S_a| and |S_b| parts of the sum of R, S being their
    sums before (Chefer et al. take them over the batch).
    """
    signs = signs_of(op, alpha)
    terms = [x if isinstance(x, Tensor) else torch.tensor(x) for x in (a, b)]

    def shares(R: Tensor, *terms: Tensor) -> tuple[Tensor, ...]:
        parts = [(x if sign == 1 else sign * x).to(R).expand_as(R) for sign, x in zip(signs, terms, strict=True)]
        S = sd(R, parts[0] + parts[1])
        found = [x.nan_to_num(torch.nan, 0, 0) * S for x in parts]  # a hidden score may be infinite, and has S = 0
        found = balanced(R, found) if balance else found
        return tuple(r.sum_to_size(x.shape) for r, x in zip(found, terms, strict=True))

    options = {} if alpha == 1 else {"alpha": alpha}
    return Hand.of(lambda *_: op(a, b, **options), shares, *terms)


def balanced(R: Tensor, parts: list[Tensor]) -> list[Tensor]:
    """Parts of a sum, rescaled in each sample; see `added`."""
    sums = [per_sample(x) for x in parts]
    size = sums[0].abs() + sums[1].abs()
    return [x * sd(sd(s.abs(), size) * per_sample(R), s) for x, s in zip(parts, sums, strict=True)]


def per_sample(x: Tensor) -> Tensor:
    """Sum over all but the first axis, which stays with as many axes as x has."""
    return x.sum(dim=tuple(range(1, x.ndim)), keepdim=True) if x.ndim > 1 else x


# One operand ----------------------------------------------------------------------------------------------------------


def passed(op: Op, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Norms, activations and softmax: R_in = R."""
    return Hand.of(lambda x: op(x, *args, **kwargs), lambda R: (R,), x, keep=nothing)


def linear_map(op: Op, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Any linear map of x, z-rule: R_in = x f'(R / f(x))."""

    def shares(R: Tensor, x: Tensor) -> tuple[Tensor]:
        Z, back = pull(lambda x: op(x, *args, **kwargs), x)
        return (x * back(sd(R, Z))[0],)

    return Hand.of(lambda x: op(x, *args, **kwargs), shares, x)


def branched(R: Tensor, x: Tensor) -> Tensor:
    """A tensor that several operations read: x (sum of R_i / x), which is the sum of R_i but for the epsilon."""
    return x * sd(R, x)
