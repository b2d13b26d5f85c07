"""Targets that are no single class: a contrast of two classes or captions, and likeness to another picture."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gradtoken.errors import BadTarget
from gradtoken.inputs import call
from gradtoken.models.labels import find_class
from gradtoken.models.load import count_of
from gradtoken.models.model import Model
from gradtoken.models.pictures import Source, open_picture
from gradtoken.state import untouched
from gradtoken.targets import logits_of


@dataclass(frozen=True)
class Contrast:
    """The logit of one class less that of another. names: the two, by name, index, or caption."""

    names: tuple[int | str, int | str]

    def of(self, model: Model) -> Callable[[Any], Tensor]:
        """The score of a model's output. (n,)"""
        count = count_of(model)
        if count is None:
            raise BadTarget(f"{model.name} does not say how many classes it has; give their names through labels=")
        i, j = (find_class(model.labels, name, count) for name in self.names)
        if i == j:
            raise BadTarget(
                f"expected two classes to contrast, got {self.names[0]!r} and {self.names[1]!r}, which are one"
            )
        return named(
            lambda output: logits_of(output)[:, i] - logits_of(output)[:, j], "{} rather than {}".format(*self.names)
        )


@dataclass(frozen=True)
class SimilarTo:
    """The cosine of the vectors that a model makes of two pictures."""

    picture: Source
    names = ()

    def of(self, model: Model) -> Callable[[Any], Tensor]:
        """The score of a model's output. (n,)"""
        weight = next(model.net.parameters())
        pixels = model.for_pictures(open_picture(self.picture)).pixels[None].to(weight.device, weight.dtype)
        with untouched(model.net, [pixels]), torch.no_grad():
            other = vectors_of(call(model.net, pixels))
        name = os.path.basename(self.picture) if isinstance(self.picture, str | os.PathLike) else "the other picture"
        return named(lambda output: F.cosine_similarity(vectors_of(output), other), f"similarity to {name}")


def contrast(target: int | str, against: int | str) -> Contrast:
    """What speaks for one class or caption rather than for another: a target for `explain` and `compare`."""
    return Contrast((target, against))


def similarity_to(picture: Source) -> SimilarTo:
    """How alike a model of features finds another picture, as a cosine: a target for `explain` and `compare`.

    The model gives features where it is loaded with headless=True, and where it compares pictures with captions.
    """
    return SimilarTo(picture)


def named(score: Callable[[Any], Tensor], name: str) -> Callable[[Any], Tensor]:
    """The score, with a name for drawings."""
    score.__name__ = name
    return score


def vectors_of(output: Any) -> Tensor:
    """The vector of each picture: what a model returns, or its `pooler_output`. (n, D)"""
    known = output.get("pooler_output") if isinstance(output, Mapping) else getattr(output, "pooler_output", output)
    if isinstance(known, Tensor) and known.ndim == 2:
        return known
    raise BadTarget(
        f"expected one vector for each picture, (n, D), got {type(output).__name__} without them; load a model of "
        "features (headless=True), or give a callable on the output"
    )
