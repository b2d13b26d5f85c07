"""The development kit of ILSVRC2012: which class each of the flat validation pictures shows."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from gradtoken.data.matlab import read_struct
from gradtoken.data.reading import lines_of
from gradtoken.errors import BadData
from gradtoken.outside import content_of, whole

TRUTH = "ILSVRC2012_validation_ground_truth.txt"
NAME = re.compile(r"ILSVRC2012_val_(\d{8})\.\w+$")
FIELDS = ID, SYNSET, WORDS, CHILDREN = "ILSVRC2012_ID", "WNID", "words", "num_children"
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
    return {id: synset for id, synset, _, children in table if not children}, {s: words for _, s, words, _ in table}


def synset_table(path: Path) -> list[tuple[int, str, str, int]]:
    """Number, synset, words and number of children of each element of `synsets` in meta.mat."""
    if not path.is_file():
        raise BadData(f"there is no {str(path)!r}; it comes with the development kit")
    try:
        rows = read_struct(content_of(path), "synsets", FIELDS)
        return [(int(row[ID]), str(row[SYNSET]), str(row[WORDS]), int(row[CHILDREN])) for row in rows]
    except (OSError, ValueError, OverflowError) as error:
        raise BadData(f"{str(path)!r} is not the development kit's meta.mat: {error}") from error
