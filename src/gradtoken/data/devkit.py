"""The development kit of ILSVRC2012: which class each of the flat validation pictures shows."""

import re
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gradtoken.data.reading import lines_of
from gradtoken.errors import BadData
from gradtoken.models.model import need
from gradtoken.outside import whole

TRUTH = "ILSVRC2012_validation_ground_truth.txt"
NAME = re.compile(r"ILSVRC2012_val_(\d{8})\.\w+$")
BROKEN = (OSError, ValueError, TypeError, LookupError, EOFError, NameError, NotImplementedError, zlib.error)  # of scipy
Answers = tuple[list[str], Mapping[str, str], dict[str, str]]


def find_devkit(*folders: Path) -> Path:
    """The folder that holds the answers, in or below one of the folders."""
    inner = ("ILSVRC2012_devkit_t12/data", "ILSVRC2012_devkit_t12", "devkit/data", "devkit", "data", ".")
    for place in (folder / name for folder in folders for name in inner):
        if (place / TRUTH).is_file():
            return place
    raise BadData(
        f"{str(folders[0])!r} holds no folders of classes, and no {TRUTH} is near; put the development kit beside the "
        "pictures (https://image-net.org/data/ILSVRC/2012/ILSVRC2012_devkit_t12.tar.gz) or name its folder with devkit="
    )


def answers(kit: Path, files: Iterable[str], folder: Path) -> Answers:
    """Synsets in alphabetical order, their names, and the synset of each file by the number in its name."""
    kit = kit if (kit / TRUTH).is_file() else kit / "data"
    listed = lines_of(kit / TRUTH)
    synset_of, names = read_meta(kit / "meta.mat")
    shown: dict[str, str] = {}
    for file in files:
        match = NAME.fullmatch(file)
        if match is None:
            raise BadData(f"{file!r} in {str(folder)!r} is not named as ILSVRC2012_val_00000001.JPEG: remove it")
        number = int(match[1])
        if not 0 < number <= len(listed):
            raise BadData(f"{file!r} has no answer: {str(kit / TRUTH)!r} has {len(listed)} lines")
        answer = whole(listed[number - 1])
        if answer is None or answer not in synset_of:
            raise BadData(f"line {number} of {str(kit / TRUTH)!r} is {listed[number - 1]!r}; expected an ILSVRC2012_ID")
        shown[file] = synset_of[answer]
    return sorted(synset_of.values()), names, shown


def read_meta(path: Path) -> tuple[dict[int, str], dict[str, str]]:
    """ILSVRC2012_ID -> synset for the classes (synsets without children), and synset -> words."""
    table = synset_table(path)
    classes = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in table if int(row["num_children"]) == 0}
    return classes, {str(row["WNID"]): str(row["words"]) for row in table}


def synset_table(path: Path) -> Any:
    """The structured array `synsets` of meta.mat."""
    if not path.is_file():
        raise BadData(f"there is no {str(path)!r}; it comes with the development kit")
    matlab = need("scipy.io.matlab", "scipy")
    try:
        table = np.atleast_1d(matlab.loadmat(path, squeeze_me=True)["synsets"])
        for field in ("ILSVRC2012_ID", "WNID", "num_children", "words"):
            table[field]
    except (matlab.MatReadError, *BROKEN) as error:
        raise BadData(f"{str(path)!r} is not the development kit's meta.mat: {error}") from error
    return table
