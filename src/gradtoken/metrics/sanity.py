"""How far a map depends on what it should depend on: the class, the weights, and not on noise. Maps are (B, ...)."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from gradtoken.errors import UnknownName
from gradtoken.metrics.entry import metric
from gradtoken.metrics.maps import single

ADEBAYO = "https://arxiv.org/abs/1810.03292"
CLASSES = "https://arxiv.org/abs/2004.02866"


@metric(paper=CLASSES, better="")
def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Scalar product a . b / (|a| |b|); NaN for a map of zeros. -> (B,), -1 to 1"""
    a, b = single(a).flatten(1), single(b).flatten(1)
    return (a * b).sum(dim=1) / (length(a) * length(b))


def length(x: Tensor) -> Tensor:
    """Euclidean norm. (..., n) -> (...)"""
    return x.square().sum(dim=-1).sqrt()


@metric(paper=CLASSES, better="")
def pearson(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of the deviations from the mean; NaN for a constant map. -> (B,), -1 to 1"""
    a, b = (deviations(single(x).flatten(1)) for x in (a, b))
    return cosine(a, b)


def deviations(x: Tensor) -> Tensor:
    """Deviations x - mean, and exactly 0 for a constant row, whose mean is rounded. (B, n) -> (B, n)"""
    constant = x.amax(dim=1, keepdim=True) == x.amin(dim=1, keepdim=True)
    return (x - x.mean(dim=1, keepdim=True)).masked_fill(constant, 0)


@metric(paper=ADEBAYO, better="")
def spearman(a: Tensor, b: Tensor) -> Tensor:
    """Pearson of the ranks, equals sharing the mean of theirs; NaN for a constant map. -> (B,), -1 to 1"""
    return pearson(ranks(a), ranks(b))


def ranks(x: Tensor) -> Tensor:
    """1 for the lowest; equals share the mean of their ranks; NaN throughout a row with a NaN. (B, ...) -> (B, n)"""
    flat = single(x).flatten(1).contiguous()
    ordered = flat.sort(dim=1).values
    below, up_to = (torch.searchsorted(ordered, flat, right=right) for right in (False, True))
    place = (below + up_to + 1).to(flat.dtype) / 2
    return place.masked_fill(flat.isnan().any(dim=1, keepdim=True), torch.nan)


SIMILARITIES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cosine": cosine,
    "pearson": pearson,
    "spearman": spearman,
}


@metric(paper=CLASSES, better="higher")
def class_sensitivity(R: Tensor, other: Tensor, by: str = "pearson") -> Tensor:
    """1 - similarity of the maps of two classes of one picture: 0 where the class changes nothing. -> (B,), 0 to 2"""
    if by not in SIMILARITIES:
        raise UnknownName.among("similarity", by, SIMILARITIES)
    return 1 - SIMILARITIES[by](R, other)


@metric(paper=CLASSES, better="higher")
def class_map_distance(R: Tensor) -> Tensor:
    """Half the L1 distance of the positive parts, each summing to 1, mean over pairs of classes. (B, K, ...) -> (B,)

    0 where all classes' maps are proportional, 1 where no two overlap; NaN where a map has no positive relevance
    and for a single class.
    """
    positive = single(R).flatten(2).clamp(min=0)
    parts = positive / positive.sum(dim=2, keepdim=True)
    a, b = torch.triu_indices(R.shape[1], R.shape[1], offset=1, device=R.device)
    return (parts[:, a] - parts[:, b]).abs().sum(dim=2).mean(dim=1) / 2


@metric(paper=ADEBAYO, better="lower")
def randomisation_similarity(R: Tensor, randomised: Tensor, absolute: bool = False) -> Tensor:
    """Rank correlation with the map of the network with random weights. -> (B,), -1 to 1

    absolute: of |R|, which forgives a change of sign; Adebayo et al. report both.
    """
    return spearman(R.abs(), randomised.abs()) if absolute else spearman(R, randomised)


@metric(paper="https://arxiv.org/abs/1901.09392", better="lower")
def max_sensitivity(R: Tensor, near: Tensor) -> Tensor:
    """max_n |R_n - R| / |R| over maps of slightly changed inputs: a lower bound of it. (B, ...), (n, B, ...) -> (B,)

    Relative, as Captum has it; the paper does not divide. NaN where R and a difference are 0.
    """
    R, near = single(R).flatten(1), single(near).flatten(2)
    return (length(near - R) / length(R)).amax(dim=0)
