"""Foreground segmentation against a naive version, and the traps that change its numbers."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from gradtoken.data.sample import VOID, Boxes, Mask, Sample
from gradtoken.models.preprocess import Preprocess
from gradtoken.protocols import PROTOCOLS
from gradtoken.protocols.segmentation import Segmentation
from gradtoken.protocols.truth import mask_of
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

CHEFER = PROTOCOLS["imagenet-segmentation/chefer2021"]
GRADTOKEN = PROTOCOLS["imagenet-segmentation/gradtoken2025"]


def samples(count=5, labels=(0, 1, 1, VOID)):
    return [Sample(str(i), picture(i), (), Mask(blob(i, labels))) for i in range(count)]


def naive_maps(model, chosen, method, classes=None):
    maps = []
    for number, sample in enumerate(chosen):
        x = naive.read(sample.input, SIZE)
        cls = naive.logits(model.net, x).argmax() if classes is None else classes[number]
        maps.append(naive.map_of(model.net, x, cls, method))
    return maps


def test_the_published_settings():
    assert (CHEFER.threshold, CHEFER.levels, CHEFER.asks, CHEFER.resize) == ("mean", (), ("predicted",), "squash")
    assert GRADTOKEN.levels == tuple(i / 10 for i in range(10))
    assert {"mIoU, best threshold", "mIoU, mean threshold"} <= {number.name for number in GRADTOKEN.numbers}
    assert "mIoU, best threshold" not in {number.name for number in CHEFER.numbers}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("batch", [1, 4])
def test_equal_to_the_naive_version(method, batch):
    model, chosen = tiny_model(), samples()
    truths = [naive.laid(sample.truth.values, SIZE) for sample in chosen]
    levels = GRADTOKEN.levels[1:]  # at 0, rounding decides which of the lowest pixels are above themselves
    expected = naive.segmentation(naive_maps(model, chosen, method), truths, levels=levels)
    same(numbers(replace(GRADTOKEN, levels=levels), chosen, model, method, batch)["predicted"], expected)
    only = {name: value for name, value in expected.items() if "best" not in name}
    same(numbers(CHEFER, chosen, model, method, batch)["predicted"], only)


def test_precision_of_maps_that_need_no_enlarging_is_exact():
    model, chosen = tiny_model(), samples()
    truths = [naive.laid(sample.truth.values, SIZE) for sample in chosen]
    expected = naive.segmentation(naive_maps(model, chosen, "input_x_gradient"), truths)["mAP"]
    assert numbers(CHEFER, chosen, model, "input_x_gradient")["predicted"]["mAP"] == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize(("threshold", "rule"), [("share", "0.2 max"), ("otsu", "otsu")])
def test_other_thresholds(threshold, rule):
    model, chosen = tiny_model(), samples(3)
    truths = [naive.laid(sample.truth.values, SIZE) for sample in chosen]
    expected = naive.segmentation(naive_maps(model, chosen, "gradtoken"), truths, rule)
    same(numbers(replace(CHEFER, threshold=threshold), chosen, model)["predicted"], expected)


def test_the_explained_class_alone_is_foreground():
    model = tiny_model()
    masks = [blob(i, (0, 1, 2, 3, VOID)) for i in range(4)]
    chosen = [Sample(str(i), picture(i), (i % 3,), Mask(mask)) for i, mask in enumerate(masks)]
    protocol = replace(CHEFER, asks=("label",), foreground="explained")
    laid = [naive.laid(mask, SIZE) for mask in masks]
    truths = [np.where(t == VOID, VOID, t == i % 3 + 1) for i, t in enumerate(laid)]
    maps = naive_maps(model, chosen, "gradtoken", [i % 3 for i in range(4)])
    same(numbers(protocol, chosen, model)["label"], naive.segmentation(maps, truths))
    absent = [Sample("a", picture(0), (3,), Mask(masks[0]))]
    assert reasons(protocol, absent, model) == {
        "a": "a: left out, for its truth has no pixel of the explained class at the model's size"
    }


def test_the_largest_object_is_explained_and_it_alone_is_foreground():
    model, protocol = tiny_model(), PROTOCOLS["segmentation/largest-object"]
    masks = [blob(i, (0, 1, 2, 3, VOID)) for i in range(4)]
    chosen = [Sample(str(i), picture(i), (0, 1, 2), Mask(mask)) for i, mask in enumerate(masks)]
    laid = [naive.laid(mask, SIZE) for mask in masks]
    classes = [max(range(3), key=lambda c: int((t == c + 1).sum())) for t in laid]
    truths = [np.where(t == VOID, VOID, t == c + 1) for t, c in zip(laid, classes, strict=True)]
    assert len(set(classes)) > 1
    expected = naive.segmentation(naive_maps(model, chosen, "gradtoken", classes), truths, levels=protocol.levels[1:])
    same(numbers(replace(protocol, levels=protocol.levels[1:]), chosen, model)["largest"], expected)


def test_a_mask_that_names_no_class_has_no_largest_object():
    protocol = PROTOCOLS["segmentation/largest-object"]
    unnamed = [Sample("a", picture(0), (), Mask(blob(0, (0, 1))))]
    assert reasons(protocol, unnamed, tiny_model()) == {"a": "a: left out, for its mask names no class"}
    outside = [Sample("a", picture(0), (6,), Mask(blob(0, (0, 7))))]
    found = reasons(protocol, outside, tiny_model())
    assert found == {"a": "a: class 6 of the mask is outside the model's 5 classes"}


def test_the_label_and_the_prediction_share_a_probe():
    model, chosen = tiny_model(), [Sample(str(i), picture(i), (i,), Mask(blob(i))) for i in range(5)]
    protocol = replace(CHEFER, asks=("predicted", "label"))
    truths = [naive.laid(sample.truth.values, SIZE) for sample in chosen]
    found = numbers(protocol, chosen, model)
    same(found["predicted"], naive.segmentation(naive_maps(model, chosen, "gradtoken"), truths))
    same(found["label"], naive.segmentation(naive_maps(model, chosen, "gradtoken", range(5)), truths))


def test_a_label_outside_the_models_classes_is_refused_with_the_reason():
    chosen = [Sample("a", picture(0), (7,), Mask(blob(0)))]
    found = reasons(replace(CHEFER, asks=("label",)), chosen, tiny_model())
    assert found == {"a": "a: label 7 is outside the model's 5 classes"}


def test_the_best_threshold_is_one_for_the_data_set_not_one_for_each_picture():
    values = {"labelled": [2.0], "ap": [0.5], "f1": [0.1, 0.2, 0.3]}
    one = {**values, "intersection": [0, 0, 0, 2, 0, 0], "union": [1, 1, 0, 2, 1, 1]}
    two = {**values, "intersection": [0, 0, 0, 0, 2, 0], "union": [1, 1, 1, 1, 2, 0]}
    protocol = replace(CHEFER, levels=(0.3, 0.6))
    alone = [concluded(protocol, {k: np.array(v, dtype=float) for k, v in each.items()}) for each in (one, two)]
    assert [each["best threshold"] for each in alone] == [0.3, 0.6]
    assert [each["mIoU, best threshold"] for each in alone] == [1, 1]
    both = concluded(protocol, {k: np.array([one[k], two[k]], dtype=float).mean(axis=0) for k in one})
    assert both["mIoU, best threshold"] < 1
    assert both["mF1, best threshold"] in (0.2, 0.3)


def test_counts_are_summed_over_the_data_set_before_they_are_divided():
    chosen = [
        Sample("0", picture(0), (), Mask(blob(0, (0, 0, 1)))),
        Sample("1", picture(1), (), Mask(blob(1, (0, 1, 1)))),
    ]
    model = tiny_model()
    together = numbers(CHEFER, chosen, model)["predicted"]["mIoU, mean threshold"]
    alone = [numbers(CHEFER, [one], model)["predicted"]["mIoU, mean threshold"] for one in chosen]
    assert abs(together - np.mean(alone)) > 1e-4


def test_numbers_have_the_leading_axes_of_the_means():
    rows_ = rows(GRADTOKEN, samples(2), tiny_model())
    values = {row.metric: np.array(row.values) for row in rows_ if row.sample == "0"}
    single = GRADTOKEN.conclude(values)
    many = GRADTOKEN.conclude({name: np.broadcast_to(v, (3, 2, len(v))) for name, v in values.items()})
    for name, value in single.items():
        assert many[name].shape == (3, 2)
        np.testing.assert_array_equal(many[name], np.full((3, 2), value))


def test_a_constant_map_is_background_and_its_precision_that_of_zeros(monkeypatch):
    set_map(monkeypatch, np.full((4, 4), 0.3))
    mask = blob(0)
    found = numbers(GRADTOKEN, [Sample("0", picture(0), (), Mask(mask))], tiny_model())["predicted"]
    background = (naive.laid(mask, SIZE) == 0).mean()
    for rule in ("mean", "best"):
        assert found[f"pixel accuracy, {rule} threshold"] == background
        assert found[f"mIoU, {rule} threshold"] == background / 2
        assert found[f"mF1, {rule} threshold"] == 0
    assert found["mAP"] == 0.5


def test_a_mask_of_background_counts():
    found = numbers(CHEFER, [Sample("0", picture(0), (), Mask(np.zeros((14, 20), dtype=np.int16)))], tiny_model())
    one = found["predicted"]
    assert one["mF1, mean threshold"] == 0
    assert one["mIoU, mean threshold"] == one["pixel accuracy, mean threshold"] / 2


def test_pixels_without_a_label_count_for_nothing():
    mask = blob(0)
    mask[:, 10:] = VOID
    chosen = [Sample("0", picture(0), (), Mask(mask)), Sample("1", picture(1), (), Mask(np.full_like(mask, VOID)))]
    found = rows(CHEFER, chosen, tiny_model())
    labelled = next(row.values for row in found if row.metric == "labelled")
    assert labelled == [(naive.laid(mask, SIZE) != VOID).sum()]
    assert {row.sample: row.reason for row in found if row.reason} == {"1": "1: no pixel of the mask has a label"}


def test_a_picture_of_one_pixel():
    chosen = [Sample("0", picture(0, 1, 1), (), Mask(np.ones((1, 1), dtype=np.int16)))]
    found = numbers(GRADTOKEN, chosen, tiny_model())["predicted"]
    assert all(np.isfinite(value) for value in found.values())


def test_what_has_no_mask_is_refused():
    chosen = [
        Sample("boxes", picture(0), (1,), Boxes(((0, 0, 1, 1),))),
        Sample("nothing", picture(0), (1,)),
        Sample("text", "words", (1,)),
    ]
    found = reasons(CHEFER, chosen, tiny_model())
    assert found["boxes"].endswith("expected a picture with a mask, got Boxes")
    assert found["nothing"].endswith("expected a picture with a mask, got NoneType")
    assert "expected a picture, got a text" in found["text"]


@pytest.mark.parametrize("resize", ["shortest", "longest", "none", "squash"])
@pytest.mark.parametrize("size", [(20, 14), (9, 31)])
def test_a_mask_goes_the_way_of_its_picture(resize, size):
    """A mask that shows where the picture is white lies where the model sees white."""
    mask = blob(3, width=size[0], height=size[1])
    shown = np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=2)
    how = Preprocess(SIZE, resize=resize, interpolation="nearest", mean=(0, 0, 0), std=(1, 1, 1), fill=(127,) * 3)
    sample = Sample("0", Image.fromarray(shown), (), Mask(mask))
    seen = how(sample.input).pixels[0].numpy()
    expected = np.where(np.isclose(seen, 127 / 255), VOID, np.round(seen))
    np.testing.assert_array_equal(mask_of(sample, how).numpy(), expected)


def test_settings_are_described():
    told = Segmentation(name="mine", paper="", summary="", threshold="otsu").describe()
    assert told["family"] == "Segmentation"
    assert told["threshold"] == "otsu"
    assert told["foreground"] == "any"
