"""A map over its picture, as pixels."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from gradtoken.draw.colours import Scale
from gradtoken.errors import BadTarget

Box = tuple[float, float, float, float]
Map = np.ndarray[Any, Any]
DIM = 0.35  # brightness of what is not shown
MODES = {"bilinear": {"mode": "bilinear", "align_corners": False}, "nearest": {"mode": "nearest-exact"}}


def enlarge(relevance: Map, size: tuple[int, int], interpolation: str = "bilinear") -> Map:
    """The map at another size, each cell staying in the middle of its area. (h, w) -> size (H, W)"""
    if interpolation not in MODES:
        raise BadTarget(f"expected interpolation bilinear or nearest, got {interpolation!r}")
    cells = torch.from_numpy(np.ascontiguousarray(relevance, dtype=np.float32))[None, None]
    larger: Map = F.interpolate(cells, size=size, **MODES[interpolation])[0, 0].numpy()  # type: ignore[arg-type]
    return larger


def over_picture(relevance: Map, size: tuple[int, int], box: Box, interpolation: str = "bilinear") -> Map:
    """The map at the size (height, width) of the picture, NaN where the model did not look."""
    height, width = size
    x0, y0, x1, y1 = (round(edge) for edge in box)
    values = enlarge(relevance, (max(1, y1 - y0), max(1, x1 - x0)), interpolation)
    top, left, bottom, right = max(0, y0), max(0, x0), min(height, y1), min(width, x1)
    canvas = np.full((height, width), np.nan, dtype=np.float32)
    canvas[top:bottom, left:right] = values[top - y0 : bottom - y0, left - x0 : right - x0]
    return canvas


def overlay(
    picture: Image.Image,
    relevance: Map,
    box: Box,
    scale: Scale,
    *,
    opacity: float = 0.55,
    interpolation: str = "bilinear",
    threshold: float | None = None,
) -> Image.Image:
    """The picture under its heat map, at the picture's own size; what the model did not see is dimmed.

    threshold: instead of colours, keep the picture where relevance is at least this share of the scale's maximum.
    """
    if not 0 <= opacity <= 1:
        raise BadTarget(f"expected an opacity from 0 to 1, got {opacity}")
    pixels: Map = np.asarray(picture, dtype=np.float32)
    heated: Map
    placed = over_picture(relevance, (picture.height, picture.width), box, interpolation)
    seen = ~np.isnan(placed)
    values = np.nan_to_num(placed)
    if threshold is None:
        colours, shown = scale.paint(values), seen
        heated = (1 - opacity) * pixels + opacity * colours
    else:
        heated, shown = pixels, seen & (values >= threshold * scale.high)
    drawn = np.where(shown[..., None], heated, DIM * pixels)
    return Image.fromarray(drawn.round().clip(0, 255).astype(np.uint8))
