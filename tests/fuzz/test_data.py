"""Data sets with a damaged file: opened, described and read to the end, each sample in turn."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st

from gradtoken.data import check, describe, open_data
from gradtoken.data.devkit import read_meta
from gradtoken.errors import BadSample
from gradtoken.models.files import SUFFIXES
from tests.asking import ask, examples
from tests.data import make
from tests.data.test_opening import MADE
from tests.fuzz.damage import DEEP, WORDS, damaged
from tests.fuzz.outcomes import expected_right, tried

SYNSETS = [(1, "n01443537", "goldfish", 0), (2, "n01440764", "tench, Tinca tinca", 0), (3, "n00001740", "entity", 2)]


def flat(root: Path) -> Path:
    """Pictures without folders, and the development kit."""
    for i in (1, 2):
        make.picture(root / "val" / f"ILSVRC2012_val_0000000{i}.JPEG")
    make.annotation(root / "bbox" / "ILSVRC2012_val_00000001.xml", [("n01440764", 1, 1, 3, 4)])
    make.devkit(root / "devkit" / "data", [2, 1], SYNSETS)
    return root


def table(root: Path) -> Path:
    header = ("file", "class_index", "name", "boxes_xyxy_fraction")
    return make.table(root, header, ("a.png", "3", "tabby", "[[0.1, 0.2, 0.5, 1.0]]"), ("b.png", "", "", ""))


KINDS = {**MADE, "csv": table, "imagenet": flat}
PARTS = {"voc2012": [{}, {"truth": "boxes"}], "imagenet-s": [{}]}


def files(root: Path) -> list[Path]:
    """All files but pictures, whose damage is tried elsewhere; label images are files too."""
    found = sorted(path for path in root.rglob("*") if path.is_file())
    return [path for path in found if path.suffix.lower() not in SUFFIXES or path.suffix == ".png"]


def samples(root: Path, kind: str) -> Iterator[int]:
    """The number of samples that could be read of each part."""
    for options in PARTS.get(kind, [{}]):
        data = open_data(root, kind, **options)
        assert describe(data)
        bad = {problem.id for problem in check(data) if problem.kind == "error"}
        for number, id in enumerate(data.ids):
            try:
                sample = data.read(number)
            except BadSample:
                told = id in bad
                with expected_right("data sets"):
                    assert told
                continue
            with expected_right("data sets"):
                assert sample.id == id
                assert all(0 <= label < len(data.classes) for label in sample.labels)
            yield number


def everything(root: Path, kind: str) -> list[int]:
    return list(samples(root, kind))


@examples(12, 300)
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file(kind, count, tmp_path):
    whole = KINDS[kind](tmp_path)
    contents = {path.relative_to(whole): path.read_bytes() for path in files(whole)}

    def opened(drawn: tuple[Path, bytes]) -> None:
        inner, content = drawn
        before = (whole / inner).read_bytes()
        (whole / inner).write_bytes(content)
        try:
            tried("data sets", lambda: everything(whole, kind))
        finally:
            (whole / inner).write_bytes(before)

    if not contents:
        pytest.skip("it is of pictures alone")
    pairs = st.sampled_from(sorted(contents)).flatmap(lambda p: damaged(contents[p]).map(lambda c: (p, c)))
    ask(count, opened, pairs)


@examples(10, 300)
@pytest.mark.parametrize("kind", ["csv", "movies", "masks", "sst2"])
def test_other_words_in_a_list(kind, count, tmp_path):
    """Each word of a list may be any text."""
    whole = KINDS[kind](tmp_path / "whole")
    lists = [path for path in files(whole) if path.suffix in (".csv", ".jsonl", ".json", ".tsv", ".txt")]

    def opened(path: Path, place: int, word: str) -> None:
        before = path.read_bytes()
        parts = before.decode().replace('"', ' " ').split(" ")
        parts[place % len(parts)] = word
        path.write_bytes(" ".join(parts).replace(' " ', '"').encode(errors="surrogatepass"))
        try:
            tried("data sets", lambda: everything(whole, kind))
        finally:
            path.write_bytes(before)

    ask(count, opened, st.sampled_from(lists), st.integers(0, 200), WORDS)


@examples(60, 5000)
def test_the_development_kits_table(count, tmp_path):
    """Its other readers have ended the process on damaged bytes."""
    path = make.devkit(tmp_path, [2, 1], SYNSETS) / "meta.mat"

    def opened(content: bytes) -> None:
        path.write_bytes(content)
        found = tried("data sets", lambda: read_meta(path))
        if found is not None:
            with expected_right("data sets"):
                assert all(isinstance(id, int) and isinstance(synset, str) for id, synset in found[0].items())

    ask(count, opened, damaged(path.read_bytes()))


@pytest.mark.parametrize("compressed", [False, True])
def test_the_table_is_read_as_scipy_reads_it(compressed, tmp_path):
    matlab = pytest.importorskip("scipy.io.matlab")
    path = make.devkit(tmp_path, [2, 1], SYNSETS) / "meta.mat"
    matlab.savemat(path, {"other": np.arange(3), "synsets": matlab.loadmat(path)["synsets"]}, do_compression=compressed)
    expected = np.atleast_1d(matlab.loadmat(path, squeeze_me=True)["synsets"])
    names = {str(row["WNID"]): str(row["words"]) for row in expected}
    assert read_meta(path) == ({int(r["ILSVRC2012_ID"]): str(r["WNID"]) for r in expected[:2]}, names)


def test_references_that_lead_in_a_circle(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "gtsegs_ijcv.mat", "w") as file:
        for name in ("img", "gt"):
            cell = file.create_dataset(f"value/{name}", (1, 1), dtype=h5py.ref_dtype)
            cell[0, 0] = cell.ref
    data = open_data(tmp_path)
    with pytest.raises(BadSample, match="references lead on after 8 cells"):
        data.read(0)


def test_an_array_that_is_too_large_is_not_read(tmp_path):
    """Its parts need not be in the file."""
    h5py = pytest.importorskip("h5py")
    make.imagenet_segmentation(tmp_path / "gtsegs_ijcv.mat", [np.zeros((2, 3, 3), "u1")], [np.ones((2, 3), "u1")])
    with h5py.File(tmp_path / "gtsegs_ijcv.mat", "a") as file:
        vast = file.create_dataset("vast", (3, 10**5, 10**5), dtype="u1", chunks=(1, 100, 100))
        file["value/img"][0, 0] = vast.ref
    with pytest.raises(BadSample, match="an array has 30000000000 numbers"):
        open_data(tmp_path).read(0)


@pytest.mark.parametrize("kind", ["movies", "masks"])
def test_documents_that_are_nested_too_deep(kind, tmp_path):
    whole = KINDS[kind](tmp_path)
    (whole / {"movies": "test.jsonl", "masks": "classes.json"}[kind]).write_bytes(DEEP)
    assert tried("data sets", lambda: everything(whole, kind)) is None


def test_nothing_is_read_of_pipes_and_devices(tmp_path):
    whole = make.table(tmp_path, ("file", "class"), ("a.png", "dog"))
    (whole / "labels.csv").unlink()
    os.mkfifo(whole / "labels.csv")
    assert tried("data sets", lambda: everything(whole, "csv")) is None
    shutil.rmtree(whole)
