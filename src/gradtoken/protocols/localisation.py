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

AREA, INSIDE, NOTHING = "area of the truth", "energy inside", "no positive relevance"
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

    The share of the picture that the truth covers is what a map that knows nothing points at and has inside.
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
            told = f"its prediction {int(logits.argmax())} is not its label {view.labels[0]}"
            raise BadSample(f"{view.id}: left out, for {told}")
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
            found = self.pointing(R, truth) if self.measured == "pointing" else self.energy(R, truth)
            return found | {AREA: (truth == 1).sum(dim=(1, 2)) / (truth != VOID).sum(dim=(1, 2))}

        found = by_ask(batch, asks, one)
        return {ask: {name: v[:, None] for name, v in values.items()} for ask, values in found.items()}

    def overlap(self, R: Tensor, truth: Tensor) -> dict[str, Tensor]:
        """Five numbers of two unions of boxes. (B,) each"""
        guess = metrics.component_boxes(foreground(R, fixed(R, self.threshold)), self.extra)
        return {name: metric(guess, truth == 1) for name, metric in OVERLAPS.items()}

    def pointing(self, R: Tensor, truth: Tensor) -> dict[str, Tensor]:
        """Hits for each tolerance. (B,) each"""
        labelled = R.masked_fill(truth == VOID, -torch.inf)
        return {hits(n): metrics.pointing_game(labelled, truth == 1, n) for n in self.tolerances}

    def energy(self, R: Tensor, truth: Tensor) -> dict[str, Tensor]:
        """Share inside, and 1 for a map without positive relevance, whose share is 0. (B,) each"""
        labelled = R.masked_fill(truth == VOID, 0)
        return {INSIDE: metrics.energy_inside(labelled, truth == 1), NOTHING: (~has_positive(labelled)).double()}

    @property
    def numbers(self) -> tuple[Number, ...]:
        if self.measured == "overlap":
            return tuple(Number(name, "higher") for name in OVERLAPS)
        if self.measured == "pointing":
            return (*(Number(hits(n), "higher") for n in self.tolerances), Number(AREA, ""))
        return (Number(INSIDE, "higher"), Number(NOTHING, "lower"), Number(AREA, ""))

    def conclude(self, means: Means) -> dict[str, Array]:
        return {number.name: means[number.name][..., 0] for number in self.numbers}


def hits(tolerance: int) -> str:
    """The name of the number."""
    return f"hits within {tolerance} px" if tolerance else "hits"


PUBLISHED = (
    Localisation(
        name="localisation/agcam2024",
        paper=metrics.AGCAM,
        summary="boxes around what is above half of the map's range, against the true boxes; correct predictions only",
        asks=("label",),
        measured="overlap",
        boxes="truncated",
        extra=1,
        only_correct=True,
    ),
    Localisation(
        name="pointing-game/zhang2016",
        paper=metrics.POINTING,
        summary="whether the label's highest pixel lies on the object, or within 15 pixels of it",
        asks=("label",),
        measured="pointing",
    ),
    Localisation(
        name="energy-in-mask/wang2020",
        paper="https://arxiv.org/abs/1910.01279",
        summary="share of the label's positive relevance that lies on the object, told by its mask or its boxes",
        asks=("label",),
        measured="energy",
    ),
)
