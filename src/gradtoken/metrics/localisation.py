"""Relevance against boxes or masks of the object. Masks are (B, H, W), bool; maps (B, H, W)."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from gradtoken.metrics.entry import metric
from gradtoken.metrics.maps import single
from gradtoken.models.model import need

AGCAM = "https://arxiv.org/abs/2402.04563"
POINTING = "https://arxiv.org/abs/1608.00507"

Box = Sequence[float]  # x0, y0, x1, y1 as fractions of width and height
Rule = Literal["centres", "truncated"]


def boxes_mask(boxes: Sequence[Sequence[Box]], size: tuple[int, int], rule: Rule = "centres") -> Tensor:
    """Pixels in any of a picture's boxes; none where it has no box. -> (B, H, W), bool, on the CPU

    centres: pixels whose centre lies in the box. truncated: columns int(x0 W) ... int(x1 W), the last one included, and
    rows likewise, as AGCAM's script does; up to a pixel more on each side.
    """
    inside = {"centres": by_centres, "truncated": by_truncation}[rule]
    nothing = torch.zeros(size, dtype=torch.bool)
    return torch.stack([torch.stack([nothing, *(inside(box, size) for box in one)]).any(dim=0) for one in boxes])


def by_centres(box: Box, size: tuple[int, int]) -> Tensor:
    """x0 <= (j + 1/2) / W < x1, rows likewise. (H, W)"""
    y, x = ((torch.arange(n, dtype=torch.float64) + 0.5) / n for n in size)
    return ((y >= box[1]) & (y < box[3]))[:, None] & ((x >= box[0]) & (x < box[2]))


def by_truncation(box: Box, size: tuple[int, int]) -> Tensor:
    """int(x0 W) <= j <= int(x1 W), rows likewise. (H, W)"""
    y, x = (torch.arange(n) for n in size)
    x0, y0, x1, y1 = (int(edge * n) for edge, n in zip(box, (*size[::-1], *size[::-1]), strict=True))
    return ((y >= y0) & (y <= y1))[:, None] & ((x >= x0) & (x <= x1))


def component_boxes(mask: Tensor, extra: int = 0) -> Tensor:
    """Union of the bounding boxes of the mask's 8-connected components. (B, H, W) -> (B, H, W), bool

    The boxes of OpenCV's external contours (RETR_EXTERNAL), which leave out what lies in the hole of a component, have
    the same union: such boxes lie inside the outer one. extra: pixels more to the right and below; AGCAM's
    script, which paints x ... x + width with the end included, has 1.
    """
    ndimage = need("scipy.ndimage", "scipy")
    H, W = mask.shape[1:]
    filled = torch.zeros(mask.shape, dtype=torch.bool)
    for number, one in enumerate(mask.cpu().numpy()):
        components, _ = ndimage.label(one, structure=[[1, 1, 1]] * 3)
        for rows, columns in ndimage.find_objects(components):
            filled[number, rows.start : min(rows.stop + extra, H), columns.start : min(columns.stop + extra, W)] = True
    return filled.to(mask.device)


def outcomes(guess: Tensor, truth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels in both, in the guess only and in the truth only: TP, FP, FN. -> (B,) each"""
    guess, truth = guess.bool().flatten(1), truth.bool().flatten(1)
    return (guess & truth).sum(dim=1), (guess & ~truth).sum(dim=1), (~guess & truth).sum(dim=1)


@metric(paper=AGCAM, better="higher")
def localisation_accuracy(guess: Tensor, truth: Tensor, eps: float = 1e-5) -> Tensor:
    """(TP + TN + eps) / (pixels + eps) of two masks. -> (B,)"""
    _, FP, FN = outcomes(guess, truth)
    pixels = guess[0].numel()
    return (pixels - FP - FN + eps) / (pixels + eps)


@metric(paper=AGCAM, better="higher")
def localisation_iou(guess: Tensor, truth: Tensor, eps: float = 1e-5) -> Tensor:
    """(TP + eps) / (TP + FP + FN + eps) of two masks; 1 where both are empty. -> (B,)"""
    TP, FP, FN = outcomes(guess, truth)
    return (TP + eps) / (TP + FP + FN + eps)


@metric(paper=AGCAM, better="higher")
def localisation_dice(guess: Tensor, truth: Tensor, eps: float = 1e-5) -> Tensor:
    """(2 TP + eps) / (2 TP + FP + FN + eps) of two masks; 1 where both are empty. -> (B,)"""
    TP, FP, FN = outcomes(guess, truth)
    return (2 * TP + eps) / (2 * TP + FP + FN + eps)


@metric(paper=AGCAM, better="higher")
def localisation_precision(guess: Tensor, truth: Tensor, eps: float = 1e-5) -> Tensor:
    """(TP + eps) / (TP + FP + eps) of two masks; 1 where the guess is empty. -> (B,)"""
    TP, FP, _ = outcomes(guess, truth)
    return (TP + eps) / (TP + FP + eps)


@metric(paper=AGCAM, better="higher")
def localisation_recall(guess: Tensor, truth: Tensor, eps: float = 1e-5) -> Tensor:
    """(TP + eps) / (TP + FN + eps) of two masks; 1 where the truth is empty. -> (B,)"""
    TP, _, FN = outcomes(guess, truth)
    return (TP + eps) / (TP + FN + eps)


@metric(paper=POINTING, better="higher")
def pointing_game(R: Tensor, mask: Tensor, tolerance: int = 0) -> Tensor:
    """Whether the highest pixel lies in the mask, or within `tolerance` pixels of it: 1 or 0. -> (B,)

    Where several pixels are highest, the share of them that does: a constant map gets what a random point would. NaN
    for a map with a NaN. The literature allows 15 pixels.
    """
    near = dilate(mask, tolerance) if tolerance else mask.bool()
    highest = R.flatten(1) == R.flatten(1).amax(dim=1, keepdim=True)
    return (highest & near.flatten(1)).sum(dim=1) / highest.sum(dim=1)


def dilate(mask: Tensor, radius: int) -> Tensor:
    """Pixels whose centre is at most `radius` pixels from one of the mask. (B, H, W) -> (B, H, W), bool"""
    z = torch.arange(-radius, radius + 1, device=mask.device)
    disc = (z[:, None].square() + z.square() <= radius**2).float()
    return F.conv2d(mask[:, None].float(), disc[None, None], padding=radius)[:, 0] > 0.5


@metric(paper="https://arxiv.org/abs/1910.01279", better="higher")
def energy_inside(R: Tensor, mask: Tensor) -> Tensor:
    """Positive relevance in the mask / positive relevance. 0 without any, see has_positive; NaN for a NaN. -> (B,)"""
    return positive_share(R, mask)


def positive_share(R: Tensor, mask: Tensor) -> Tensor:
    """Share of each map's positive relevance in the mask. (..., H, W), (..., H, W) -> (...)"""
    positive = single(R).clamp(min=0)
    total = positive.sum(dim=(-2, -1))
    return (positive * mask).sum(dim=(-2, -1)) / torch.where(total == 0, 1, total)


@metric(paper="https://arxiv.org/abs/1409.0575", better="higher")
def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """Common area / area of either, of each pair of boxes x0, y0, x1, y1. (B, 4), (B, 4) -> (B,)

    NaN for two boxes without area. ImageNet's localisation counts 0.5 as found.
    """
    corner = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    common = (corner[1] - corner[0]).clamp(min=0).prod(dim=1)
    areas = (a[:, 2:] - a[:, :2]).prod(dim=1) + (b[:, 2:] - b[:, :2]).prod(dim=1)
    return common / (areas - common)
