"""Maps of many pictures, kept as runs keep what they measure: `gradtoken explain FOLDER --out DIR --resume`.

A run under the protocol `maps`. For each picture, method and class its rows hold `map` (rows x columns, one after the
other), `shape`, `class`, `logit` and `probability`.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradtoken.benchmark.folder import RunFolder
from gradtoken.benchmark.plan import Plan, Variant
from gradtoken.benchmark.request import unit_of
from gradtoken.benchmark.rows import Row
from gradtoken.data.sample import DataSet, Sample
from gradtoken.errors import BadSample
from gradtoken.inputs import apply
from gradtoken.methods import METHODS
from gradtoken.models.labels import find_class
from gradtoken.models.model import Model
from gradtoken.models.pictures import open_picture
from gradtoken.protocols.protocol import Ask, Batch, Protocol, View
from gradtoken.provenance import provenance
from gradtoken.result import Explanation
from gradtoken.state import untouched
from gradtoken.targets import logits_of

PREDICTED = "predicted"


@dataclass(frozen=True, kw_only=True)
class Maps(Protocol):
    """classes: what is explained of each picture; -1 is the predicted one."""

    name: str = "maps"
    paper: str = ""
    summary: str = "relevance of each patch, as the method gives it"
    resize: str = "as the model asks"
    interpolation: str = "as the model asks"
    enlarging: str = "none"
    classes: tuple[int, ...] = (-1,)

    def asks_of(self, class_aware: bool) -> tuple[Any, ...]:
        """Every class, also of methods that do not look at it, as `explain` gives them."""
        del class_aware
        return tuple(PREDICTED if index < 0 else str(index) for index in self.classes)

    def view(self, sample: Sample, model: Model) -> View:
        """The picture as `explain` shows it to the model."""
        if isinstance(sample.input, str):
            raise BadSample(f"{sample.id}: expected a picture, got a text")
        return View(sample.id, model.for_pictures(sample.input).pixels, ())

    def targets(self, view: View, logits: Tensor) -> tuple[int, ...]:
        """Distinct classes."""
        del view
        return tuple(dict.fromkeys(int(logits.argmax()) if index < 0 else index for index in self.classes))

    def measure(self, batch: Batch, maps: Tensor, asks: Sequence[Ask]) -> dict[Ask, dict[str, Tensor]]:
        """The maps themselves, and what the model says of their classes."""
        shape = torch.tensor(maps.shape[2:]).expand(len(maps), 2)
        logits = batch.logits.double().cpu()
        predicted = logits.argmax(dim=1)
        found: dict[Ask, dict[str, Tensor]] = {}
        for ask, index in zip(asks, self.classes, strict=True):
            classes = predicted if index < 0 else torch.full_like(predicted, index)
            places = [targets.index(int(c)) for targets, c in zip(batch.targets, classes, strict=True)]
            found[ask] = {
                "map": torch.stack([of_one[k] for of_one, k in zip(maps, places, strict=True)]).flatten(1),
                "shape": shape,
                "class": classes[:, None],
                "logit": logits.gather(1, classes[:, None]),
                "probability": batch.probability(logits, classes)[:, None],
            }
        return found


def plan_of(
    pictures: Sequence[Path], model: Model, targets: Sequence[Any], options: Mapping[str, Mapping[str, Any]]
) -> Plan:
    """targets: names or indices of classes, None for the predicted one. options: of each method, by its name."""
    count = classes_of(model)
    found = [-1 if target is None else find_class(model.labels, target, count) for target in targets]
    names = [str(path) for path in pictures]
    data = DataSet(f"{len(names)} pictures", names, lambda i: Sample(names[i], open_picture(names[i]), ()))
    variants = tuple(Variant(name, chosen) for name, chosen in options.items())
    return Plan(Maps(classes=tuple(dict.fromkeys(found))), data, model, variants, unit=unit_of(len(names)))


def classes_of(model: Model) -> int:
    """How many the model has, by its answer to a blank picture."""
    weight = next(model.net.parameters())
    blank = torch.zeros(1, 3, *model.for_pictures.size, dtype=weight.dtype, device=weight.device)
    with untouched(model.net, [blank]), torch.inference_mode():
        return logits_of(apply(model.net, blank)).shape[1]


@dataclass(frozen=True, eq=False)
class Kept:
    """What one file says of one class of one picture. relevance: (rows, columns)"""

    source: str
    variant: Variant
    target: int
    logit: float
    probability: float
    relevance: "np.ndarray[Any, Any]"

    def explanation(self, model: Model, path: str) -> Explanation:
        """With its picture, which is read again. path: of its file, whose name may be no text."""
        picture = open_picture(path)
        return Explanation(
            relevance=self.relevance,
            picture=picture,
            box=model.for_pictures(picture).box,
            target=self.target,
            name=model.labels[self.target] if model.labels is not None else f"class {self.target}",
            logit=self.logit,
            probability=self.probability,
            method=self.variant.method,
            options=dict(self.variant.options),
            source=path,
            class_aware=METHODS[self.variant.method].class_aware,
            **provenance(model),
        )


def kept(folder: RunFolder, variant: Variant, unit: range) -> Iterator[Kept]:
    """The maps in one file, in its order; none where it is absent."""
    good = [row for row in folder.rows(variant, unit) or () if not row.reason]
    by_picture: dict[tuple[str, str], dict[str, Row]] = {}
    for row in good:
        by_picture.setdefault((row.sample, row.ask), {})[row.metric] = row
    for (source, _), rows in by_picture.items():
        height, width = map(int, rows["shape"].values)
        (target,), (logit,), (probability,) = (rows[name].values for name in ("class", "logit", "probability"))
        values = np.array(rows["map"].values, dtype=np.float32).reshape(height, width)
        yield Kept(source, variant, int(target), logit, probability, values)


def by_picture(folder: RunFolder, variants: Sequence[Variant], unit: range) -> Iterator[tuple[str, list[Kept]]]:
    """The maps of a unit's pictures: methods outside, classes inside."""
    found = [one for variant in variants for one in kept(folder, variant, unit)]
    return ((source, list(some)) for source, some in groupby(sorted(found, key=source_of), key=source_of))


def source_of(one: Kept) -> str:
    """The name of its picture."""
    return one.source


def as_npz(found: Sequence[Kept]) -> bytes:
    """Maps of one shape as arrays: `maps` (n, rows, columns), float32, and of each its source, method and class."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        maps=np.stack([one.relevance for one in found]),
        source=np.array([one.source for one in found]),
        method=np.array([one.variant.title for one in found]),
        target=np.array([one.target for one in found]),
        logit=np.array([one.logit for one in found]),
        probability=np.array([one.probability for one in found]),
    )
    return buffer.getvalue()
