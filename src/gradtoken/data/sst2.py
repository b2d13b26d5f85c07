"""SST-2: sentences of film reviews and their sentiment (Socher et al. 2013), as tables of two columns."""

import os
from dataclasses import dataclass
from pathlib import Path

from gradtoken.data.entry import DATASETS, Kind
from gradtoken.data.listing import expect_folder
from gradtoken.data.movies import CLASSES
from gradtoken.data.reading import data_set, text_of
from gradtoken.data.sample import DataSet, Sample
from gradtoken.errors import BadData

SPLITS = ("train", "dev", "test")
LAYOUT = """\
FOLDER/test.tsv, train.tsv, dev.tsv    a sentence, a tab and 0 (negative) or 1 (positive) on each line"""


@dataclass(frozen=True)
class Sentences:
    """rows: the number of the line, the text and the label of each."""

    rows: tuple[tuple[str, str, int], ...]

    def __call__(self, number: int) -> Sample:
        id, text, label = self.rows[number]
        return Sample(id, text, (label,))


def open_sst2(path: str | os.PathLike[str], *, split: str = "test") -> DataSet:
    """Sentences, 0 NEG or 1 POS, named by the numbers of their lines.

    split: train, dev or test.
    """
    if split not in SPLITS:
        raise BadData(f"expected split train, dev or test, got {split!r}")
    file = expect_folder(Path(path), "the sentences, as train.tsv, dev.tsv and test.tsv,") / f"{split}.tsv"
    lines = enumerate(text_of(file, BadData).split("\n"), start=1)
    rows = tuple(row_of(line.removesuffix("\r"), number, file) for number, line in lines if line.strip())
    return data_set(f"sst2/{split}", [id for id, _, _ in rows], Sentences(rows), CLASSES)


def row_of(line: str, number: int, file: Path) -> tuple[str, str, int]:
    """One line of a table."""
    text, _, label = line.rpartition("\t")
    if label not in ("0", "1") or not text.strip():
        raise BadData(f"line {number} of {str(file)!r}: expected a text, a tab and 0 or 1, got {line[:60]!r}")
    return str(number), text, int(label)


def fits(path: Path) -> bool:
    return any((path / f"{split}.tsv").is_file() for split in SPLITS)


DATASETS.enter(
    Kind(
        name="sst2",
        open=open_sst2,
        summary="SST-2: 6920, 872 and 1821 sentences of film reviews, positive or negative",
        where="https://github.com/clairett/pytorch-sentiment-classification (data/SST2)",
        licence="none stated; sentences of Rotten Tomatoes reviews by Pang and Lee, for research",
        layout=LAYOUT,
        fits=fits,
    )
)
