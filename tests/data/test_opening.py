"""Recognising, checking and describing data sets of any kind."""

import pickle
import re

import numpy as np
import pytest
from PIL import Image

from gradtoken.data import DATASETS, Problem, check, describe, open_data
from gradtoken.data.sample import Boxes, DataSet, Mask, Sample
from gradtoken.errors import BadData, UnknownName
from tests.data import make

MADE = {
    "csv": lambda root: make.table(root, ("file", "class"), ("a.png", "dog")),
    "imagenet": make.imagenet,
    "imagenet-s": make.imagenet_s,
    "imagenet-segmentation": lambda root: (
        make.imagenet_segmentation(
            root / "gtsegs_ijcv.mat", [np.zeros((2, 3, 3), np.uint8)], [np.ones((2, 3), np.uint8)]
        ).parent
    ),
    "masks": make.masks,
    "movies": make.movies,
    "pictures": lambda root: make.picture(root / "a.png").parent,
    "sst2": make.sst2,
    "voc2012": make.voc,
}


def test_every_kind_is_made_here():
    assert list(MADE) == list(DATASETS)


@pytest.mark.parametrize("kind", MADE)
def test_the_kind_is_recognised(tmp_path, kind):
    MADE[kind](tmp_path)
    fitting = [entry.name for entry in DATASETS.values() if entry.fits(tmp_path)]
    assert fitting == [kind]
    data = open_data(str(tmp_path))
    assert data.name.startswith(kind)
    assert data.ids == open_data(tmp_path, kind).ids
    assert [sample.id for sample in data] == list(data.ids)


@pytest.mark.parametrize("kind", MADE)
def test_data_sets_go_to_other_processes(tmp_path, kind):
    MADE[kind](tmp_path)
    data = open_data(tmp_path)
    assert pickle.loads(pickle.dumps(data))[0].id == data[0].id


@pytest.mark.parametrize("kind", MADE)
def test_the_description_tells_counts_and_licence(tmp_path, kind):
    MADE[kind](tmp_path)
    told, of_kind = describe(open_data(tmp_path)), describe(kind)
    for part in (DATASETS[kind].where, DATASETS[kind].licence):
        assert part in told
        assert part in of_kind
    assert re.search(r": \d+ samples, first '", told)
    assert DATASETS[kind].layout.splitlines()[0] in of_kind


def test_other_labels_in_a_list_are_another_data_set(tmp_path):
    rows = [("file", "class_index"), ("a.png", "1")]
    first = open_data(make.table(tmp_path, *rows))
    assert open_data(tmp_path).lists == first.lists
    assert open_data(make.table(tmp_path, rows[0], ("a.png", "2"))).lists != first.lists


def test_what_is_recognised_twice_must_be_named(tmp_path):
    make.movies(make.masks(tmp_path))
    with pytest.raises(BadData, match="looks like 'masks', 'movies'; say which with kind="):
        open_data(tmp_path)
    assert open_data(tmp_path, "movies").name == "movies/test"


def test_a_table_beside_its_pictures_is_no_plain_folder(tmp_path):
    make.table(tmp_path, ("file", "class"), ("a.png", "dog"), folder=".")
    assert open_data(tmp_path).name.startswith("csv/")
    assert open_data(tmp_path, "pictures").classes == ()


def test_unknown_layouts_are_told_the_known_ones(tmp_path):
    with pytest.raises(BadData, match="is empty; expected a data set"):
        open_data(tmp_path)
    make.text(tmp_path / "readme.txt", "?")
    with pytest.raises(BadData, match=r"none of the kinds(.|\n)*SegmentationClass"):
        open_data(tmp_path)
    with pytest.raises(BadData, match="there is no file or folder"):
        open_data(tmp_path / "none")
    with pytest.raises(BadData, match="there is no file or folder"):
        open_data("a\0b")
    with pytest.raises(UnknownName, match="no kind of data set 'voc'; did you mean 'voc2012'"):
        open_data(tmp_path, "voc")
    with pytest.raises(BadData, match="none of the kinds"):
        open_data(make.text(tmp_path / "a.txt", "?"))


def test_options_are_those_of_the_kind(tmp_path):
    make.voc(tmp_path)
    with pytest.raises(UnknownName, match="no option of voc2012 'splits'; did you mean 'split'"):
        open_data(tmp_path, splits="val")
    with pytest.raises(BadData, match="expected split of voc2012 as str, got 7"):
        open_data(tmp_path, split=7)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_whole_data_set_is_checked(tmp_path, threads):
    make.masks(tmp_path)
    make.picture(tmp_path / "images" / "c.png", 1, 1)
    make.label_image(tmp_path / "masks" / "c.png", [[0]])
    make.picture(tmp_path / "images" / "d.png")
    make.picture(tmp_path / "images" / "e.png", 2, 2)
    make.label_image(tmp_path / "masks" / "e.png", [[17]])
    make.text(tmp_path / "images" / "f.png", "")
    make.label_image(tmp_path / "masks" / "f.png", [[17]])
    found = list(check(open_data(tmp_path), threads))
    assert [(one.id, one.kind) for one in found] == [
        ("b", "warning"), ("c", "warning"), ("c", "warning"), ("d", "error"), ("e", "error"), ("f", "error"),
    ]  # fmt: skip
    reasons = ["all background", "one pixel", "every pixel is void", "there is no file d", "shape", "is empty"]
    for problem, reason in zip(found, reasons, strict=True):
        assert reason in problem.reason
        assert not problem.reason.startswith(problem.id + ":")


@pytest.mark.parametrize(
    ("labels", "truth", "reason"),
    [
        ((2,), None, "label 2 is outside the 2 classes"),
        ((-1,), None, "label -1 is outside"),
        ((), Mask(np.full((2, 2), 3, np.int16)), "the mask holds 3; expected 0 to 2"),
        ((), Mask(np.full((2, 2), -2, np.int16)), "the mask holds -2"),
        ((), Mask(np.zeros((2, 3), np.int16)), "the mask has the shape"),
        ((0,), Boxes(()), "there is no box"),
        ((0,), Boxes(((0, 0, 1, float("nan")),)), "expected a box"),
    ],
)
def test_data_sets_made_by_hand_are_checked_too(labels, truth, reason):
    sample = Sample("a", Image.new("RGB", (2, 2)), labels, truth)
    data = DataSet("mine", ["a"], lambda number: sample, ("cat", "dog"))
    assert reason in next(check(data)).reason
    assert "mine: 1 samples" in describe(data)


def test_problems_of_a_good_data_set():
    sample = Sample("a", Image.new("RGB", (2, 2)), (0,))
    assert list(check(DataSet("mine", ["a"] * 40, lambda number: sample, ("cat",)))) == []
    assert Problem("a", "?").kind == "error"
