"""What happens to the class probability when part of the input is kept or erased.

before: (B,), of the untouched input; after: (B,) or, for several amounts, (B, S).
"""

import torch
from torch import Tensor

from gradtoken.metrics.entry import metric

GRADCAM_PP = "https://arxiv.org/abs/1710.11063"
ERASER = "https://arxiv.org/abs/1911.03429"


@metric(paper=GRADCAM_PP, better="lower")
def average_drop(before: Tensor, after: Tensor) -> Tensor:
    """max(0, before - after) / before; after: only what the map shows is kept. A share, not per cent. -> (B,)

    NaN where before is 0.
    """
    return (before - after).clamp(min=0) / before


@metric(paper=GRADCAM_PP, better="higher")
def increase_in_confidence(before: Tensor, after: Tensor) -> Tensor:
    """1 where after > before, else 0; after: only what the map shows is kept. -> (B,)"""
    return (after > before).to(before.dtype)


@metric(paper="https://arxiv.org/abs/2102.05228", better="higher")
def drop_in_deletion(before: Tensor, after: Tensor) -> Tensor:
    """(before - after) / before, signed; after: what the map shows is erased. A share, not per cent. -> (B,)"""
    return (before - after) / before


@metric(paper=ERASER, better="higher")
def comprehensiveness(before: Tensor, after: Tensor) -> Tensor:
    """Mean over the amounts of before - after; after: the rationale is erased. -> (B,)"""
    return aopc(before, after)


@metric(paper=ERASER, better="lower")
def sufficiency(before: Tensor, after: Tensor) -> Tensor:
    """Mean over the amounts of before - after; after: only the rationale is kept. -> (B,)"""
    return aopc(before, after)


@metric(paper="https://arxiv.org/abs/1509.06321", better="higher")
def aopc(before: Tensor, after: Tensor, with_start: bool = False) -> Tensor:
    """Mean over the steps of before - after. -> (B,)

    with_start: the untouched input counts as a step, whose difference is 0, as Samek et al. define it. ERASER
    and AttCAT leave it out.
    """
    steps = after.reshape(len(after), -1)
    return (before[:, None] - steps).sum(dim=1) / (steps.shape[1] + with_start)


@metric(
    paper="https://papers.nips.cc/paper_files/paper/2022/hash/20e45668fefa793bd9f2edf19be12c4b-Abstract-Conference.html",
    better="lower",
)
def log_odds(before: Tensor, after: Tensor) -> Tensor:
    """Mean over the steps of log(after / before); after: the most relevant words are erased: LOdds. -> (B,)

    A ratio of probabilities, in spite of its name. They are held above the smallest normal number: log 0 has no mean.
    """
    steps = after.reshape(len(after), -1)
    tiny = torch.finfo(steps.dtype).tiny
    return (steps.clamp(min=tiny).log() - before[:, None].clamp(min=tiny).log()).mean(dim=1)
