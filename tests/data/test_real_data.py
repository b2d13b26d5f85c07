"""The real thing, where it is at hand beside the repository."""

from pathlib import Path

import numpy as np
import pytest

from gradtoken.data import check, open_data
from gradtoken.data.sample import Boxes
from gradtoken.data.synsets import indices

DATA = Path(__file__).parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the photographs and reviews are not here")


@pytest.mark.parametrize(
    ("folder", "options", "count"),
    [
        ("coco", {}, 100),
        ("ilsvrc_val", {}, 650),
        ("movies", {"split": "test"}, 199),
        ("movies", {"split": "val"}, 200),
        ("movies", {"split": "train"}, 1800),
        ("pictures", {}, 9),
        ("sst2", {"split": "test"}, 1821),
        ("sst2", {"split": "dev"}, 872),
        ("sst2", {"split": "train"}, 6920),
    ],
)
def test_nothing_is_broken(folder, options, count):
    data = open_data(DATA / folder, **options)
    assert len(data) == count
    assert [problem for problem in check(data) if problem.kind == "error"] == []


def test_synsets_are_in_the_order_of_a_models_classes():
    words = (DATA / "deit_tiny" / "synset_words.txt").read_text(encoding="utf-8").splitlines()
    assert [line.split()[0] for line in words] == list(indices())


def test_boxes_of_imagenet():
    data = open_data(DATA / "ilsvrc_val")
    assert data.classes[300] == "tiger beetle"
    assert data[1].labels == (300,)
    assert data[1].truth == Boxes(((0.166, 0.23209, 0.84, 0.89398),))


def test_masks_of_coco():
    data = open_data(DATA / "coco")
    shown = {name for sample in data for name in (data.classes[label] for label in sample.labels)}
    assert {"zebra", "dog", "cat"} <= shown
    assert data.groups[data.classes.index("zebra")] == (340,)
    zebra = next(sample for sample in data if data.classes.index("zebra") in sample.labels)
    pixels = np.asarray(zebra.input)[zebra.truth.values == data.classes.index("zebra") + 1].astype(float)
    assert abs(pixels[:, 0] - pixels[:, 2]).mean() < 60, "a zebra has little colour"
    assert pixels.std() > 30, "and is striped"


def test_rationales_are_the_text_that_people_marked():
    sample = open_data(DATA / "movies")[0]
    words = [word for word, mark in zip(sample.truth.words, sample.truth.marked, strict=True) if mark]
    assert " ".join(words).startswith("i even giggled something about these films causes me")
