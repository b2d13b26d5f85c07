"""Relevance of words against the words that people marked. One tensor (W,) for each text; a NaN is a word not read."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gradtoken.metrics.entry import metric
from gradtoken.metrics.maps import single
from gradtoken.metrics.segmentation import array
from gradtoken.models.model import need

ERASER = "https://arxiv.org/abs/1911.03429"


def touching(spans: Sequence[tuple[int, int]], words: Sequence[str]) -> Tensor:
    """Whether a piece has a character of a word. (N, W), bool

    spans: first and end character of each piece in " ".join(words), as fast tokenizers give them; special tokens have
    none (0, 0).
    """
    ends = torch.tensor([len(word) + 1 for word in words]).cumsum(dim=0) - 1
    starts = ends - torch.tensor([len(word) for word in words])
    first, end = torch.tensor(spans).reshape(-1, 1, 2).unbind(dim=-1)
    return (first < ends) & (end > starts) & (end > first)


def word_scores(R: Tensor, spans: Sequence[tuple[int, int]], words: Sequence[str], signed: bool = False) -> Tensor:
    """Highest score of the word pieces that a word's characters lie in. (..., N) -> (..., W)

    spans: as in `touching`. signed: negative scores are kept, else they are 0. A word that was cut off whole is NaN.
    """
    # Differs from the published pipeline: it strips "##" and counts characters, which unknown pieces put out of step.
    touches = touching(spans, words).to(R.device)
    scores = single(R) if signed else single(R).clamp(min=0)
    highest = scores[..., None].where(touches, -torch.inf).amax(dim=-2)
    return highest.where(touches.any(dim=0), torch.nan)


@metric(paper=ERASER, better="higher")
def token_f1(scores: Sequence[Tensor], marked: Sequence[Tensor], k: int) -> Tensor:
    """F1 of the set of the k highest words, or all where there are fewer, and the marked ones; 0 if they miss. -> (B,)

    Among equals the earlier word is taken. Words that were not read are never taken, but count as missed.
    """
    values = []
    for score, mark in zip(scores, marked, strict=True):
        taken = min(k, int((~score.isnan()).sum()))
        best = score.nan_to_num(-torch.inf).argsort(descending=True, stable=True)[:taken]
        hits = mark.to(score.device).bool()[best].sum()
        values.append(2 * hits / (taken + mark.bool().sum().to(score.device)).clamp(min=1))
    return torch.stack(values)


@metric(paper=ERASER, better="higher")
def auprc(scores: Sequence[Tensor], marked: Sequence[Tensor]) -> Tensor:
    """Area under precision over recall, by trapezoids, as ERASER has it; NaN where no word is marked. -> (B,)

    Not average precision, which takes steps. Words that were not read come last, as equals.
    """
    sklearn = need("sklearn.metrics", "benchmark")
    values = []
    for score, mark in zip(scores, marked, strict=True):
        ranks = torch.unique(score, return_inverse=True)[1].where(~score.isnan(), -1)
        if not bool(mark.any()):
            values.append(float("nan"))
            continue
        precision, recall, _ = sklearn.precision_recall_curve(array(mark.bool()), array(ranks))
        values.append(float(sklearn.auc(recall, precision)))
    return torch.tensor(values, dtype=single(scores[0]).dtype, device=scores[0].device)
