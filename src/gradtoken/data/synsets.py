"""ImageNet-1k: the index of a class is the place of its synset among the 1000 in alphabetical order."""

import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from gradtoken.data.reading import lines_of

SYNSET = re.compile(r"n\d{8}")
LISTS = ("LOC_synset_mapping.txt", "synset_words.txt")  # "n01440764 tench, Tinca tinca" a line


def indices() -> dict[str, int]:
    """Synset -> index among the 1000 classes."""
    listed = files("gradtoken.data").joinpath("imagenet_synsets.txt").read_text(encoding="ascii").split()
    return {synset: index for index, synset in enumerate(listed)}


def words(*folders: Path) -> Mapping[str, str]:
    """Synset -> class name, from a list that lies in one of the folders; nothing where none does."""
    path = next((folder / name for folder in folders for name in LISTS if (folder / name).is_file()), None)
    lines = [line.partition(" ") for line in (lines_of(path) if path else [])]
    return {synset: name.strip() for synset, _, name in lines if name.strip()}
