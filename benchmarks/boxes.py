"""Two measures of whether relevance falls on an object: its share inside the boxes, and the pointing game."""

import torch
import torch.nn.functional as F
from torch import Tensor

Box = tuple[float, float, float, float]  # x0, y0, x1, y1 as fractions of width and height


def inside(boxes: list[Box], size: tuple[int, int]) -> Tensor:
    """Pixels whose centre lies in any of the boxes. (height, width), bool"""
    H, W = size
    y, x = (torch.arange(H) + 0.5) / H, (torch.arange(W) + 0.5) / W
    masks = [((y >= y0) & (y < y1))[:, None] & ((x >= x0) & (x < x1)) for x0, y0, x1, y1 in boxes]
    return torch.stack(masks).any(dim=0)


def share(relevance: Tensor, mask: Tensor) -> float:
    """Share of the positive relevance that lies in the mask; 0 for a map without any."""
    positive = relevance.clamp(min=0).double()
    total = positive.sum()
    return float(positive[mask].sum() / total) if total > 0 else 0.0


def hit(relevance: Tensor, mask: Tensor) -> float:
    """Share of the highest pixels that lie in the mask: 1 or 0 where one pixel is highest. Tolerance: 0 pixels."""
    return float(mask[relevance == relevance.max()].double().mean())


def enlarge(relevance: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, rows, columns) -> (B, height, width)"""
    return F.interpolate(relevance[:, None].float(), size=size, mode="bilinear", align_corners=False)[:, 0]


def gaussian(count: int) -> Tensor:
    """A bump in the middle, standard deviation a quarter of the side. (count, count)"""
    z = ((torch.arange(count) + 0.5) / count - 0.5) / 0.25
    bump = (-z.square() / 2).exp()
    return bump[:, None] * bump
