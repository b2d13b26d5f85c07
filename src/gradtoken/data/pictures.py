"""Any pictures without answers: for methods and metrics that need none."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from gradtoken.data.entry import DATASETS, Kind
from gradtoken.data.listing import entries, expect_folder, is_picture, pictures_below
from gradtoken.data.reading import data_set
from gradtoken.data.sample import DataSet, Sample
from gradtoken.errors import BadData
from gradtoken.models.pictures import open_picture


@dataclass(frozen=True)
class Pictures:
    folder: Path
    ids: Sequence[str]

    def __call__(self, number: int) -> Sample:
        id = self.ids[number]
        return Sample(id, open_picture(self.folder / id), ())


def open_pictures(path: str | os.PathLike[str]) -> DataSet:
    """All pictures in a folder and below it, by suffix, without labels."""
    folder = expect_folder(Path(path), "pictures")
    ids = list(pictures_below(folder))
    if not ids:
        raise BadData(f"no picture lies in or below {str(folder)!r}; expected files such as a.jpg, b.png")
    return data_set(f"pictures/{folder.resolve().name}", ids, Pictures(folder, ids))


def fits(path: Path) -> bool:
    """A folder with a picture among the first things in it."""
    return path.is_dir() and any(is_picture(entry.name) for entry in islice(entries(path), 1000))


DATASETS.enter(
    Kind(
        name="pictures",
        open=open_pictures,
        summary="your own pictures, without answers",
        where="your own",
        licence="that of the pictures",
        layout="FOLDER/a.jpg, FOLDER/more/b.png, ...",
        fits=fits,
    )
)
