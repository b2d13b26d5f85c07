"""Areas under a perturbation curve y (B, S): scores after each step, evenly spaced. The rules give different numbers.

The rules are linear: curves of 1 (right) and 0 (wrong) for each picture have areas whose mean is the accuracy's area.
"""

import torch
from torch import Tensor

from gradtoken.metrics.entry import metric

CHEFER = "https://arxiv.org/abs/2012.09838"
AGCAM = "https://arxiv.org/abs/2402.04563"


@metric(paper=CHEFER, better="")
def area_with_ends(y: Tensor, clean: Tensor) -> Tensor:
    """Trapezoids under clean, y_1 ... y_S, 0, at 0, 1 / (S + 1), ..., 1. (B, S), (B,) -> (B,)

    With nine steps of a tenth, 0.1 (clean / 2 + sum of y): eleven points, everything erased scoring 0 unmeasured.
    """
    return (clean / 2 + y.sum(dim=1)) / (y.shape[1] + 1)


@metric(paper=CHEFER, better="")
def area_over_steps(y: Tensor, step: float = 0.1) -> Tensor:
    """Trapezoids under the measured points alone, `step` apart; of a constant 1 it is (S - 1) step. (B, S) -> (B,)"""
    return torch.trapezoid(y, dx=step, dim=1)


@metric(paper=AGCAM, better="")
def mean_of_steps(y: Tensor) -> Tensor:
    """Mean of the points; AGCAM's area, sum / 11, for the eleven steps 0 ... 1. (B, S) -> (B,)"""
    return y.mean(dim=1)


@metric(paper="https://arxiv.org/abs/1806.07421", better="")
def normalised_area(y: Tensor) -> Tensor:
    """Trapezoids under the points spread over 0 ... 1, the first untouched, the last erased: RISE. (B, S) -> (B,)"""
    return torch.trapezoid(y, dx=1 / (y.shape[1] - 1), dim=1)


@metric(paper=AGCAM, better="higher")
def abpc(least: Tensor, most: Tensor) -> Tensor:
    """Mean of the curve that erases the least relevant first, minus that of the most relevant first. (B, S) -> (B,)"""
    return mean_of_steps(least) - mean_of_steps(most)
