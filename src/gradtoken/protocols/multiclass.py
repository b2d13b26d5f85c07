"""Do the maps of all classes that a picture shows, taken together, say which pixel is of which?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gradtoken.data.sample import DataSet, Sample
from gradtoken.errors import BadData, BadModel, BadSample
from gradtoken.metrics.segmentation import confusion
from gradtoken.models.load import count_of
from gradtoken.models.model import Model
from gradtoken.protocols.protocol import Array, Ask, Batch, Means, Number, Protocol, View, pixels_of, preprocessing
from gradtoken.protocols.truth import at, divided, mask_of, mean_iou, scaled


@dataclass(frozen=True, kw_only=True)
class Multiclass(Protocol):
    """Every class that is present is explained, each map (R - min) / (max - min), at the size of the model's input.

    A pixel is of the class whose map is highest there, the first of equals, and background where none is above the
    threshold: that of `levels` with the highest mIoU over the whole data set, for every method its own. A constant map
    is 0 everywhere. The model must have the data set's classes, by a head of its own or as groups of its classes, see
    gradtoken.models.grouped.

    Pixel accuracy and mIoU divide counts of the whole data set; mIoU is the mean over background and the classes that
    occur in any mask or guess. Pixels that nobody labelled count for nothing.
    """

    asks: tuple[Ask, ...] = ("present",)
    levels: tuple[float, ...]

    def samples(self, data: DataSet, model: Model) -> DataSet:
        if not data.classes:
            raise BadData(f"{self.name} explains the classes of a data set, and {data.name} names none")
        count = count_of(model)
        if count not in (None, len(data.classes)):
            raise BadModel(
                f"{self.name} explains the {len(data.classes)} classes of {data.name}, and {model.name} has {count}; "
                "use a model with these classes, or gradtoken.models.grouped.grouped"
            )
        return data

    def view(self, sample: Sample, model: Model) -> View:
        pixels, mask = pixels_of(sample, model, self), mask_of(sample, preprocessing(model, self))
        return View(sample.id, pixels, sample.labels, mask)

    def targets(self, view: View, logits: Tensor) -> tuple[int, ...]:
        if not view.labels:
            raise BadSample(f"{view.id}: left out, for it shows none of the classes")
        for cls in (*view.labels, int(view.truth.max()) - 1):
            if not -1 <= cls < len(logits):
                raise BadSample(f"{view.id}: class {cls} is outside the model's {len(logits)} classes")
        return tuple(sorted(set(view.labels)))

    def measure(self, batch: Batch, maps: Tensor, asks: Sequence[Ask]) -> dict[Ask, dict[str, Tensor]]:
        """Pixels for T thresholds of background and the classes: intersection and union, (B, T (C + 1)); labelled."""
        H, W = batch.pixels.shape[2:]
        R = scaled(maps.flatten(0, 1), (H, W), self.enlarging).nan_to_num(0).reshape(*maps.shape[:2], H, W)
        highest, place = R.max(dim=1)
        classes = torch.tensor(batch.targets, device=R.device)[:, :, None]  # (B, K, 1)
        labels = 1 + classes.expand(-1, -1, H * W).gather(1, place.flatten(1)[:, None]).view_as(place)
        truth = torch.stack([view.truth for view in batch.views]).to(R.device)
        count = 1 + batch.logits.shape[1]
        tables = [confusion(labels * (highest > level), truth, count) for level in self.levels]
        values = {
            "intersection": torch.cat([table.intersection for table in tables], dim=1),
            "union": torch.cat([table.union for table in tables], dim=1),
            "labelled": tables[0].labelled[:, None],
        }
        return dict.fromkeys(asks, values)

    @property
    def numbers(self) -> tuple[Number, ...]:
        return (
            Number("mIoU, best threshold", "higher"),
            Number("pixel accuracy, best threshold", "higher"),
            Number("best threshold", ""),
        )

    def conclude(self, means: Means) -> dict[str, Array]:
        T = len(self.levels)
        I, U = (m.reshape(*m.shape[:-1], T, -1) for m in (means["intersection"], means["union"]))
        miou, accuracy = mean_iou(I, U), divided(I.sum(axis=-1), means["labelled"])  # (..., T)
        best = miou.argmax(axis=-1)
        values = (miou, accuracy, np.asarray(self.levels) + 0 * miou)
        return {number.name: at(v, best) for number, v in zip(self.numbers, values, strict=True)}


PUBLISHED = (
    Multiclass(
        name="voc2012/gradtoken2025",
        paper="https://doi.org/10.1016/j.neunet.2024.106837",
        summary="a class for each pixel from the maps of all that are present; best of ten thresholds for each method",
        pictures="the 1,449 of PASCAL VOC 2012 val",
        levels=tuple(i / 10 for i in range(10)),
    ),
)
