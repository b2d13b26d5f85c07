"""How sure the model stays of a class when it sees only what a map shows, and when it sees all but that."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gradtoken.data.sample import Sample
from gradtoken.metrics.confidence import GRADCAM_PP, average_drop, drop_in_deletion, increase_in_confidence
from gradtoken.metrics.maps import enlarge
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
)


@dataclass(frozen=True, kw_only=True)
class Confidence(Protocol):
    """The picture times the map is shown, and the picture times one minus the map.

    The map is enlarged, clipped below 0 and divided by its highest value; a map without positive relevance shows
    nothing. What is not shown is black before normalisation. The score is the explained class's probability.
    """

    def view(self, sample: Sample, model: Model) -> View:
        return View(sample.id, pixels_of(sample, model, self), sample.labels)

    def targets(self, view: View, logits: Tensor) -> tuple[int, ...]:
        return asked(self, view, logits)

    def measure(self, batch: Batch, maps: Tensor, asks: Sequence[Ask]) -> dict[Ask, dict[str, Tensor]]:
        def one(k: int) -> dict[str, Tensor]:
            share = shown(enlarge(maps[:, k], (batch.pixels.shape[2], batch.pixels.shape[3]), self.enlarging))
            classes = torch.tensor([targets[k] for targets in batch.targets], device=maps.device)
            before, kept, left = (
                batch.probability(logits, classes)
                for logits in (
                    batch.logits,
                    batch.predict(mixed(batch.pixels, batch.black, share)),
                    batch.predict(mixed(batch.pixels, batch.black, 1 - share)),
                )
            )
            values = (average_drop(before, kept), increase_in_confidence(before, kept), drop_in_deletion(before, left))
            return {number.name: value[:, None] for number, value in zip(self.numbers, values, strict=True)}

        return by_ask(batch, asks, one)

    @property
    def numbers(self) -> tuple[Number, ...]:
        return (
            Number("average drop", "lower"),
            Number("increase in confidence", "higher"),
            Number("drop in deletion", "higher"),
        )

    def conclude(self, means: Means) -> dict[str, Array]:
        return {number.name: means[number.name][..., 0] for number in self.numbers}


def shown(R: Tensor) -> Tensor:
    """R+ / max R+, or 0 where there is none. (B, H, W) -> (B, H, W)"""
    positive = R.clamp(min=0)
    highest = positive.amax(dim=(1, 2), keepdim=True)
    return positive / torch.where(highest > 0, highest, 1)


def mixed(pixels: Tensor, black: Tensor, share: Tensor) -> Tensor:
    """Black + share (pixels - black). pixels (B, C, H, W), black (C,), share (B, H, W)"""
    black = black[:, None, None]
    return black + share[:, None].to(pixels.dtype) * (pixels - black)


PUBLISHED = (
    Confidence(
        name="confidence/chattopadhyay2018",
        paper=GRADCAM_PP,
        summary="how the predicted class's probability changes when the picture is multiplied by the map",
        pictures="ImageNet's validation part and Pascal VOC 2007, of convolutional networks",
    ),
)
