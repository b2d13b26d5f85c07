"""ERASER's Movie Reviews: sentiment, and the words that people gave as its reason (DeYoung et al. 2020)."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gradtoken import outside
from gradtoken.data.entry import DATASETS, Kind
from gradtoken.data.listing import expect_folder
from gradtoken.data.reading import data_set, text_of
from gradtoken.data.sample import DataSet, Rationale, Sample
from gradtoken.errors import BadData, BadSample

CLASSES = ("NEG", "POS")
SPLITS = ("train", "val", "test")
LAYOUT = """\
FOLDER/test.jsonl, train.jsonl, val.jsonl    one review a line: annotation_id, classification, evidences
FOLDER/docs/negR_900.txt, ...    one sentence a line, words parted by blanks"""


@dataclass(frozen=True)
class Reviews:
    """lines: of the index, decoded."""

    docs: Path
    lines: Sequence[dict[str, Any]]

    def __call__(self, number: int) -> Sample:
        line = self.lines[number]
        id, label = line["annotation_id"], line.get("classification")
        if label not in CLASSES:
            raise BadSample(f"the classification is {label!r}; expected NEG or POS")
        words = tuple(text_of(self.docs / id).split())
        return Sample(id, " ".join(words), (CLASSES.index(label),), Rationale(words, marked(line, len(words))))


def marked(line: dict[str, Any], words: int) -> np.ndarray[Any, Any]:
    """Words that lie in any span of the evidence, which ends before its end_token. (words,), bool."""
    marks = np.zeros(words, dtype=bool)
    try:
        spans = [
            (span["docid"], span["start_token"], span["end_token"]) for group in line["evidences"] for span in group
        ]
    except (KeyError, TypeError) as error:
        raise BadSample(f"the evidences are not lists of docid, start_token, end_token: {error!r}") from error
    for doc, start, end in spans:
        if doc != line["annotation_id"]:
            raise BadSample(f"evidence lies in another document, {doc!r}")
        if not (isinstance(start, int) and isinstance(end, int) and 0 <= start <= end <= words):
            raise BadSample(f"evidence from word {start!r} to {end!r} does not lie in the {words} words")
        marks[start:end] = True
    return marks


def open_movies(path: str | os.PathLike[str], *, split: str = "test") -> DataSet:
    """Reviews as their words joined by single blanks, 0 NEG or 1 POS, and the words marked as the reason.

    split: train, val or test. People marked test in full, and only some passages of train and val.
    """
    root = Path(path)
    if split not in SPLITS:
        raise BadData(f"expected split train, val or test, got {split!r}")
    docs = expect_folder(root / "docs", "the reviews, one text file each,")
    file = root / f"{split}.jsonl"
    numbered = enumerate(text_of(file, BadData).split("\n"), start=1)
    lines = [decoded(line, number, file) for number, line in numbered if line.strip()]
    ids = [line["annotation_id"] for line in lines]
    return data_set(f"movies/{split}", ids, Reviews(docs, lines), CLASSES)


def decoded(line: str, number: int, file: Path) -> dict[str, Any]:
    """One line of the index."""
    try:
        content = outside.decoded(line)
    except ValueError as error:
        raise BadData(f"line {number} of {str(file)!r} is not JSON: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("annotation_id"), str):
        raise BadData(f"line {number} of {str(file)!r} has no annotation_id; expected a review of ERASER")
    return content


def fits(path: Path) -> bool:
    return (path / "docs").is_dir() and any((path / f"{split}.jsonl").is_file() for split in SPLITS)


DATASETS.enter(
    Kind(
        name="movies",
        open=open_movies,
        summary="ERASER Movie Reviews: 1800, 200 and 199 reviews with the words that are the reason",
        where="https://www.eraserbenchmark.com/zipped/movies.tar.gz",
        licence="none stated; reviews of the polarity data set by Pang and Lee, for research",
        layout=LAYOUT,
        fits=fits,
    )
)
