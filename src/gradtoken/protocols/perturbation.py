"""How the model's answer changes while pixels are erased in the order of a map."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from gradtoken.data.sample import Sample
from gradtoken.errors import BadSample
from gradtoken.metrics.entry import Better
from gradtoken.metrics.maps import enlarge
from gradtoken.metrics.perturbation import blurred, erased, ranks
from gradtoken.models.model import Model
from gradtoken.protocols.protocol import (
    Array,
    Ask,
    Batch,
    Means,
    Number,
    Protocol,
    View,
    column,
    one_label,
    pixels_of,
    predicted_and_label,
)

Area = Literal["ends", "trapezoid", "mean"]
FILLS = {"black": "black", "grey": "the mean colour", "blur": "the blurred picture"}
AREAS = {"ends": "", "trapezoid": ", trapezoid", "mean": ", mean of steps"}


@dataclass(frozen=True)
class Course:
    """One way to erase. most_first: the most relevant pixels go first. fill: what takes their place, see `substrate`.

    better: whether a high curve speaks for the map. backwards: the curve is told from the erased picture to the whole
    one, which is insertion.
    """

    name: str
    most_first: bool
    better: Better
    fill: Literal["black", "grey", "blur"] = "black"
    backwards: bool = False

    def __str__(self) -> str:
        order = f"{'most' if self.most_first else 'least'} relevant first"
        return f"{self.name}: {order}, to {FILLS[self.fill]}{', told backwards' if self.backwards else ''}"

    def order(self, R: Tensor) -> Tensor:
        """When each pixel goes. Of equal pixels the first goes first; in insertion the first comes first."""
        if self.backwards:
            return R[0].numel() - 1 - ranks(R, not self.most_first)
        return ranks(R, self.most_first)


@dataclass(frozen=True, kw_only=True)
class Perturbation(Protocol):
    """shares: of all pixels, erased at each step, always from the whole picture. courses: in which order, and with what
    in their place: black (0 before normalisation), grey (0 after it, the mean colour), or the blurred picture.

    score: whether the label is still the prediction ("accuracy"), or the explained class's probability.
    areas: rules for the area under a curve; that of the first has its course's name alone. "ends" is the trapezoid rule
    over the untouched picture, the steps, and 0 for the empty one; "trapezoid" that over the steps, "mean" their mean.
    difference: the name of least minus most relevant first. only_correct: leave wrong predictions out.
    """

    shares: tuple[float, ...]
    courses: tuple[Course, ...]
    score: Literal["accuracy", "probability"] = "accuracy"
    areas: tuple[Area, ...] = ("ends",)
    difference: str = ""
    only_correct: bool = False

    def view(self, sample: Sample, model: Model) -> View:
        return View(sample.id, pixels_of(sample, model, self), sample.labels)

    def targets(self, view: View, logits: Tensor) -> tuple[int, ...]:
        predicted = int(logits.argmax())
        if self.only_correct and predicted != one_label(view, len(logits)):
            raise BadSample(f"{view.id}: left out, for its prediction is not its label")
        if self.asks == ("predicted",) and self.score == "probability":
            return (predicted,)
        if self.asks == ("label",):
            return (one_label(view, len(logits)),)
        return predicted_and_label(view, logits)

    def measure(self, batch: Batch, maps: Tensor, asks: Sequence[Ask]) -> dict[Ask, dict[str, Tensor]]:
        columns = {ask: column(ask, batch.targets[0]) for ask in asks}
        kept = dict.fromkeys(columns.values())
        found = {k: self.curves_of(batch, self.enlarged(maps[:, k], batch), k) for k in kept}
        return {ask: found[k] for ask, k in columns.items()}

    def enlarged(self, R: Tensor, batch: Batch) -> Tensor:
        """Maps at the size of the pictures, (B, H, W). Enlarged in double precision and then rounded to single.

        Pixels that are equal but for rounding, as beyond the outer patch centres, are then equal, and in reading order.
        """
        H, W = batch.pixels.shape[2:]
        return enlarge(R.double(), (H, W), self.enlarging).float()

    def curves_of(self, batch: Batch, R: Tensor, k: int) -> dict[str, Tensor]:
        """Scores along each course, (B, steps), and of the untouched pictures, (B, 1). R (B, H, W)"""
        scored = self.explained(batch, k)
        found = {"untouched": self.scores(batch, batch.logits, scored)[:, None]}
        counts = torch.tensor([pixels_in(share, R[0].numel()) for share in self.shares], device=R.device)
        for course in self.courses:
            order = course.order(R)
            fill = substrate(course.fill, batch)
            logits = torch.cat(
                [
                    batch.predict(erased(batch.pixels, order, some, fill).flatten(0, 1))
                    for some in torch.split(counts, max(1, batch.chunk // len(R)))
                ]
            )
            found[course.name] = self.scores(batch, logits, scored.repeat(len(counts))).view(len(counts), -1).T
        return found

    def explained(self, batch: Batch, k: int) -> Tensor:
        """The class whose score is followed: the label for accuracy, else the one explained. (B,)"""
        label = self.score == "accuracy"
        classes = [v.labels[0] if label else t[k] for v, t in zip(batch.views, batch.targets, strict=True)]
        return torch.tensor(classes, device=batch.logits.device)

    def scores(self, batch: Batch, logits: Tensor, classes: Tensor) -> Tensor:
        """(n,)"""
        if self.score == "accuracy":
            return (logits.argmax(dim=1) == classes).double()
        return batch.probability(logits, classes)

    @property
    def numbers(self) -> tuple[Number, ...]:
        plain = [Number(c.name + AREAS[a] * (i > 0), c.better) for i, a in enumerate(self.areas) for c in self.courses]
        return (*([Number(self.difference, "higher")] if self.difference else []), *plain)

    def conclude(self, means: Means) -> dict[str, Array]:
        found = {
            c.name + AREAS[a] * (i > 0): area(a, means["untouched"][..., 0], means[c.name], self.shares)
            for i, a in enumerate(self.areas)
            for c in self.courses
        }
        if self.difference:
            most, least = (next(c.name for c in self.courses if c.most_first is first) for first in (True, False))
            found[self.difference] = found[least] - found[most]
        return found

    def curves(self, means: Means) -> dict[str, tuple[Sequence[float], Array]]:
        return {
            c.name: ([1 - s for s in self.shares], means[c.name]) if c.backwards else (self.shares, means[c.name])
            for c in self.courses
        }


def pixels_in(share: float, pixels: int) -> int:
    """The whole part of share * pixels; 17 / 28 of 224 x 224 is whole, and a pixel less in floating point."""
    return math.floor(pixels * share + 1e-6)


def substrate(fill: str, batch: Batch) -> Tensor:
    """What takes the place of erased pixels: 0 before normalisation, 0 after it, or the blurred picture."""
    if fill == "blur":
        return blurred(batch.pixels)
    return batch.black if fill == "black" else torch.zeros_like(batch.black)


def area(rule: Area, untouched: Array, curve: Array, shares: Sequence[float]) -> Array:
    """Area under a curve (..., steps) over the share erased, as a mean height. (...)"""
    if rule == "mean":
        return np.asarray(curve.mean(axis=-1))
    if rule == "trapezoid":
        return trapezoid(curve, shares) / (shares[-1] - shares[0])
    ends = np.concatenate([untouched[..., None], curve, np.zeros_like(untouched)[..., None]], axis=-1)
    return trapezoid(ends, (0.0, *shares, 1.0))


def trapezoid(y: Array, x: Sequence[float]) -> Array:
    """(..., n) -> (...)"""
    return np.asarray((np.diff(x) * (y[..., 1:] + y[..., :-1]) / 2).sum(axis=-1))


TENTHS = tuple(i / 10 for i in range(1, 10))
BOTH = (Course("positive", True, "lower"), Course("negative", False, "higher"))
BLACK: dict[str, Any] = {"asks": ("predicted", "label"), "shares": TENTHS, "courses": BOTH}
VALIDATION = "all 50,000 of ImageNet's validation part"
GREY = Course("deletion", True, "lower", "grey")


def softly(name: str, steps: int, start: Literal["grey", "blur"], **facts: Any) -> Perturbation:
    """Probability of the predicted class over equal steps: deletion to the mean colour, and insertion from `start`."""
    return Perturbation(
        name=f"insertion-deletion/{name}",
        shares=tuple(i / steps for i in range(steps + 1)),
        courses=(GREY, Course("insertion", False, "higher", start, backwards=True)),
        score="probability",
        areas=("trapezoid",),
        **facts,
    )


PUBLISHED = (
    Perturbation(
        name="perturbation/chefer2021",
        paper="https://arxiv.org/abs/2012.09838",
        summary="top-1 accuracy while the most, or least, relevant pixels become black, 10 % at a time",
        pictures=VALIDATION,
        areas=("ends", "trapezoid", "mean"),
        **BLACK,
    ),
    Perturbation(
        name="perturbation/gradtoken2025",
        paper="https://doi.org/10.1016/j.neunet.2024.106837",
        summary="as chefer2021, whose numbers it quotes; label unknown (predicted class) and known (label)",
        pictures=VALIDATION,
        **BLACK,
    ),
    Perturbation(
        name="abpc/agcam2024",
        paper="https://arxiv.org/abs/2402.04563",
        summary="area between the label's probability curves: least and most relevant pixels to the mean colour",
        pictures="some of ImageNet's validation part; the authors' code does not say which",
        asks=("label",),
        shares=tuple(i / 10 for i in range(11)),
        courses=(Course("morf", True, "lower", "grey"), Course("lerf", False, "higher", "grey")),
        score="probability",
        areas=("mean",),
        difference="abpc",
    ),
    softly(
        "tam2021",
        28,
        "grey",
        paper="https://openreview.net/forum?id=TT-cf6QSDaQ",
        summary="probability of the predicted class in 28 steps: pixels to the mean colour, and from it",
        pictures="2,000 of ImageNet's validation part, a contiguous block chosen by seed 0",
    ),
    softly(
        "petsiuk2018",
        224,
        "blur",
        paper="https://arxiv.org/abs/1806.07421",
        summary="probability of the predicted class in 224 steps: pixels to the mean colour, "
        "and from a blurred picture",
        pictures="ImageNet's validation part; for Transformers, in TIS (2023), 5,000 fixed ones of it",
    ),
)
