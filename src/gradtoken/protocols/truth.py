"""What people marked in a picture, laid over the pixels that the model reads; maps beside it, and counts of both."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gradtoken.data.sample import VOID, Boxes, Mask, Sample
from gradtoken.errors import BadSample
from gradtoken.metrics.localisation import Rule, boxes_mask
from gradtoken.metrics.maps import enlarge, minmax
from gradtoken.models.preprocess import Preprocess
from gradtoken.protocols.protocol import Array, Batch, View

Foreground = Literal["any", "explained"]


def mask_of(sample: Sample, how: Preprocess) -> Tensor:
    """The mask, resized by nearest and cropped as the picture is, VOID beyond its edge. (H, W), int64"""
    if not isinstance(sample.truth, Mask) or isinstance(sample.input, str):
        raise BadSample(f"{sample.id}: expected a picture with a mask, got {type(sample.truth).__name__}")
    rows, columns = how.resized(sample.input.height, sample.input.width)
    stored = Image.fromarray(sample.truth.values.astype(np.int32))
    canvas = Image.new("I", (how.size[1], how.size[0]), VOID)
    corner = (-how.offset(columns, how.size[1]), -how.offset(rows, how.size[0]))
    canvas.paste(stored.resize((columns, rows), Image.Resampling.NEAREST), corner)
    mask = torch.from_numpy(np.array(canvas, dtype=np.int64))
    if not bool((mask != VOID).any()):
        raise BadSample(f"{sample.id}: no pixel of the mask has a label")
    return mask


def boxes_of(sample: Sample, how: Preprocess, rule: Rule) -> Tensor:
    """The label + 1 for pixels in any of its boxes, see boxes_mask, else 0. (H, W), int64"""
    if not isinstance(sample.truth, Boxes) or isinstance(sample.input, str):
        raise BadSample(f"{sample.id}: expected a picture with boxes, got {type(sample.truth).__name__}")
    rows, columns = how.resized(sample.input.height, sample.input.width)
    H, W = how.size
    top, left = how.offset(rows, H), how.offset(columns, W)
    moved = [
        ((x0 * columns - left) / W, (y0 * rows - top) / H, (x1 * columns - left) / W, (y1 * rows - top) / H)
        for x0, y0, x1, y1 in sample.truth.fractions
    ]
    whole = sample.truth.fractions if (rows, columns) == (H, W) else moved  # without the product's rounding
    return boxes_mask([whole], (H, W), rule)[0].long() * (sample.labels[0] + 1 if len(sample.labels) == 1 else 1)


def object_of(truth: Tensor, foreground: Foreground, cls: int) -> Tensor:
    """1 where a mask shows the object, 0 elsewhere, VOID kept: any class, or the class explained alone. (..., H, W)"""
    shown = truth > 0 if foreground == "any" else truth == cls + 1
    return torch.where(truth == VOID, VOID, shown.long())


def objects(batch: Batch, foreground: Foreground, k: int) -> Tensor:
    """`object_of` for each sample's k-th target, where the maps are. (B, H, W)"""
    pairs = zip(batch.views, batch.targets, strict=True)
    masks = [object_of(view.truth, foreground, targets[k]) for view, targets in pairs]
    return torch.stack(masks).to(batch.pixels.device)


def expect_object(view: View, foreground: Foreground, targets: Sequence[int]) -> None:
    """Leave out a sample whose truth shows nothing of a class that is explained. Raises BadSample."""
    for cls in targets:
        if not bool((object_of(view.truth, foreground, cls) == 1).any()):
            named = "" if foreground == "any" else " of the explained class"
            raise BadSample(f"{view.id}: left out, for its truth has no pixel{named} at the model's size")


def scaled(R: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """Enlarged maps within [0, 1]; NaN for one that is constant before enlarging rounds it. (B, h, w) -> (B, H, W)"""
    constant = R.amax(dim=(1, 2), keepdim=True) == R.amin(dim=(1, 2), keepdim=True)
    return minmax(enlarge(R, size, mode)).masked_fill(constant, torch.nan)


# Counts over a data set ----------------------------------------------------------------------------------------------


def mean_iou(intersection: Array, union: Array) -> Array:
    """Mean of intersection / union over the classes that occur; NaN where none does. (..., classes) -> (...)"""
    return divided(divided(intersection, union, 0).sum(axis=-1), (union > 0).sum(axis=-1))


def divided(a: Array, b: Array, otherwise: float = np.nan) -> Array:
    """Ratio a / b, and `otherwise` where b is 0."""
    return np.asarray(
        np.divide(a, b, out=np.full(np.broadcast_shapes(a.shape, b.shape), otherwise, dtype=np.float64), where=b != 0)
    )


def at(values: Array, place: np.ndarray[Any, np.dtype[np.intp]]) -> Array:
    """Values (..., n) at places (...). (...)"""
    return np.take_along_axis(values, place[..., None], axis=-1)[..., 0]
