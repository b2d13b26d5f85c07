"""ImageNet-S: ImageNet pictures with a class for each pixel (Gao et al. 2022, arXiv:2106.03149)."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gradtoken.data import synsets
from gradtoken.data.entry import DATASETS, Kind
from gradtoken.data.label_images import label_image, present, renumbered
from gradtoken.data.listing import expect_folder, folders_in, pictures_in
from gradtoken.data.pixels import as_stored
from gradtoken.data.reading import data_set, lines_of
from gradtoken.data.sample import VOID, DataSet, Sample
from gradtoken.errors import BadData, BadSample

IGNORE = 1000
SIZES = (50, 300, 919)
MERGED = {  # of the 919 classes: synset -> the other one that it means too
    "n04355933": "n04356056",
    "n02808440": "n04493381",
    "n03832673": "n03642806",
    "n03773504": "n04008634",
    "n15075141": "n03887697",
}
LAYOUT = """\
FOLDER/validation/n01443537/ILSVRC2012_val_00000236.JPEG
FOLDER/validation-segmentation/n01443537/ILSVRC2012_val_00000236.png    (class = R + 256 G; 0 other, 1000 ignored)
FOLDER/ImageNetS_categories_im50.txt    only where not all 50, 300 or 919 folders are there"""


@dataclass(frozen=True)
class Pictures:
    """classes: synsets in the order of the numbers in the masks, which begin at 1."""

    folder: Path
    masks: Path
    ids: Sequence[str]
    classes: Sequence[str]

    def __call__(self, number: int) -> Sample:
        id = self.ids[number]
        picture = as_stored(self.folder / id)
        values = label_image(self.masks / f"{os.path.splitext(id)[0]}.png")
        if values.ndim != 3 or values.shape[2] < 3:
            raise BadSample(f"expected a mask in three channels, class = R + 256 G, got the shape {values.shape}")
        meaning = {0: 0, IGNORE: VOID} | {number: number for number in range(1, len(self.classes) + 1)}
        mask = renumbered(np.asarray(values[..., 0] + 256 * values[..., 1]), meaning)
        own = self.classes.index(id.partition("/")[0])
        return Sample(id, picture, (own, *(label for label in present(mask) if label != own)), mask)


def open_imagenet_s(path: str | os.PathLike[str], *, split: str = "validation") -> DataSet:
    """Pictures, their masks, and their classes: first that of the folder, then others that the mask shows.

    split: validation, or train-semi. Classes are named by their synset where no list of words lies in the folder.
    """
    root = Path(path)
    folder = expect_folder(root / split, "a folder of pictures for each class")
    masks = expect_folder(root / f"{split}-segmentation", "a folder of masks for each class")
    there = folders_in(folder)
    classes = categories(root) or there
    if classes is there and len(there) not in SIZES:
        raise BadData(
            f"{str(folder)!r} has {len(there)} classes; expected 50, 300 or 919, or a list of all of them, "
            f"ImageNetS_categories_im50.txt, in {str(root)!r}: the numbers in the masks are places in that list"
        )
    if strange := sorted(set(there) - set(classes)):
        raise BadData(f"the folder {strange[0]!r} in {str(folder)!r} is not among the {len(classes)} classes listed")
    ids = [f"{name}/{file}" for name in there for file in pictures_in(folder / name)]
    words = synsets.words(root)
    read = Pictures(folder, masks, ids, classes)
    told = tuple(words.get(name, name) for name in classes)
    return data_set(f"imagenet-s/{len(classes)} {split}", ids, read, told, groups(classes))


def categories(root: Path) -> list[str]:
    """The synsets of all classes, sorted, where a list lies in the folder."""
    lists = sorted(root.glob("ImageNetS_categories_im*.txt"))
    return sorted(lines_of(lists[0])) if lists else []


def groups(classes: Sequence[str]) -> dict[int, tuple[int, ...]]:
    """ImageNet's numbers of each class; of the 919, five mean two classes of ImageNet."""
    known = synsets.indices()
    more = MERGED if len(classes) == max(SIZES) else {}
    meant = {i: (synset, more.get(synset, "")) for i, synset in enumerate(classes)}
    return {i: tuple(known[one] for one in both if one in known) for i, both in meant.items() if both[0] in known}


def fits(path: Path) -> bool:
    return any((path / f"{split}-segmentation").is_dir() for split in ("validation", "train-semi"))


DATASETS.enter(
    Kind(
        name="imagenet-s",
        open=open_imagenet_s,
        summary="ImageNet-S 50, 300 or 919: ImageNet pictures with a class for each pixel",
        where="https://github.com/LUSSeg/ImageNet-S",
        licence="ImageNet terms of access: research, no redistribution",
        layout=LAYOUT,
        fits=fits,
    )
)
