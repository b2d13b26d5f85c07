"""Any pictures with label images beside them, for example made of COCO's annotations."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradtoken.data.entry import DATASETS, Kind
from gradtoken.data.label_images import one_channel, present, renumbered
from gradtoken.data.listing import by_stem, expect_folder
from gradtoken.data.reading import data_set, text_of
from gradtoken.data.sample import VOID, DataSet, Mask, Sample
from gradtoken.errors import BadData, BadSample
from gradtoken.models.pictures import open_picture
from gradtoken.outside import decoded

NO_ANSWER = ("unlabeled", "unlabelled", "void", "ignore", "ignored")  # names of numbers that count for nothing
FILE = "classes.json"
NUMBERS = 2**15  # that masks may hold
LAYOUT = """\
FOLDER/images/a.jpg
FOLDER/masks/a.png    one class number a pixel; without classes.json 0 is background and all else foreground
FOLDER/classes.json    {"mask_value_to_name": {"0": "unlabeled", "17": "cat", ...},
                        "name_to_imagenet_classes": {"cat": [281, 282, ...], ...}}    (the second may be left out)"""


@dataclass(frozen=True)
class Meaning:
    """table: number in a mask -> 0, class + 1 or VOID; empty where all numbers but 0 are foreground."""

    classes: tuple[str, ...]
    table: Mapping[int, int]
    groups: Mapping[int, tuple[int, ...]]


@dataclass(frozen=True)
class Pictures:
    """pictures, masks: stem -> file."""

    root: Path
    ids: Sequence[str]
    pictures: Mapping[str, str]
    masks: Mapping[str, str]
    table: Mapping[int, int]

    def __call__(self, number: int) -> Sample:
        id = self.ids[number]
        for folder, files in (("images", self.pictures), ("masks", self.masks)):
            if id not in files:
                raise BadSample(f"there is no file {id}.* in {str(self.root / folder)!r}")
        picture = open_picture(self.root / "images" / self.pictures[id])
        values = one_channel(self.root / "masks" / self.masks[id])
        if not self.table:
            return Sample(id, picture, (), Mask((values != 0).astype("int16")))
        mask = renumbered(values, self.table)
        return Sample(id, picture, present(mask), mask)


def open_masks(path: str | os.PathLike[str]) -> DataSet:
    """Pictures and masks of the same stem; labels are the classes that a mask shows.

    Classes are the names for which classes.json lists ImageNet classes, or all names where it lists none. Other names
    become background. "unlabeled", "void" and "ignore" mean that nobody answered: such pixels count for nothing. Masks
    are of the upright picture, turned as its EXIF orientation says.
    """
    root = Path(path)
    pictures = by_stem(expect_folder(root / "images", "pictures"))
    masks = by_stem(expect_folder(root / "masks", "a label image for each picture"))
    file = root / FILE
    meaning = read_meaning(file) if file.is_file() else Meaning((), {}, {})
    ids = sorted({*pictures, *masks})
    read = Pictures(root, ids, pictures, masks, meaning.table)
    return data_set(f"masks/{root.resolve().name}", ids, read, meaning.classes, meaning.groups)


def read_meaning(path: Path) -> Meaning:
    """What the numbers in the masks mean."""
    try:
        content = decoded(text_of(path, BadData))
        names = {int(value): str(name) for value, name in content["mask_value_to_name"].items()}
        listed = content.get("name_to_imagenet_classes", {})
        if not all(0 <= value < NUMBERS for value in names):
            raise ValueError(f"numbers in masks are from 0 to {NUMBERS - 1}")
        groups = {str(name): tuple(map(check_index, indices)) for name, indices in listed.items() if indices}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadData(f"{str(path)!r} is not as expected: {error!r}; expected\n{LAYOUT}") from error
    wanted = [name for name in names.values() if name in groups] if groups else list(names.values())
    classes = tuple(dict.fromkeys(name for name in wanted if name not in (*NO_ANSWER, "background")))
    if not classes:
        raise BadData(f"{str(path)!r} names no class; expected\n{LAYOUT}")
    place = {name: number for number, name in enumerate(classes, start=1)} | dict.fromkeys(NO_ANSWER, VOID)
    table = {value: place.get(name, 0) for value, name in names.items()}
    return Meaning(classes, table, {place[name] - 1: groups[name] for name in classes if groups})


def check_index(index: Any) -> int:
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < 1000:
        raise ValueError(f"{index!r} is no ImageNet class from 0 to 999")
    return index


def fits(path: Path) -> bool:
    return (path / "images").is_dir() and (path / "masks").is_dir()


DATASETS.enter(
    Kind(
        name="masks",
        open=open_masks,
        summary="your own pictures with label images, or COCO's",
        where="your own; COCO: https://cocodataset.org/#download",
        licence="that of the pictures; COCO: annotations CC BY 4.0, pictures by Flickr's terms",
        layout=LAYOUT,
        fits=fits,
    )
)
