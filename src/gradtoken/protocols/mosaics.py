"""Mosaics of pictures of different classes: does the map of each class lie in the cell that shows it?"""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from gradtoken.data.sample import Boxes, DataSet, Sample
from gradtoken.errors import BadData, GradTokenError
from gradtoken.metrics.maps import enlarge, has_positive
from gradtoken.metrics.mosaic import cell_hit, cell_share
from gradtoken.models.model import Model
from gradtoken.models.preprocess import FILTERS
from gradtoken.protocols.protocol import Array, Ask, Batch, Means, Number, Protocol, View, one_label, pixels_of
from gradtoken.state import untouched
from gradtoken.targets import logits_of

CHUNK = 64  # pictures in one forward pass of the selection
Outcome = tuple[int, int | GradTokenError]  # number of a sample, and its class or why it cannot be used


@dataclass(frozen=True, kw_only=True)
class GridPointing(Protocol):
    """sure: least probability of its label for a picture to be used, which must be the predicted class too.

    Pictures are shuffled with `seed` and each is used once in each round; a cell is resized to its share of the input.
    """

    asks: tuple[Ask, ...] = ("cells",)
    rows: int
    columns: int
    sure: float = 0.5
    seed: int = 0
    rounds: int = 1

    def samples(self, data: DataSet, model: Model) -> DataSet:
        """Mosaics of the pictures that the model is sure of; samples that cannot be used stay, and say why."""
        found = list(answered(data, model, self))
        sure = [(number, label) for number, label in found if isinstance(label, int)]
        broken = [(number, error) for number, error in found if isinstance(error, GradTokenError)]
        turns = (grouped(sure, self.rows * self.columns, self.seed + turn) for turn in range(self.rounds))
        groups = list(dict.fromkeys(tuple(group) for groups in turns for group in groups))
        if not groups:
            raise BadData(
                f"{data.name}: of {len(data)} pictures the model is sure of {len(sure)}; a mosaic needs "
                f"{self.rows * self.columns} of different classes"
            )
        ids = ["|".join(data.ids[number] for number in group) for group in groups]

        def read(i: int) -> Sample:
            if i >= len(groups):
                raise broken[i - len(groups)][1]
            return self.joined(ids[i], [data[number] for number in groups[i]], model)

        used = len({number for group in groups for number in group})
        name = f"{data.name}, {len(groups)} mosaics of {used} of {len(data)} pictures"
        return replace(data, name=name, ids=[*ids, *(data.ids[number] for number, _ in broken)], read=read)

    def joined(self, name: str, cells: Sequence[Sample], model: Model) -> Sample:
        """One picture of the model's size, its labels cell by cell."""
        height, width = model.for_pictures.size
        canvas = Image.new("RGB", (width, height))
        for cell, box in zip(cells, self.boxes, strict=True):
            assert isinstance(cell.input, Image.Image)
            x0, y0, x1, y1 = (pixels_before(*pair) for pair in zip(box, (width, height) * 2, strict=True))
            canvas.paste(cell.input.resize((x1 - x0, y1 - y0), FILTERS[self.interpolation]), (x0, y0))
        return Sample(name, canvas, tuple(cell.labels[0] for cell in cells), Boxes(self.boxes))

    @property
    def boxes(self) -> tuple[tuple[float, float, float, float], ...]:
        """The cells, row by row, as fractions."""
        r, c = self.rows, self.columns
        return tuple((j / c, i / r, (j + 1) / c, (i + 1) / r) for i in range(r) for j in range(c))

    def view(self, sample: Sample, model: Model) -> View:
        return View(sample.id, pixels_of(sample, model, self), sample.labels)

    def targets(self, view: View, logits: Tensor) -> tuple[int, ...]:
        del logits
        return view.labels

    def measure(self, batch: Batch, maps: Tensor, asks: Sequence[Ask]) -> dict[Ask, dict[str, Tensor]]:
        H, W = batch.pixels.shape[2:]
        R = torch.stack([enlarge(R, (H, W), self.enlarging) for R in maps.unbind(dim=1)], dim=1)
        found = {"share": cell_share(R, self.boxes), "hit": cell_hit(R, self.boxes), "blank": ~has_positive(R)}
        means = {name: values.double().mean(dim=1, keepdim=True) for name, values in found.items()}
        return dict.fromkeys(asks, means)

    @property
    def numbers(self) -> tuple[Number, ...]:
        return Number("share in the right cell", "higher"), Number("right cell first", "higher"), Number("blank", "")

    def conclude(self, means: Means) -> dict[str, Array]:
        names = ("share", "hit", "blank")
        return {number.name: means[name][..., 0] for number, name in zip(self.numbers, names, strict=True)}


def pixels_before(edge: float, side: int) -> int:
    """How many pixels have their centre before an edge, as where relevance is counted: x + 1/2 < edge."""
    return math.ceil(edge * side - 0.5)


def answered(data: DataSet, model: Model, protocol: GridPointing) -> Iterator[Outcome]:
    """The samples whose label the model predicts and is sure of, and those that cannot be used."""
    for start in range(0, len(data), CHUNK):
        ready: list[tuple[int, View]] = []
        for number in range(start, min(start + CHUNK, len(data))):
            try:
                ready.append((number, protocol.view(data[number], model)))
            except GradTokenError as error:
                yield number, error
        if ready:
            yield from sure_of(ready, model, protocol.sure)


def sure_of(ready: Sequence[tuple[int, View]], model: Model, least: float) -> Iterator[Outcome]:
    """Those of a few samples, after one forward pass."""
    weight = next(model.net.parameters())
    pixels = torch.stack([view.pixels for _, view in ready]).to(weight.device, weight.dtype)
    with untouched(model.net, [pixels]), torch.inference_mode():
        probabilities = model.probabilities(logits_of(model.net(pixels)).double())
    for (number, view), p in zip(ready, probabilities, strict=True):
        try:
            label = one_label(view, len(p))
        except GradTokenError as error:
            yield number, error
            continue
        if int(p.argmax()) == label and p[label] >= least:
            yield number, label


def grouped(sure: Sequence[tuple[int, int]], size: int, seed: int) -> Iterator[list[int]]:
    """Numbers of samples of `size` different classes. Each joins the first group that lacks its class."""
    waiting: list[dict[int, int]] = []
    for number, label in random.Random(seed).sample(list(sure), len(sure)):
        group = next((one for one in waiting if label not in one), None)
        if group is None:
            waiting.append(group := {})
        group[label] = number
        if len(group) == size:
            waiting.remove(group)
            yield list(group.values())


PUBLISHED = tuple(
    GridPointing(
        name=f"grid-pointing-game/{n}x{n}",
        paper="https://arxiv.org/abs/2104.00032",
        summary=f"share of positive relevance in the right cell of {n} x {n} pictures of different classes",
        pictures="ImageNet's validation part, of each class the surest first; here all that the model is sure of",
        rows=n,
        columns=n,
    )
    for n in (2, 3)
)
