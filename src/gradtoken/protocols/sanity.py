"""Does a map depend on what it should depend on: the class and the weights, and not on noise?

Maps are compared as the methods give them, on tokens or pixels, not enlarged. The similarity of a map that is the same
everywhere and one that is not is 0; a sample with two such maps is left out.
"""

import copy
import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from gradtoken.data.sample import Sample
from gradtoken.errors import BadModel, BadSample
from gradtoken.metrics import sanity as metrics
from gradtoken.models.model import Model
from gradtoken.protocols.protocol import Array, Ask, Batch, Means, Number, Protocol, View, asked, by_ask, pixels_of


@dataclass(frozen=True, kw_only=True)
class ClassSensitivity(Protocol):
    """1 - similarity of the maps of the class asked for and of the class with the highest logit among the others."""

    # Differs from the paper: it compares with a class drawn at random, which the runner-up is harder to tell from.

    def view(self, sample: Sample, model: Model) -> View:
        return View(sample.id, pixels_of(sample, model, self), sample.labels)

    def targets(self, view: View, logits: Tensor) -> tuple[int, ...]:
        if len(logits) < 2:
            raise BadModel(f"{self.name} compares two classes; the model has {len(logits)}")
        (cls,) = asked(self, view, logits)
        others = logits.index_fill(0, torch.tensor(cls, device=logits.device), -torch.inf)
        return cls, int(others.argmax())

    def measure(self, batch: Batch, maps: Tensor, asks: Sequence[Ask]) -> dict[Ask, dict[str, Tensor]]:
        found = {f"1 - {by}": 1 - similarity(maps[:, 0], maps[:, 1], by)[:, None] for by in ("spearman", "pearson")}
        return dict.fromkeys(asks, comparable(batch, found))

    @property
    def numbers(self) -> tuple[Number, ...]:
        return Number("1 - spearman", "higher"), Number("1 - pearson", "higher")

    def conclude(self, means: Means) -> dict[str, Array]:
        return {number.name: means[number.name][..., 0] for number in self.numbers}


@dataclass(frozen=True, kw_only=True)
class WeightRandomisation(Protocol):
    """Rank correlation with maps of a copy of the network, whose layers become random from the output backwards.

    stages: how many equal parts of the layers become random one after the other; 1 makes all random at once. Layers are
    the modules with parameters, in the order in which the network has them. seed: of the weights, the same for all
    samples and methods. Each is drawn from a normal distribution with the mean and deviation of its tensor.
    """

    # Differs from the paper: it initialises anew, which a network does not tell how to do, and layer by layer.

    stages: int = 1
    seed: int = 0

    def view(self, sample: Sample, model: Model) -> View:
        return View(sample.id, pixels_of(sample, model, self), sample.labels)

    def targets(self, view: View, logits: Tensor) -> tuple[int, ...]:
        return asked(self, view, logits)

    def measure(self, batch: Batch, maps: Tensor, asks: Sequence[Ask]) -> dict[Ask, dict[str, Tensor]]:
        others = [batch.again(net, batch.pixels) for net in randomised(batch.probe.net, self.stages, self.seed)]

        def one(k: int) -> dict[str, Tensor]:
            pairs = [(maps[:, k], other[:, k]) for other in others]
            signed = torch.stack([similarity(a, b) for a, b in pairs], dim=1)
            absolute = torch.stack([similarity(a.abs(), b.abs()) for a, b in pairs], dim=1)
            return comparable(batch, {"similarity": signed, "absolute similarity": absolute})

        return by_ask(batch, asks, one)

    @property
    def numbers(self) -> tuple[Number, ...]:
        names = ["similarity", "absolute similarity", *(["mean similarity"] if self.stages > 1 else [])]
        return tuple(Number(name, "lower") for name in names)

    def conclude(self, means: Means) -> dict[str, Array]:
        found = {name: means[name][..., -1] for name in ("similarity", "absolute similarity")}
        return found | ({"mean similarity": means["similarity"].mean(axis=-1)} if self.stages > 1 else {})

    def curves(self, means: Means) -> dict[str, tuple[Sequence[float], Array]]:
        shares = [s / self.stages for s in range(self.stages + 1)]
        start = np.ones_like(means["similarity"][..., :1])
        return (
            {"similarity": (shares, np.concatenate([start, means["similarity"]], axis=-1))} if self.stages > 1 else {}
        )


@dataclass(frozen=True, kw_only=True)
class MaxSensitivity(Protocol):
    """Largest |R' - R| / |R| over `draws` pictures with uniform noise, at most `radius` in each normalised value.

    The noise of a sample depends on its name and the seed alone.
    """

    radius: float = 0.02
    draws: int = 10
    seed: int = 0

    def view(self, sample: Sample, model: Model) -> View:
        return View(sample.id, pixels_of(sample, model, self), sample.labels)

    def targets(self, view: View, logits: Tensor) -> tuple[int, ...]:
        return asked(self, view, logits)

    def measure(self, batch: Batch, maps: Tensor, asks: Sequence[Ask]) -> dict[Ask, dict[str, Tensor]]:
        z = torch.stack([self.noise(view) for view in batch.views], dim=1).to(batch.pixels)  # (draws, B, C, H, W)
        near = torch.stack([batch.again(batch.probe.net, batch.pixels + one) for one in z])

        def one(k: int) -> dict[str, Tensor]:
            found = metrics.max_sensitivity(maps[:, k], near[:, :, k])
            return comparable(batch, {"max-sensitivity": found[:, None]})

        return by_ask(batch, asks, one)

    def noise(self, view: View) -> Tensor:
        """(draws, C, H, W)"""
        digest = hashlib.sha256(f"{self.seed} {view.id}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        return self.radius * (2 * torch.rand(self.draws, *view.pixels.shape, generator=generator) - 1)

    @property
    def numbers(self) -> tuple[Number, ...]:
        return (Number("max-sensitivity", "lower"),)

    def conclude(self, means: Means) -> dict[str, Array]:
        return {"max-sensitivity": means["max-sensitivity"][..., 0]}


def similarity(a: Tensor, b: Tensor, by: str = "spearman") -> Tensor:
    """-1 to 1; 0 where one map is the same everywhere, NaN where both are. (B, h, w) twice -> (B,)"""
    constant = [x.flatten(1).amax(dim=1) == x.flatten(1).amin(dim=1) for x in (a, b)]
    return metrics.SIMILARITIES[by](a, b).masked_fill(constant[0] != constant[1], 0)


def comparable(batch: Batch, found: dict[str, Tensor]) -> dict[str, Tensor]:
    """The values (B, n), if all are numbers. Raises BadSample, for the samples to be tried one by one."""
    for values in found.values():
        bad = (~values.isfinite()).any(dim=1).tolist()
        if any(bad):
            id = batch.views[bad.index(True)].id
            raise BadSample(f"{id}: left out, for maps that are the same everywhere cannot be compared")
    return found


def randomised(net: nn.Module, stages: int, seed: int) -> Iterator[nn.Module]:
    """A copy of the network, again after each stage with more random weights; the network itself stays as it is."""
    copied, generator = copy.deepcopy(net), torch.Generator().manual_seed(seed)
    layers = [module for module in copied.modules() if next(module.parameters(recurse=False), None) is not None]
    done: set[int] = set()
    for stage in range(1, stages + 1):
        first = len(layers) - math.ceil(len(layers) * stage / stages)
        for weight in (w for layer in reversed(layers[first:]) for w in layer.parameters(recurse=False)):
            if id(weight) not in done:
                done.add(id(weight))
                weight.data = drawn_like(weight.data, generator)
        yield copied


def drawn_like(w: Tensor, generator: torch.Generator) -> Tensor:
    """Normal, with the mean and deviation of w."""
    z = torch.randn(w.shape, generator=generator).to(w)
    return w.mean() + w.std(correction=0) * z


PUBLISHED = (
    ClassSensitivity(
        name="class-sensitivity/rebuffi2020",
        paper=metrics.CLASSES,
        summary="how different the maps of the predicted class and of the runner-up are",
        pictures="nothing comparable: the paper's are of other networks and settings",
    ),
    WeightRandomisation(
        name="weight-randomisation/adebayo2018",
        paper=metrics.ADEBAYO,
        summary="how similar maps stay when the weights become random, a tenth of the layers at a time",
        pictures="nothing comparable: the paper's are of other networks and settings",
        stages=10,
    ),
    MaxSensitivity(
        name="max-sensitivity/yeh2019",
        paper="https://arxiv.org/abs/1901.09392",
        summary="how much a map changes, at most, under noise that is too small to see",
        pictures="nothing comparable: the paper's are of other networks and settings",
    ),
)
