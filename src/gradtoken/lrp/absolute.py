"""Relative absolute magnitude propagation (absLRP): Vukadin, Afric, Silic, Delac, arXiv 2412.09311.

f|.| is an operation with the absolute values of its input and of its weights. The relevance of each argument is
R_in = x d< f(x) + f|.|(x), R / (|f(x)| + 1e-9) >/dx, scaled to sum |R_in| = 1 in each sample.

Norms and softmax have their statistics, which are constants, from x in f and from |x| in f|.|. The arguments of a sum
are not cut from the graph in the authors' code: the share of a skip connection holds what reaches it through the branch
too. A backward pass with create_graph=True is such a pass inside another: it carries gradients, not relevance.
"""

from typing import Any

import torch
from torch import Tensor, nn

from gradtoken.attention import MASKED
from gradtoken.lrp.backward import Hand, origin, pull
from gradtoken.lrp.names import Op, signs_of
from gradtoken.lrp.propagate import plain
from gradtoken.lrp.relevance import per_sample

EPS = 1e-9


class Position(Hand):
    """A sum with a constant: tokens with their positions."""


def entered(x: Tensor) -> Tensor:
    """The tokens of a text that enter the first block, as ones with their positions: see `dropped`."""
    return Position.of(lambda x: x.view_as(x), lambda R, _: (R,), x)


def unit(R: Tensor) -> Tensor:
    """R scaled to sum |R| = 1 in each sample."""
    return R / (per_sample(R.abs()) + EPS)


def is_gradient() -> bool:
    """Whether this backward pass is one of gradients."""
    return torch.is_grad_enabled()


def absolute(op: Op, *args: Any, **kwargs: Any) -> Tensor:
    """The rule for any operation; each tensor that carries relevance is an argument."""
    places = [i for i, x in enumerate(args) if isinstance(x, Tensor) and x.requires_grad]
    others = filled(args, places, [None] * len(places))

    def f(*x: Tensor) -> Tensor:
        y: Tensor = op(*filled(others, places, x), **kwargs)
        return y

    def twin(*x: Tensor) -> Tensor:
        options = {name: size(w) for name, w in kwargs.items()}
        y: Tensor = op(*filled(map(size, others), places, [e.abs() for e in x]), **options)
        return y

    def shares(R: Tensor, *x: Tensor) -> tuple[Tensor, ...]:
        y, back = pull(f, *x)
        if is_gradient():
            return back(R)
        S = R / (y.abs() + EPS)
        slopes = [g + t for g, t in zip(back(S), pull(twin, *x)[1](S), strict=True)]
        return tuple(unit((e * s).where(s != 0, 0)) for e, s in zip(x, slopes, strict=True))  # x may be -inf, hidden

    return Hand.of(f, shares, *(args[i] for i in places))


def filled(args: Any, places: list[int], x: Any) -> list[Any]:
    """The arguments with x at these places."""
    found = list(args)
    for place, value in zip(places, x, strict=True):
        found[place] = value
    return found


def size(x: Any) -> Any:
    return x.detach().abs() if isinstance(x, Tensor) and x.is_floating_point() else x


def added(op: Op, a: Any, b: Any, *, alpha: float = 1) -> Tensor:
    """Residual connections: R_a = a d< y + |a| + |b|, R / (|y| + 1e-9) >/da, y = a + b, through the branch too.

    A mask hides, and hands relevance on unchanged.
    """
    if isinstance(b, Tensor) and is_mask(b):
        return scaled(lambda a: op(a, b), a)
    signs = signs_of(op, alpha)
    terms = [x if isinstance(x, Tensor) else torch.tensor(x) for x in (a, b)]

    def shares(R: Tensor, *terms: Tensor) -> list[Tensor | None]:
        if is_gradient():
            return [(sign * R).sum_to_size(x.shape) for sign, x in zip(signs, terms, strict=True)]
        carrying = [x for x in terms if x.requires_grad]
        with torch.enable_grad():
            parts = [sign * x for sign, x in zip(signs, terms, strict=True)]
            y = parts[0] + parts[1]
            S = (R / (y.abs() + EPS)).detach()
            found = torch.autograd.grad(y + parts[0].abs() + parts[1].abs(), carrying, S, create_graph=True)
        by_term = iter(found)
        return [unit((x * next(by_term)).detach()) if x.requires_grad else None for x in terms]

    options = {} if alpha == 1 else {"alpha": alpha}
    constant = any(isinstance(x, nn.Parameter) or not x.requires_grad for x in terms)
    kind = Position if constant else Hand
    return kind.of(lambda *_: op(a, b, **options), shares, *terms)


def is_mask(x: Tensor) -> bool:
    """A constant of zeros and of numbers that hide a score."""
    return not x.requires_grad and bool(((x == 0) | (x <= MASKED)).all())


def softmax(_op: Op, x: Tensor, dim: int = -1, **_: Any) -> Tensor:
    """Largest score and sum are constants; what is hidden stays hidden in the twin, although its size is large."""
    hidden = x.detach() <= MASKED / 2
    hidden = hidden & ~hidden.all(dim, keepdim=True)  # the row of a token that is padding itself

    def f(x: Tensor) -> Tensor:
        e = x.masked_fill(hidden, -torch.inf)
        e = (e - e.amax(dim, keepdim=True).detach()).exp()
        return e / e.sum(dim, keepdim=True).detach()

    return absolute(f, x)


def dropped(op: Op, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Dropout that does nothing is an operation as any other, which takes no relevance from negative values.

    The dropout of the embeddings is none of those that the authors' code passes.
    """
    node = origin(x)
    if node is not None and node.name() == "PositionBackward":
        y: Tensor = plain(op, x, *args, **kwargs)
        return y
    return absolute(op, x, *args, **kwargs)


def multiplied(op: Op, a: Any, b: Any, **kwargs: Any) -> Tensor:
    """Elementwise; a constant factor hands relevance on unchanged."""
    tensors = [x for x in (a, b) if isinstance(x, Tensor) and x.requires_grad]
    if len(tensors) == 2:
        return absolute(op, a, b)
    run = (lambda x: op(x, b, **kwargs)) if tensors[0] is a else (lambda x: op(a, x, **kwargs))
    return scaled(run, tensors[0])


def scaled(op: Op, x: Tensor) -> Tensor:
    def shares(R: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        return pull(op, x)[1](R) if is_gradient() else (R.sum_to_size(x.shape),)

    return Hand.of(op, shares, x)
