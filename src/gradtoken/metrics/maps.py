"""A map before it is measured: its range, its size, its number format."""

import torch
import torch.nn.functional as F
from torch import Tensor


def single(R: Tensor) -> Tensor:
    """At least float32: the sum of a picture's pixels does not fit half precision."""
    return R.to(torch.promote_types(R.dtype, torch.float32))


def minmax(R: Tensor) -> Tensor:
    """(R - min R) / (max R - min R) of each map, within [0, 1]. (B, H, W) -> (B, H, W)

    A constant map gives NaN everywhere, as in the published scripts; foreground() and the metrics say what they make of
    it. Zero is no longer neutral for signed maps: the most negative value becomes 0.
    """
    low, high = R.amin(dim=(-2, -1), keepdim=True), R.amax(dim=(-2, -1), keepdim=True)
    return (R - low) / (high - low)


def enlarge(R: Tensor, size: tuple[int, int], mode: str = "bilinear") -> Tensor:
    """Maps at the size (H, W) of the picture, pixel centres kept in place. (B, h, w) -> (B, H, W)"""
    align = None if mode in ("nearest", "nearest-exact", "area") else False
    return F.interpolate(single(R)[:, None], size=size, mode=mode, align_corners=align)[:, 0]


def has_positive(R: Tensor) -> Tensor:
    """Whether a map has positive relevance: where not, a share of it is 0 for want of evidence. (..., H, W) -> (...)"""
    return (R > 0).flatten(-2).any(dim=-1)
