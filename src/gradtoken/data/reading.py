"""What all kinds share: a data set is checked when it is opened, a sample when it is read."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from gradtoken import outside
from gradtoken.data.sample import VOID, Boxes, DataSet, Mask, Rationale, Sample
from gradtoken.errors import BadData, BadPicture, BadSample


@dataclass(frozen=True)
class Reader:
    """Reads one sample by number; whatever is wrong with it becomes BadSample with its id. classes: how many."""

    ids: Sequence[str]
    load: Callable[[int], Sample]
    classes: int

    def __call__(self, number: int) -> Sample:
        id = self.ids[number]
        try:
            sample = self.load(number)
        except (BadSample, BadPicture) as error:
            raise BadSample(f"{id}: {error}") from error
        if reason := fault(sample, self.classes):
            raise BadSample(f"{id}: {reason}")
        return sample


def data_set(
    name: str,
    ids: Sequence[str],
    load: Callable[[int], Sample],
    classes: tuple[str, ...] = (),
    groups: Mapping[int, tuple[int, ...]] | None = None,
) -> DataSet:
    """A data set whose samples are checked as they are read. load may raise BadSample and BadPicture without the id."""
    if not ids:
        raise BadData(f"the data set {name} is empty; expected at least one sample")
    if len(set(ids)) < len(ids):
        id, count = Counter(ids).most_common(1)[0]
        raise BadData(f"{name}: {id!r} is there {count} times; every sample needs an id of its own")
    return DataSet(name, ids, Reader(ids, load, len(classes)), classes, groups or {}, digest_of(load))


def digest_of(load: Any) -> str:
    """Of all that a reader holds but folders: the labels, boxes and meanings that it took from lists."""
    if not is_dataclass(load):
        return ""
    held = {one.name: getattr(load, one.name) for one in fields(load)}
    told = [(name, value) for name, value in held.items() if not isinstance(value, Path | None)]
    return sha256(json.dumps(told, default=repr).encode()).hexdigest()[:16]


def fault(sample: Sample, classes: int) -> str:
    """What makes a sample unusable, or "" where nothing does."""
    if wrong := [label for label in sample.labels if not 0 <= label < classes]:
        return f"label {wrong[0]} is outside the {classes} classes of the data set"
    if isinstance(sample.truth, Mask):
        size = None if isinstance(sample.input, str) else (sample.input.height, sample.input.width)
        return mask_fault(sample.truth.values, size, max(classes, 1))
    if isinstance(sample.truth, Boxes):
        return boxes_fault(sample.truth)
    return rationale_fault(sample.truth) if isinstance(sample.truth, Rationale) else ""


def mask_fault(values: "np.ndarray[tuple[int, ...], np.dtype[np.int16]]", size: object, highest: int) -> str:
    if values.shape != size:
        told = "that of its picture is" if isinstance(size, tuple) else "and there is no picture:"
        return f"the mask has the shape (height, width) = {values.shape}, {told} {size}"
    low, high = int(values.min()), int(values.max())
    if low < VOID or high > highest:
        return f"the mask holds {low if low < VOID else high}; expected 0 to {highest}, or {VOID} for no answer"
    return ""


def boxes_fault(boxes: Boxes) -> str:
    if not boxes.fractions:
        return "there is no box; expected at least one"
    for box in boxes.fractions:
        if not (len(box) == 4 and 0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1):  # nan fails too
            return f"expected a box x0 < x1, y0 < y1 as fractions from 0 to 1, got {box}"
    return ""


def rationale_fault(rationale: Rationale) -> str:
    if not rationale.words:
        return "the text has no words"
    if rationale.marked.shape != (len(rationale.words),) or rationale.marked.dtype != bool:
        return f"expected one mark for each of {len(rationale.words)} words, got {rationale.marked.shape}"
    return ""


def text_of(path: Path, error: type[BadData] = BadSample) -> str:
    """A UTF-8 text file, or the error given."""
    try:
        return outside.text_of(path)
    except OSError as cause:
        raise error(f"{str(path)!r} cannot be read: {cause.strerror or cause}") from cause
    except UnicodeDecodeError as cause:
        raise error(f"{str(path)!r} is not UTF-8 text: {cause}") from cause
    except ValueError as cause:
        raise error(f"{str(path)!r} cannot be read: {cause}") from cause


def lines_of(path: Path) -> list[str]:
    """The lines of a list that come with a data set, without blank ones."""
    return [line.strip() for line in text_of(path, BadData).split("\n") if line.strip()]
