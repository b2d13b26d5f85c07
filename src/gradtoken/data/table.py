"""Any pictures with a table of their classes, and boxes of them."""

import csv
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from gradtoken.data.entry import DATASETS, Kind
from gradtoken.data.listing import entries
from gradtoken.data.reading import data_set, text_of
from gradtoken.data.sample import Boxes, DataSet, Sample
from gradtoken.errors import BadData, BadSample
from gradtoken.models.pictures import open_picture
from gradtoken.outside import decoded, whole

BOXES = "boxes_xyxy_fraction"
NAMES = ("label", "class", "name")
LAYOUT = f"""\
FOLDER/labels.csv    or the only table there, or name the table itself; its first line names the columns:
    file,class_index,name,{BOXES}
    a.jpg,281,tabby,"[[0.1, 0.2, 0.5, 1.0]]"
FOLDER/a.jpg    or FOLDER/images/a.jpg
columns: file; class_index (the model's number) or label, class, name; others are allowed, and so are empty cells"""


class Row(NamedTuple):
    """Cells of one line, "" where empty."""

    file: str
    class_index: str
    name: str
    boxes: str


@dataclass(frozen=True)
class Pictures:
    """labels: one for each row, -1 where the table gives none. boxes: cells."""

    folder: Path
    ids: Sequence[str]
    labels: Sequence[int]
    boxes: Sequence[str]

    def __call__(self, number: int) -> Sample:
        id, label = self.ids[number], self.labels[number]
        picture = open_picture(self.folder / id)
        return Sample(id, picture, () if label < 0 else (label,), boxes_of(self.boxes[number]))


def open_csv(path: str | os.PathLike[str], *, split: str | None = None) -> DataSet:
    """Pictures of a table, with the class and the boxes that it gives.

    Where the table has class_index, that number is the class and also the model's class; the names come from its column
    label, class or name. Otherwise classes are the different names in alphabetical order. split: read only rows whose
    column `split` says so.
    """
    file = find_table(Path(path))
    rows = list(rows_of(file, split))
    if not rows:
        told = f"of the split {split!r} " if split is not None else ""
        raise BadData(f"no row {told}is in {str(file)!r}; expected\n{LAYOUT}")
    numbered = any(row.class_index for row in rows)
    labels, classes = by_index(rows, file) if numbered else by_name(rows)
    inner = file.parent / "images"
    folder = inner if inner.is_dir() and not (file.parent / rows[0].file).exists() else file.parent
    ids = [row.file for row in rows]
    read = Pictures(folder, ids, labels, [row.boxes for row in rows])
    name = file.parent.resolve().name if file.name == "labels.csv" else file.stem
    return data_set(f"csv/{name}{f' {split}' if split else ''}", ids, read, classes)


def find_table(path: Path) -> Path:
    """The table itself, labels.csv in a folder, or the only table there."""
    if path.is_file():
        return path
    if (path / "labels.csv").is_file():
        return path / "labels.csv"
    tables = sorted(entry.name for entry in entries(path) if entry.name.lower().endswith(".csv"))
    if len(tables) != 1:
        raise BadData(f"{str(path)!r} holds {len(tables)} tables (*.csv); expected one, or labels.csv:\n{LAYOUT}")
    return path / tables[0]


def rows_of(file: Path, split: str | None) -> Iterator[Row]:
    """The rows of a table, or of one part of it."""
    reader = csv.reader(io.StringIO(text_of(file, BadData), newline=""), strict=True)
    try:
        header = [cell.strip() for cell in next(reader, [])]
        column = {name: place for place, name in enumerate(header)}
        if "file" not in column or (split is not None and "split" not in column):
            raise BadData(f"{str(file)!r} has the columns {header}; expected file{', split' if split else ''}, ...")
        named = next((name for name in NAMES if name in column), "")
        places = [column.get(name) for name in ("file", "class_index", named, BOXES)]
        for cells in filter(None, reader):
            if len(cells) != len(header):
                line = f"line {reader.line_num} of {str(file)!r}"
                raise BadData(f"{line} has {len(cells)} cells, its first line {len(header)}")
            if split is None or cells[column["split"]] == split:
                yield Row(*("" if place is None else cells[place].strip() for place in places))
    except csv.Error as error:
        raise BadData(f"line {reader.line_num} of {str(file)!r} is no CSV: {error}") from error


def by_index(rows: Sequence[Row], file: Path) -> tuple[list[int], tuple[str, ...]]:
    """Class of each row by its number, and names up to the highest number."""
    labels, names = list[int](), dict[int, str]()
    for row in rows:
        if not row.class_index:
            labels.append(-1)
            continue
        number = whole(row.class_index)
        if number is None or not 0 <= number < 100_000:
            raise BadData(
                f"{str(file)!r} says class_index {row.class_index!r} of {row.file!r}; expected a number from 0"
            )
        labels.append(number)
        names.setdefault(number, row.name)
    return labels, tuple(names.get(number) or f"class {number}" for number in range(max(names) + 1))


def by_name(rows: Sequence[Row]) -> tuple[list[int], tuple[str, ...]]:
    """Class of each row by its name, and the names in alphabetical order."""
    classes = sorted({row.name for row in rows if row.name})
    place = {name: number for number, name in enumerate(classes)}
    return [place.get(row.name, -1) for row in rows], tuple(classes)


def boxes_of(cell: str) -> Boxes | None:
    """Boxes of a cell, [[x0, y0, x1, y1], ...]; nothing where it is empty or []."""
    try:
        boxes = [tuple(float(edge) for edge in box) for box in decoded(cell or "[]")]
        return Boxes(tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in boxes)) if boxes else None
    except (ValueError, TypeError, OverflowError) as error:
        raise BadSample(f"{BOXES} is {cell!r}; expected [[x0, y0, x1, y1], ...] as fractions: {error}") from error


def fits(path: Path) -> bool:
    """A table, or a folder with a table among the first things in it."""
    if path.is_dir():
        tables = (entry.name for entry in islice(entries(path), 100) if entry.name.lower().endswith(".csv"))
        return (path / "labels.csv").is_file() or next(tables, None) is not None
    return path.suffix.lower() == ".csv"


DATASETS.enter(
    Kind(
        name="csv",
        open=open_csv,
        summary="your own pictures with a table of classes, and of boxes",
        where="your own",
        licence="that of the pictures",
        layout=LAYOUT,
        fits=fits,
    )
)
