"""Guessed labels against true ones: counts to be summed over a data set, and values of single pictures.

Labels are (B, H, W): 0 background, c > 0 a class, `void` counts for nothing; masks may be bool. Over a data set the
protocols divide sums of counts (ratio of sums); the mean of the pictures' ratios is another number.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gradtoken.errors import BadData
from gradtoken.metrics.entry import metric
from gradtoken.models.model import need

VOID = -1
CHEFER = "https://arxiv.org/abs/2012.09838"


class Confusion(NamedTuple):
    """Pixels, of labelled ones only. intersection, union: (B, classes); correct, labelled: (B,)."""

    intersection: Tensor
    union: Tensor
    correct: Tensor
    labelled: Tensor


@metric(paper=CHEFER, better="")
def confusion(guess: Tensor, truth: Tensor, classes: int = 2, void: int = VOID) -> Confusion:
    """Counts of pixels that the guess, the truth, both or either give to each class. Unit: pixels"""
    table = confusion_matrix(guess, truth, classes, void)
    both = table.diagonal(dim1=1, dim2=2)
    return Confusion(both, table.sum(dim=1) + table.sum(dim=2) - both, both.sum(dim=1), table.sum(dim=(1, 2)))


def confusion_matrix(guess: Tensor, truth: Tensor, classes: int, void: int = VOID) -> Tensor:
    """Number of pixels of each true class (rows) and guessed class (columns). -> (B, classes, classes)"""
    guess, truth = (labels.flatten(1).long() for labels in (guess, truth))
    counted = truth != void
    for name, labels in (("guess", guess), ("truth", truth)):
        if bool((counted & ((labels < 0) | (labels >= classes))).any()):
            raise BadData(
                f"expected labels 0 ... {classes - 1} in the {name}, got {sorted(set(labels[counted].tolist()))[:20]}; "
                "set `classes` to the number of classes with background, and `void` to the label of pixels to leave out"
            )
    place = torch.where(counted, truth * classes + guess, 0)
    empty = torch.zeros(len(truth), classes * classes, dtype=torch.long, device=truth.device)
    return empty.scatter_add(1, place, counted.long()).reshape(-1, classes, classes)


@metric(paper=CHEFER, better="higher")
def pixel_accuracy(guess: Tensor, truth: Tensor, classes: int = 2, void: int = VOID) -> Tensor:
    """Correct pixels / labelled pixels; NaN where no pixel has a label. -> (B,)"""
    counts = confusion(guess, truth, classes, void)
    return counts.correct / counts.labelled


@metric(paper=CHEFER, better="higher")
def iou(guess: Tensor, truth: Tensor, classes: int = 2, void: int = VOID) -> Tensor:
    """Intersection / union of each class; NaN for a class that neither has. -> (B, classes)"""
    counts = confusion(guess, truth, classes, void)
    return counts.intersection / counts.union


@metric(paper=CHEFER, better="higher")
def mean_iou(guess: Tensor, truth: Tensor, classes: int = 2, void: int = VOID) -> Tensor:
    """Mean of iou over the classes that either has; papers' mIoU sums over the data set first. -> (B,)"""
    return iou(guess, truth, classes, void).nanmean(dim=1)


@metric(paper=CHEFER, better="higher")
def foreground_f1(guess: Tensor, truth: Tensor, void: int = VOID) -> Tensor:
    """2 TP / (2 TP + FP + FN) of label 1; 0 where neither has foreground, as in scikit-learn. -> (B,)"""
    table = confusion_matrix(guess, truth, 2, void)
    TP, FP, FN = table[:, 1, 1], table[:, 0, 1], table[:, 1, 0]
    return 2 * TP / (2 * TP + FP + FN).clamp(min=1)


@metric(paper=CHEFER, better="higher")
def average_precision_joint(R: Tensor, truth: Tensor, void: int = VOID) -> Tensor:
    """One average precision of the scores [1 - R, R] for [background, foreground]: the mAP of Chefer et al. -> (B,)

    R: (B, H, W) in [0, 1]; where it is NaN both scores are 0. The average over both classes is of pixels (micro): it is
    neither the mean of two average precisions nor that of the foreground. NaN where no pixel has a label.
    """
    scores = torch.stack([1 - R, R], dim=1).nan_to_num(0)
    return average_precisions(scores, torch.stack([truth == 0, truth == 1], dim=1), truth != void)


@metric(
    paper="https://scikit-learn.org/stable/modules/generated/sklearn.metrics.average_precision_score.html",
    better="higher",
)
def average_precision_foreground(R: Tensor, truth: Tensor, void: int = VOID) -> Tensor:
    """sum_n (recall_n - recall_n-1) precision_n of R as a score of label 1; NaN scores 0. (B, H, W) -> (B,)

    Of any scale: only the order of R matters. NaN where no labelled pixel is foreground.
    """
    return average_precisions(R.nan_to_num(0)[:, None], (truth == 1)[:, None], truth != void)


def average_precisions(scores: Tensor, positive: Tensor, counted: Tensor) -> Tensor:
    """scikit-learn's step-wise average precision of each picture. (B, C, H, W) twice, (B, H, W) -> (B,)"""
    average_precision_score = need("sklearn.metrics", "benchmark").average_precision_score
    values = []
    for score, label, use in zip(array(scores), array(positive), array(counted), strict=True):
        score, label = score[:, use].ravel(), label[:, use].ravel()
        values.append(average_precision_score(label, score) if label.any() else float("nan"))
    return torch.tensor(values, dtype=torch.promote_types(scores.dtype, torch.float32), device=scores.device)


def array(x: Tensor) -> np.ndarray[Any, Any]:
    """As numpy, half precision widened: numpy has no bfloat16."""
    return np.asarray((x.float() if x.dtype in (torch.bfloat16, torch.float16) else x).detach().cpu())
