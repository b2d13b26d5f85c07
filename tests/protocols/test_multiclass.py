"""Segmentation into several classes against a naive version."""

import numpy as np
import pytest

from gradtoken.data.label_images import present
from gradtoken.data.sample import VOID, DataSet, Mask, Sample
from gradtoken.errors import BadData, BadModel
from gradtoken.models.grouped import grouped
from gradtoken.models.load import load
from gradtoken.protocols import PROTOCOLS
from gradtoken.protocols.multiclass import Multiclass
from tests.protocols.tiny import (
    METHODS,
    SIZE,
    blob,
    concluded,
    numbers,
    picture,
    reasons,
    rows,
    same,
    set_map,
    tiny_model,
)
from tests.reference import protocols as naive

VOC = PROTOCOLS["voc2012/gradtoken2025"]
LEVELS = tuple(i / 10 for i in range(1, 10))  # at 0, rounding decides which of the lowest pixels are above themselves
FEW = Multiclass(name="few", paper="", summary="", levels=LEVELS)


def sample(seed, labels=(0, 1, 2, 3, VOID)):
    mask = Mask(blob(seed, labels))
    return Sample(str(seed), picture(seed), present(mask), mask)


def samples():
    return [sample(0), sample(1, (0, 2)), sample(2, (0, 1, 5)), sample(3, (0, 1, 1, 4, VOID)), sample(4, (5, VOID))]


def naive_maps(model, chosen, method):
    pictures = [naive.read(one.input, SIZE) for one in chosen]
    return [
        [naive.map_of(model.net, x, c, method) for c in one.labels] for x, one in zip(pictures, chosen, strict=True)
    ]


def expected_of(model, chosen, method, levels=LEVELS):
    truths = [naive.laid(one.truth.values, SIZE) for one in chosen]
    return naive.multiclass(naive_maps(model, chosen, method), [one.labels for one in chosen], truths, 5, levels)


def test_the_published_settings():
    assert (VOC.asks, VOC.levels, VOC.resize) == (("present",), (0.0, *LEVELS), "squash")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("batch", [1, 4])
def test_equal_to_the_naive_version(method, batch):
    model = tiny_model()
    assert len({len(one.labels) for one in samples()}) > 1
    found = numbers(FEW, samples(), model, method, batch)["present"]
    same(found, expected_of(model, samples(), method))


def test_classes_may_be_groups_of_the_models():
    model = tiny_model(num_classes=9)
    model = grouped(model, tuple("abcde"), [(0, 5), (1,), (2, 6, 7), (3,), (4, 8)])
    found = numbers(FEW, samples(), model)["present"]
    same(found, expected_of(model, samples(), "gradtoken"))


def test_a_map_that_is_the_same_for_all_classes_gives_the_first_one():
    one = sample(2, (0, 1, 5))
    model = tiny_model()
    found = {row.metric: np.array(row.values).reshape(9, 6) for row in rows(FEW, [one], model, "raw_attention")
             if row.metric == "intersection"}["intersection"]  # fmt: skip
    assert found[:, 1].any()
    assert not found[:, 2:].any()


def test_counts_are_of_the_whole_data_set():
    model, chosen = tiny_model(), samples()
    together = numbers(FEW, chosen, model)["present"]["mIoU, best threshold"]
    alone = [numbers(FEW, [one], model)["present"]["mIoU, best threshold"] for one in chosen]
    assert abs(together - np.mean(alone)) > 1e-3


def test_classes_that_never_occur_are_left_out_of_the_mean_and_void_counts_for_nothing():
    chosen = [sample(1, (1, VOID))]
    truth = naive.laid(chosen[0].truth.values, SIZE)
    (labelled,) = (row.values for row in rows(FEW, chosen, tiny_model()) if row.metric == "labelled")
    assert labelled == [(truth != VOID).sum()]
    values = {"intersection": [2, 3, 0], "union": [4, 4, 0], "labelled": [10]}
    protocol = Multiclass(name="one", paper="", summary="", levels=(0.5,))
    found = concluded(protocol, {name: np.array(v, dtype=float) for name, v in values.items()})
    assert found == {"mIoU, best threshold": 0.625, "pixel accuracy, best threshold": 0.5, "best threshold": 0.5}


def test_constant_maps_are_background(monkeypatch):
    set_map(monkeypatch, np.full((4, 4), 0.3))
    chosen = [sample(0)]
    truth = naive.laid(chosen[0].truth.values, SIZE)
    found = numbers(VOC, chosen, tiny_model())["present"]
    assert found["best threshold"] == 0
    assert found["pixel accuracy, best threshold"] == (truth == 0).sum() / (truth != VOID).sum()


def test_samples_that_do_not_fit_are_refused_with_the_reason():
    background = Sample("background", picture(0), (), Mask(np.zeros((14, 20), dtype=np.int16)))
    outside = Sample("outside", picture(0), (7,), Mask(np.full((14, 20), 8, dtype=np.int16)))
    void = Sample("void", picture(0), (), Mask(np.full((14, 20), VOID, dtype=np.int16)))
    pixel = Sample("pixel", picture(0, 1, 1), (2,), Mask(np.full((1, 1), 3, dtype=np.int16)))
    assert reasons(VOC, [background, outside, void, pixel], tiny_model()) == {
        "background": "background: left out, for it shows none of the classes",
        "outside": "outside: class 7 is outside the model's 5 classes",
        "void": "void: no pixel of the mask has a label",
    }


def test_the_model_must_have_the_data_sets_classes():
    model = tiny_model()
    fits = DataSet("five", ["a"], [sample(0)].__getitem__, tuple("abcde"))
    assert VOC.samples(fits, model) is fits
    with pytest.raises(BadModel, match=r"explains the 2 classes of two, and tiny has 5; .*gradtoken\.models\.grouped"):
        VOC.samples(DataSet("two", ["a"], [sample(0)].__getitem__, ("a", "b")), model)
    with pytest.raises(BadModel, match="explains the 5 classes of five, and bundled has 11"):
        VOC.samples(fits, load("bundled"))
    with pytest.raises(BadData, match="explains the classes of a data set, and none names none"):
        VOC.samples(DataSet("none", ["a"], [sample(0)].__getitem__), model)
