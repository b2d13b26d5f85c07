"""What every protocol fixes, and what it makes of maps."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from gradtoken.data.sample import DataSet, Sample
from gradtoken.errors import BadSample, GradTokenError
from gradtoken.inputs import Inputs
from gradtoken.lazy import once
from gradtoken.metrics.entry import Better
from gradtoken.models.model import Model
from gradtoken.models.preprocess import Preprocess
from gradtoken.passes import at_once
from gradtoken.probe import Probe

Ask = Literal["predicted", "label", "largest", "present", "cells"]
Array = np.ndarray[Any, np.dtype[np.float64]]
Means = Mapping[str, Array]


@dataclass(frozen=True)
class Number:
    """One column of a report, printed in percent."""

    name: str
    better: Better


@dataclass(frozen=True, eq=False)
class View:
    """A sample as the model reads it.

    inputs: pixels (C, H, W), normalised, or what a model of texts is called with, (N,) each. labels: classes that are
    true of it. truth: what the protocol laid over the pixels or tokens.
    """

    id: str
    inputs: Any
    labels: tuple[int, ...]
    truth: Any = None

    @property
    def pixels(self) -> Tensor:
        """Of a picture. (C, H, W)"""
        if not isinstance(self.inputs, Tensor):
            raise BadSample(f"{self.id}: expected a picture, got a text")
        return self.inputs

    @once
    def digest(self) -> str:
        """Of the pixels, bit by bit: the same for views that are the same to the model."""
        pixels = self.pixels.cpu().contiguous()
        found = hashlib.sha256(f"{pixels.dtype} {tuple(pixels.shape)}".encode())
        found.update(pixels.view(torch.uint8).numpy().tobytes())
        return found.hexdigest()


def nobody(net: nn.Module, pixels: Tensor) -> Tensor:
    """What makes maps before there is a method."""
    raise NotImplementedError("maps of other networks and pictures are made while a method is measured")


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples with equally many targets, and one probe of them that all methods share.

    targets: distinct classes of each sample. logits: of the untouched inputs, (B, classes). predict: logits of any
    n inputs, best `chunk` at a time, which are `most` at most. black: what a black pixel is after normalisation, (C,),
    or (0,) for texts. again: maps (B, K, h, w) of the same targets by the method that is measured, from a network and
    pictures (B, C, H, W). independent: whether the probability of a class is a sigmoid, as several may be there.
    """

    views: Sequence[View]
    targets: Sequence[tuple[int, ...]]
    logits: Tensor
    probe: Probe
    predict: Callable[[Inputs], Tensor]
    most: int
    black: Tensor
    again: Callable[[nn.Module, Tensor], Tensor] = nobody
    independent: bool = False

    @once
    def chunk(self) -> int:
        """How many inputs one plain pass takes within the memory budget; the same on every machine of one kind."""
        try:
            return min(self.most, at_once(self.probe) * len(self.views))
        except GradTokenError:  # a model whose blocks are not found has no measure of its memory
            return min(self.most, len(self.views))

    def probability(self, logits: Tensor, classes: Tensor) -> Tensor:
        """Of one class of each input. (n, all classes), (n,) -> (n,)"""
        p = logits.double().sigmoid() if self.independent else logits.double().softmax(dim=1)
        return p.gather(1, classes[:, None])[:, 0]

    @property
    def pixels(self) -> Tensor:
        """(B, C, H, W)"""
        return self.probe.grid


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Everything that changes a number, under a name that is printed with it.

    pictures: which samples the published numbers are of; a run is of those that it is given.
    asks: which classes are explained: the predicted one, the label, that of most pixels in a mask, all that are
    present, or those of a mosaic's cells.
    resize, interpolation: from the picture to the model's size. enlarging: from the map to that size.
    options: of methods, where the protocol has its own.
    """

    name: str
    paper: str
    summary: str
    pictures: str = ""
    version: int = 1
    asks: tuple[Ask, ...] = ("predicted",)
    resize: str = "squash"
    interpolation: str = "bilinear"
    enlarging: str = "bilinear"
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        """All settings as JSON values; `pictures`, which changes no number, is none of them."""
        settings = {"family": type(self).__name__} | asdict(self)
        del settings["pictures"]
        return settings

    def asks_of(self, class_aware: bool) -> tuple[Ask, ...]:
        """A map that is the same for all classes is measured once."""
        return self.asks if class_aware or len(self.asks) == 1 else self.asks[:1]

    # What a protocol does; the families say how -----------------------------------------------------------------------

    def samples(self, data: DataSet, model: Model) -> DataSet:
        """What is explained: the data set's samples, or others made of them."""
        del model
        return data

    def view(self, sample: Sample, model: Model) -> View:
        """The sample as the model reads it. Raises BadSample."""
        raise NotImplementedError

    def targets(self, view: View, logits: Tensor) -> tuple[int, ...]:
        """The distinct classes to explain. logits: (classes,). Raises BadSample for a sample that is left out."""
        raise NotImplementedError

    def measure(self, batch: Batch, maps: Tensor, asks: Sequence[Ask]) -> dict[Ask, dict[str, Tensor]]:
        """Values (B, n) by ask and name. maps: relevance (B, K, h, w) for the batch's targets."""
        raise NotImplementedError

    @property
    def numbers(self) -> tuple[Number, ...]:
        """What is reported; the first is what methods are ranked by."""
        raise NotImplementedError

    def conclude(self, means: Means) -> dict[str, Array]:
        """The numbers (...) from means of values over samples (..., n)."""
        raise NotImplementedError

    def curves(self, means: Means) -> dict[str, tuple[Sequence[float], Array]]:
        """What can be drawn: x and y by title."""
        del means
        return {}


def pixels_of(sample: Sample, model: Model, protocol: Protocol) -> Tensor:
    """The whole picture, resized as the protocol says and normalised as the model asks. (C, H, W)"""
    if isinstance(sample.input, str):
        raise BadSample(f"{sample.id}: expected a picture, got a text; {protocol.name} is for pictures")
    return preprocessing(model, protocol)(sample.input).pixels


def preprocessing(model: Model, protocol: Protocol) -> Preprocess:
    """The model's normalisation and size, and the protocol's way there."""
    return replace(model.for_pictures, resize=protocol.resize, interpolation=protocol.interpolation, resize_to=None)


def one_label(view: View, classes: int) -> int:
    """The label of a sample that must have exactly one, among the model's classes."""
    if len(view.labels) != 1:
        raise BadSample(f"{view.id}: expected one label, got {len(view.labels)}")
    if not 0 <= view.labels[0] < classes:
        raise BadSample(f"{view.id}: label {view.labels[0]} is outside the model's {classes} classes")
    return view.labels[0]


def predicted_and_label(view: View, logits: Tensor) -> tuple[int, ...]:
    """The predicted class, and the label where it is another one."""
    return tuple(dict.fromkeys((int(logits.argmax()), one_label(view, len(logits)))))


def asked(protocol: Protocol, view: View, logits: Tensor) -> tuple[int, ...]:
    """The predicted class, the label, or both, as the protocol asks."""
    if protocol.asks == ("predicted",):
        return (int(logits.argmax()),)
    if protocol.asks == ("label",):
        return (one_label(view, len(logits)),)
    return predicted_and_label(view, logits)


def column(ask: Ask, targets: tuple[int, ...]) -> int:
    """Which of `predicted_and_label` an ask means."""
    return len(targets) - 1 if ask == "label" else 0


def by_ask(batch: Batch, asks: Sequence[Ask], one: Callable[[int], dict[str, Tensor]]) -> dict[Ask, dict[str, Tensor]]:
    """What `one` gives for the column of each ask, computed once where two asks mean the same class."""
    columns = {ask: column(ask, batch.targets[0]) for ask in asks}
    found = {k: one(k) for k in dict.fromkeys(columns.values())}
    return {ask: found[k] for ask, k in columns.items()}
