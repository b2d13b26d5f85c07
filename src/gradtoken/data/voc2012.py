"""PASCAL VOC 2012: 20 classes with a class for each pixel, or with boxes (Everingham et al. 2015)."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gradtoken.data.annotations import read_boxes
from gradtoken.data.entry import DATASETS, Kind
from gradtoken.data.label_images import one_channel, present, renumbered
from gradtoken.data.listing import expect_folder
from gradtoken.data.pixels import as_stored
from gradtoken.data.reading import data_set, lines_of
from gradtoken.data.sample import VOID, DataSet, Sample
from gradtoken.errors import BadData, BadSample

CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
MEANING = {number: number for number in range(len(CLASSES) + 1)} | {255: VOID}
SPLITS = ("train", "val", "trainval", "trainaug")
LAYOUT = """\
VOCdevkit/VOC2012/JPEGImages/2007_000033.jpg    FOLDER may be VOCdevkit or VOC2012
VOCdevkit/VOC2012/SegmentationClass/2007_000033.png    (0 background, 1 to 20 classes, 255 no answer)
VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt
for trainaug: .../SegmentationClassAug/*.png, .../ImageSets/Segmentation/trainaug.txt
for boxes: .../Annotations/*.xml, .../ImageSets/Main/{aeroplane,...}_val.txt"""


@dataclass(frozen=True)
class Masked:
    """masks: the folder of the label images."""

    root: Path
    masks: Path
    ids: Sequence[str]

    def __call__(self, number: int) -> Sample:
        id = self.ids[number]
        picture = as_stored(self.root / "JPEGImages" / f"{id}.jpg")
        mask = renumbered(one_channel(self.masks / f"{id}.png"), MEANING)
        return Sample(id, picture, present(mask), mask)


@dataclass(frozen=True)
class Boxed:
    """ids: picture/class, since boxes are of one class."""

    root: Path
    ids: Sequence[str]

    def __call__(self, number: int) -> Sample:
        id = self.ids[number]
        name, _, cls = id.partition("/")
        picture = as_stored(self.root / "JPEGImages" / f"{name}.jpg")
        path = self.root / "Annotations" / f"{name}.xml"
        boxes = read_boxes(path, cls, picture.size, first=1)
        if not boxes.fractions:
            raise BadSample(f"{str(path)!r} has no box of {cls}, which the lists say it shows")
        return Sample(id, picture, (CLASSES.index(cls),), boxes)


def open_voc2012(
    path: str | os.PathLike[str],
    *,
    split: str = "val",
    truth: Literal["masks", "boxes"] = "masks",
    groups: Mapping[int, tuple[int, ...]] | None = None,
) -> DataSet:
    """Pictures with a class for each pixel, or with boxes.

    split: train, val, trainval or trainaug (10,582 pictures with the masks of Hariharan et al. 2011). truth: masks, one
    sample for each picture of the segmentation lists, its labels those of the mask; boxes, one sample for each picture
    of the main lists and each class in it, with all boxes of that class, difficult ones too. groups: for each class the
    ImageNet classes that mean it; None takes this package's own.
    """
    root = find_root(Path(path))
    if split not in SPLITS or truth not in ("masks", "boxes") or (truth, split) == ("boxes", "trainaug"):
        told = f"split one of {', '.join(SPLITS)}, truth masks or boxes (not of trainaug)"
        raise BadData(f"expected {told}; got split={split!r}, truth={truth!r}")
    meant = voc_groups() if groups is None else groups
    if truth == "boxes":
        ids = [f"{picture}/{cls}" for picture, cls in shown(root / "ImageSets" / "Main", split)]
        return data_set(f"voc2012/{split} boxes", ids, Boxed(root, ids), CLASSES, meant)
    masks = root / ("SegmentationClassAug" if split == "trainaug" else "SegmentationClass")
    ids = lines_of(root / "ImageSets" / "Segmentation" / f"{split}.txt")
    read = Masked(root, expect_folder(masks, "a label image for each picture"), ids)
    return data_set(f"voc2012/{split}", ids, read, CLASSES, meant)


def voc_groups() -> Mapping[int, tuple[int, ...]]:
    from gradtoken.models.grouped import VOC_GROUPS

    return VOC_GROUPS


def find_root(path: Path) -> Path:
    """The folder that holds JPEGImages."""
    for root in (path, path / "VOC2012", path / "VOCdevkit" / "VOC2012"):
        if (root / "JPEGImages").is_dir() and (root / "ImageSets").is_dir():
            return root
    raise BadData(f"{str(path)!r} holds no JPEGImages and ImageSets; expected\n{LAYOUT}")


def shown(lists: Path, split: str) -> list[tuple[str, str]]:
    """Pictures with the classes in them: those that a class's list marks 1; 0 means difficult ones only, -1 none."""
    found = []
    for cls in CLASSES:
        for line in lines_of(lists / f"{cls}_{split}.txt"):
            parts = line.split()
            if len(parts) != 2 or parts[1] not in ("1", "0", "-1"):
                raise BadData(f"{str(lists / f'{cls}_{split}.txt')!r}: expected 'picture 1, 0 or -1', got {line!r}")
            found += [(parts[0], cls)] if parts[1] == "1" else []
    return sorted(found)


def fits(path: Path) -> bool:
    try:
        return bool(find_root(path))
    except BadData:
        return False


DATASETS.enter(
    Kind(
        name="voc2012",
        open=open_voc2012,
        summary="PASCAL VOC 2012: 20 classes, 1449 validation pictures with masks, 5823 with boxes",
        where="http://host.robots.ox.ac.uk/pascal/VOC/voc2012/ (trainaug: http://home.bharathh.info/pubs/codes/SBD/)",
        licence="Flickr terms of use; for research",
        layout=LAYOUT,
        fits=fits,
    )
)
