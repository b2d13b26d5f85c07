"""Does the map, cut at a threshold, cover the object and nothing else?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from gradtoken.data.sample import Sample
from gradtoken.errors import BadSample
from gradtoken.metrics import thresholds
from gradtoken.metrics.segmentation import average_precision_joint, confusion
from gradtoken.models.model import Model
from gradtoken.protocols.protocol import (
    Array,
    Ask,
    Batch,
    Means,
    Number,
    Protocol,
    View,
    asked,
    by_ask,
    pixels_of,
    preprocessing,
)
from gradtoken.protocols.truth import Foreground, at, divided, expect_object, mask_of, mean_iou, objects, scaled

COUNTED = ("mIoU", "pixel accuracy", "mF1")  # of a map that was cut


@dataclass(frozen=True, kw_only=True)
class Segmentation(Protocol):
    """Maps (R - min) / (max - min), cut at a threshold: foreground is R > t, strictly; a constant map has none.

    threshold: the mean of each map, `share` of its maximum, or Otsu's. levels: fixed thresholds of which the one with
    the highest mIoU over the whole data set is reported beside it, for every method its own.
    foreground: any class of the mask, or the explained one alone; samples without a pixel of it are then left out.

    Pixel accuracy and mIoU divide counts of the whole data set, background and foreground being the two classes; mAP
    and mF1 are means over pictures. mAP needs no threshold, see metrics.segmentation.average_precision_joint.
    """

    threshold: Literal["mean", "share", "otsu"] = "mean"
    share: float = 0.2
    levels: tuple[float, ...] = ()
    foreground: Foreground = "any"

    def view(self, sample: Sample, model: Model) -> View:
        pixels, mask = pixels_of(sample, model, self), mask_of(sample, preprocessing(model, self))
        return View(sample.id, pixels, sample.labels, mask)

    def targets(self, view: View, logits: Tensor) -> tuple[int, ...]:
        classes = (largest(view, len(logits)),) if self.asks == ("largest",) else asked(self, view, logits)
        if self.foreground == "explained":
            expect_object(view, self.foreground, classes)
        return classes

    def measure(self, batch: Batch, maps: Tensor, asks: Sequence[Ask]) -> dict[Ask, dict[str, Tensor]]:
        H, W = batch.pixels.shape[2:]

        def one(k: int) -> dict[str, Tensor]:
            R = scaled(maps[:, k], (H, W), self.enlarging)
            return self.counts(R, objects(batch, self.foreground, k))

        return by_ask(batch, asks, one)

    def counts(self, R: Tensor, truth: Tensor) -> dict[str, Tensor]:
        """Pixels for T thresholds: intersection and union, (B, 2 T), labelled, (B, 1); f1, (B, T); ap, (B, 1)."""
        tables = [confusion(thresholds.foreground(R, t), truth) for t in self.cuts(R)]
        I, U = torch.cat([table.intersection for table in tables], 1), torch.cat([table.union for table in tables], 1)
        return {
            "intersection": I,
            "union": U,
            "labelled": tables[0].labelled[:, None],
            "f1": 2 * I[:, 1::2].double() / (I + U)[:, 1::2].clamp(min=1),  # 2 TP / (2 TP + FP + FN)
            "ap": average_precision_joint(R, truth)[:, None],
        }

    def cuts(self, R: Tensor) -> list[Tensor]:
        """The rule's threshold of each map, then the fixed ones. T times (B,)"""
        if self.threshold == "share":
            own = thresholds.share_of_maximum(R, self.share)
        else:
            own = thresholds.otsu(R) if self.threshold == "otsu" else thresholds.mean(R)
        return [own, *(thresholds.fixed(R, level) for level in self.levels)]

    @property
    def rule(self) -> str:
        """As it stands beside a number."""
        return f"{self.share:g} max" if self.threshold == "share" else self.threshold

    @property
    def numbers(self) -> tuple[Number, ...]:
        rules = [*(["best"] if self.levels else []), self.rule]
        first, *others = [[Number(f"{name}, {rule} threshold", "higher") for name in COUNTED] for rule in rules]
        found = [Number("best threshold", "")] if self.levels else []
        return (*first, Number("mAP", "higher"), *(number for one in others for number in one), *found)

    def conclude(self, means: Means) -> dict[str, Array]:
        I, U = (m.reshape(*m.shape[:-1], -1, 2) for m in (means["intersection"], means["union"]))  # (..., T, 2)
        found = {
            "mIoU": mean_iou(I, U),
            "pixel accuracy": divided(I.sum(axis=-1), means["labelled"]),
            "mF1": means["f1"],
        }
        numbers = {f"{name}, {self.rule} threshold": values[..., 0] for name, values in found.items()}
        numbers["mAP"] = means["ap"][..., 0]
        if self.levels:
            best = 1 + found["mIoU"][..., 1:].argmax(axis=-1)
            numbers |= {f"{name}, best threshold": at(values, best) for name, values in found.items()}
            numbers["best threshold"] = (
                np.asarray(self.levels)[best - 1] + 0 * numbers["mIoU, best threshold"]
            )  # or NaN
        return {number.name: numbers[number.name] for number in self.numbers}


def largest(view: View, classes: int) -> int:
    """The class of most pixels of a mask, the first of equals."""
    counts = torch.bincount(view.truth[view.truth > 0] - 1)
    if not len(view.labels) or not len(counts):
        raise BadSample(f"{view.id}: left out, for its mask names no class")
    if (found := int(counts.argmax())) >= classes:
        raise BadSample(f"{view.id}: class {found} of the mask is outside the model's {classes} classes")
    return found


TENTHS = tuple(i / 10 for i in range(10))
ALL = "all 4,276 of ImageNet-Segmentation, in the order of the file"

PUBLISHED = (
    Segmentation(
        name="imagenet-segmentation/chefer2021",
        paper="https://arxiv.org/abs/2012.09838",
        summary="foreground above each map's mean, for the predicted class; two-class mIoU over the whole data set",
        pictures=ALL,
    ),
    Segmentation(
        name="imagenet-segmentation/gradtoken2025",
        paper="https://doi.org/10.1016/j.neunet.2024.106837",
        summary="as chefer2021, with the best of ten thresholds for each method beside the mean; both are labelled",
        pictures=ALL,
        levels=TENTHS,
    ),
    Segmentation(
        name="segmentation/largest-object",
        paper="https://doi.org/10.1016/j.neunet.2024.106837",
        summary="as gradtoken2025, but for the class of most pixels in the mask, whatever is predicted; it alone is "
        "foreground",
        pictures="any with masks that name classes",
        asks=("largest",),
        levels=TENTHS,
        foreground="explained",
    ),
)
