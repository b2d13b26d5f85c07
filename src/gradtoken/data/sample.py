"""What a data set yields, one at a time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

VOID = -1  # pixels that count for nothing


@dataclass(frozen=True, eq=False)
class Mask:
    """Pixel labels (H, W), int16: 0 background, c + 1 for class c of the data set, VOID; 1 where no class is named."""

    values: np.ndarray[Any, Any]


@dataclass(frozen=True)
class Boxes:
    """Boxes of the labelled class: x0, y0, x1, y1 as fractions of width and height."""

    fractions: tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True, eq=False)
class Rationale:
    """The words of a text, and which of them people marked as the reason for its label. marked: (words,), bool."""

    words: tuple[str, ...]
    marked: np.ndarray[Any, Any]


Truth = Mask | Boxes | Rationale


@dataclass(frozen=True, eq=False)
class Sample:
    """input: an RGB picture, turned as its truth is, or a text. labels: classes that are true of it, where known."""

    id: str
    input: Image.Image | str
    labels: tuple[int, ...]
    truth: Truth | None = None


@dataclass(frozen=True, eq=False)
class DataSet:
    """Samples by number, read when they are asked for. Iterating streams; nothing is kept.

    name: of the data set and its part, as reports print it. ids: unique. read: raises BadSample with the reason.
    classes: the names that `labels` index, or () where no sample has labels. groups: for each class the ImageNet-1k
    classes that mean it, for use with an ImageNet model; empty where labels are the model's own numbers. lists: digest
    of what tables and lists say of the samples, where known.
    """

    name: str
    ids: Sequence[str]
    read: Callable[[int], Sample]
    classes: tuple[str, ...] = ()
    groups: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    lists: str = ""

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, number: int) -> Sample:
        return self.read(range(len(self.ids))[number])

    def __iter__(self) -> Iterator[Sample]:
        return map(self.read, range(len(self.ids)))
