"""ImageNet-1k in folders of classes, or the flat validation pictures with the development kit."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from gradtoken.data import synsets
from gradtoken.data.annotations import read_boxes
from gradtoken.data.devkit import NAME, answers, find_devkit
from gradtoken.data.entry import DATASETS, Kind
from gradtoken.data.listing import entries, expect_folder, folders_in, is_picture, pictures_in, subfolder
from gradtoken.data.pixels import as_stored
from gradtoken.data.reading import data_set
from gradtoken.data.sample import DataSet, Sample
from gradtoken.errors import BadData

SPLITS = ("train", "val")
LAYOUT = """\
FOLDER/train/n01440764/n01440764_10026.JPEG    or without train/, val/: FOLDER/n01440764/...
FOLDER/val/n01440764/ILSVRC2012_val_00000293.JPEG
or flat: FOLDER[/val]/ILSVRC2012_val_00000001.JPEG, ...
         FOLDER/ILSVRC2012_devkit_t12/data/{ILSVRC2012_validation_ground_truth.txt,meta.mat}
boxes, where there are any: FOLDER/{bbox,Annotation,Annotations}[/SPLIT][/n01440764]/PICTURE.xml
names, where there are any: FOLDER/LOC_synset_mapping.txt"""


@dataclass(frozen=True)
class Pictures:
    """synsets: of the classes. labels: folder, or file name where there are no folders, -> class. boxes: a folder."""

    folder: Path
    ids: Sequence[str]
    synsets: Sequence[str]
    labels: Mapping[str, int]
    boxes: Path | None

    def __call__(self, number: int) -> Sample:
        id = self.ids[number]
        picture = as_stored(self.folder / id)
        label = self.labels[id.partition("/")[0]]
        path = self.annotation(id)
        truth = None if path is None else read_boxes(path, self.synsets[label], picture.size)
        return Sample(id, picture, (label,), truth if truth and truth.fractions else None)

    def annotation(self, id: str) -> Path | None:
        """The annotation of a picture; some pictures of the training part have none."""
        if self.boxes is None:
            return None
        inner = f"{os.path.splitext(id)[0]}.xml"
        paths = (self.boxes / inner, self.boxes / inner.rpartition("/")[2])
        return next((path for path in paths if path.is_file()), None)


def open_imagenet(
    path: str | os.PathLike[str],
    *,
    split: str = "val",
    numbers: Literal["imagenet", "folders"] = "imagenet",
    boxes: str | os.PathLike[str] = "auto",
    devkit: str | os.PathLike[str] = "auto",
) -> DataSet:
    """Pictures with one class each, and its boxes where annotations lie beside them.

    split: the folder to read, if there are several. numbers: imagenet, the places of the synsets among ImageNet's 1000,
    also where only some of them are there; folders, the places among the folders, which is also what happens where a
    folder is no synset of ImageNet-1k. boxes: folder of the annotations, auto where it is looked for beside the
    pictures, none where a broken annotation should spoil no picture. devkit: folder of the development kit, for
    pictures without folders.
    """
    if numbers not in ("imagenet", "folders"):
        raise BadData(f"expected numbers imagenet or folders, got {numbers!r}")
    root = Path(path)
    folder = part(root, split)
    marks = find_boxes(root, split, os.fspath(boxes))
    if found := class_folders(folder):
        names = synsets.words(root, folder)
        ids = [f"{name}/{file}" for name in found for file in pictures_in(folder / name)]
        shown = {name: name for name in found}
    else:
        ids = pictures_in(folder)
        kit = find_devkit(folder, root, root.parent) if devkit == "auto" else Path(devkit)
        found, names, shown = answers(kit, ids, folder)
    if not ids:
        raise BadData(f"no picture lies in {str(folder)!r}; expected\n{LAYOUT}")
    known = synsets.indices()
    classes = list(known) if numbers == "imagenet" and known.keys() >= set(found) else found
    place = {name: number for number, name in enumerate(classes)}
    read = Pictures(folder, ids, classes, {key: place[synset] for key, synset in shown.items()}, marks)
    return data_set(f"imagenet/{folder.resolve().name}", ids, read, tuple(names.get(one, one) for one in classes))


def class_folders(folder: Path) -> list[str]:
    """Folders that hold a class each: those named as synsets, else all, unless pictures lie beside them."""
    there = folders_in(folder)
    return [name for name in there if synsets.SYNSET.fullmatch(name)] or ([] if pictures_in(folder) else there)


def part(root: Path, split: str) -> Path:
    """The folder of a split, or the folder itself where it has no splits."""
    if (root / split).is_dir():
        return root / split
    there = [name for name in SPLITS if (root / name).is_dir()]
    if there:
        raise BadData(f"{str(root)!r} has no part {split!r}; it has {', '.join(there)}: give split=")
    return root


def find_boxes(root: Path, split: str, given: str) -> Path | None:
    """Where annotations lie: as given, or beside the pictures."""
    if given not in ("auto", "none"):
        return expect_folder(Path(given), "annotations")
    if given == "none":
        return None
    found = subfolder(root, "bbox", "Annotation", "Annotations")
    return (subfolder(found, split) or found) if found else None


def fits(path: Path) -> bool:
    """Folders named as synsets, or ImageNet's file names; ImageNet-S has a folder of masks beside them."""
    if not path.is_dir() or (path / "validation-segmentation").is_dir():
        return False
    return any(looks_right(folder) for folder in (path, path / "val", path / "train") if folder.is_dir())


def looks_right(folder: Path) -> bool:
    first = [entry.name for entry in islice(entries(folder), 50)]
    classes = any(synsets.SYNSET.fullmatch(name) for name in first)
    return classes or any(is_picture(name) and NAME.search(name) for name in first)


DATASETS.enter(
    Kind(
        name="imagenet",
        open=open_imagenet,
        summary="ImageNet-1k: 1000 classes, 50,000 validation pictures, boxes of the class",
        where="https://image-net.org/download-images",
        licence="ImageNet terms of access: research, no redistribution",
        layout=LAYOUT,
        fits=fits,
    )
)
