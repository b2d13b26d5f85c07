"""Does the relevance lie on the object, told by its boxes or its mask?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gradtoken.data.sample import VOID, Boxes, Sample
from gradtoken.errors import BadSample
from gradtoken.metrics import localisation as metrics
from gradtoken.metrics.maps import enlarge, has_positive
from gradtoken.metrics.thresholds import fixed, foreground
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
    one_label,
    pixels_of,
    preprocessing,
)
from gradtoken.protocols.truth import Foreground, boxes_of, expect_object, mask_of, object_of, objects, scaled

ENERGY = ("energy inside", "no positive relevance", "area of the truth")
OVERLAPS = {
    "IoU": metrics.localisation_iou,
    "pixel accuracy": metrics.localisation_accuracy,
    "Dice": metrics.localisation_dice,
    "precision": metrics.localisation_precision,
    "recall": metrics.localisation_recall,
}


@dataclass(frozen=True, kw_only=True)
class Localisation(Protocol):
    """Means over pictures. Where nobody labelled a pixel, it counts neither way.

    measured: overlap, the boxes around the parts of a map above `threshold` of its range against those of the truth;
    pointing, whether the highest pixel is on the object; energy, the share of the positive relevance that is.
    tolerances: of pointing, in pixels of the model's input, whatever its size; the first is ranked by.
    boxes: which pixels a box has, see metrics.localisation.boxes_mask. extra: pixels that a map's boxes are larger.
    only_correct: leave wrong predictions out. below: leave a truth out that covers this share of the picture or more.
    foreground: of a mask, any class or the explained one. A sample whose truth has no pixel is left out.

    Beside the numbers stands what a constant map gets, which knows nothing: for energy, the area of the truth.
    """

    measured: Literal["overlap", "pointing", "energy"]
    threshold: float = 0.5
    tolerances: tuple[int, ...] = (15, 0)
    boxes: metrics.Rule = "centres"
    extra: int = 0
    only_correct: bool = False
    below: float | None = None
    foreground: Foreground = "any"

    def view(self, sample: Sample, model: Model) -> View:
        pixels, how = pixels_of(sample, model, self), preprocessing(model, self)
        boxed = isinstance(sample.truth, Boxes) or self.measured == "overlap"
        truth = boxes_of(sample, how, self.boxes) if boxed else mask_of(sample, how)
        return View(sample.id, pixels, sample.labels, truth)

    def targets(self, view: View, logits: Tensor) -> tuple[int, ...]:
        classes = asked(self, view, logits)
        if self.only_correct and logits.argmax() != one_label(view, len(logits)):
            raise BadSample(f"{view.id}: left out, for its prediction is not its label")
        expect_object(view, self.foreground, classes)
        if self.below is not None and any(self.covered(view.truth, cls) >= self.below for cls in classes):
            raise BadSample(f"{view.id}: left out, for its truth covers {self.below:.0%} of the picture or more")
        return classes

    def covered(self, truth: Tensor, cls: int) -> float:
        """Share of the labelled pixels that show the object."""
        shown = object_of(truth, self.foreground, cls)
        return float((shown == 1).sum() / (shown != VOID).sum())

    def measure(self, batch: Batch, maps: Tensor, asks: Sequence[Ask]) -> dict[Ask, dict[str, Tensor]]:
        H, W = batch.pixels.shape[2:]

        def one(k: int) -> dict[str, Tensor]:
            truth = objects(batch, self.foreground, k)
            if self.measured == "overlap":
                return self.overlap(scaled(maps[:, k], (H, W), self.enlarging), truth)
            R = enlarge(maps[:, k], (H, W), self.enlarging)
            return self.pointing(R, truth) if self.measured == "pointing" else self.energy(R, truth)

        found = by_ask(batch, asks, one)
        return {ask: {name: v[:, None] for name, v in values.items()} for ask, values in found.items()}

    def overlap(self, R: Tensor, truth: Tensor) -> dict[str, Tensor]:
        """Five numbers of two unions of boxes. (B,) each"""
        guess = metrics.component_boxes(foreground(R, fixed(R, self.threshold)), self.extra)
        return {name: metric(guess, truth == 1) for name, metric in OVERLAPS.items()}

    def pointing(self, R: Tensor, truth: Tensor) -> dict[str, Tensor]:
        """Hits for each tolerance, and those of a random point, which a constant map points at. (B,) each"""
        labelled = truth != VOID
        R, found = R.masked_fill(~labelled, -torch.inf), {}
        for n in self.tolerances:
            near = metrics.dilate(truth == 1, n)
            found[within("hits", n)] = metrics.pointing_game(R, near)
            found[within("chance", n)] = (near & labelled).sum(dim=(1, 2)) / labelled.sum(dim=(1, 2))
        return found

    def energy(self, R: Tensor, truth: Tensor) -> dict[str, Tensor]:
        """Share inside, 1 for a map without positive relevance, whose share is 0, and a constant map's. (B,) each"""
        inside, labelled = truth == 1, R.masked_fill(truth == VOID, 0)
        nothing, area = ~has_positive(labelled), inside.sum(dim=(1, 2)) / (truth != VOID).sum(dim=(1, 2))
        values = (metrics.energy_inside(labelled, inside), nothing.double(), area)
        return dict(zip(ENERGY, values, strict=True))

    @property
    def numbers(self) -> tuple[Number, ...]:
        if self.measured == "overlap":
            return tuple(Number(name, "higher") for name in OVERLAPS)
        if self.measured == "pointing":
            found = [Number(within("hits", n), "higher") for n in self.tolerances]
            return (*found, *(Number(within("chance", n), "") for n in self.tolerances))
        return (Number(ENERGY[0], "higher"), Number(ENERGY[1], "lower"), Number(ENERGY[2], ""))

    def conclude(self, means: Means) -> dict[str, Array]:
        return {number.name: means[number.name][..., 0] for number in self.numbers}


def within(name: str, tolerance: int) -> str:
    """The name of a number of the pointing game."""
    return f"{name} within {tolerance} px" if tolerance else name


PUBLISHED = (
    Localisation(
        name="localisation/agcam2024",
        paper=metrics.AGCAM,
        summary="boxes around what is above half of the map's range, against the true boxes; correct predictions only",
        pictures="all of ImageNet's validation part that the model predicts correctly",
        asks=("label",),
        measured="overlap",
        boxes="truncated",
        extra=1,
        only_correct=True,
    ),
    Localisation(
        name="pointing-game",
        paper=metrics.POINTING,
        summary="whether the label's highest pixel lies on the object, or within 15 pixels of it",
        pictures="PASCAL VOC 2007 test and COCO 2014 val, with models trained on them",
        asks=("label",),
        measured="pointing",
    ),
    Localisation(
        name="energy-in-mask",
        paper="https://arxiv.org/abs/1910.01279",
        summary="share of the label's positive relevance that lies on the object, told by its mask or its boxes",
        pictures="some of ImageNet's validation part, by boxes; each paper chooses others",
        asks=("label",),
        measured="energy",
    ),
)
