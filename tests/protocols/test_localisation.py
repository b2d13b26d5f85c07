"""Localisation against a naive version, and what leaves a sample out."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from gradtoken.data.sample import VOID, Boxes, Mask, Sample
from gradtoken.models.preprocess import Preprocess
from gradtoken.protocols import PROTOCOLS
from gradtoken.protocols.truth import boxes_of
from tests.protocols.tiny import METHODS, SIZE, blob, numbers, picture, reasons, rows, same, set_map, tiny_model
from tests.reference import metrics as measures
from tests.reference import protocols as naive

AGCAM = PROTOCOLS["localisation/agcam2024"]
POINTING = PROTOCOLS["pointing-game"]
ENERGY = PROTOCOLS["energy-in-mask"]
BOXES = (((0.1, 0.2, 0.6, 0.7),), ((0.0, 0.0, 0.31, 0.4), (0.5, 0.55, 0.9, 0.97)), ((0.4, 0.3, 0.5, 0.5),))


def predicted(model, image):
    return int(naive.logits(model.net, naive.read(image, SIZE)).argmax())


def boxed(model, count=5):
    """Pictures labelled with what the model predicts."""
    pictures = [picture(i) for i in range(count)]
    return [
        Sample(str(i), image, (predicted(model, image),), Boxes(BOXES[i % len(BOXES)]))
        for i, image in enumerate(pictures)
    ]


def map_of(model, sample, method):
    return naive.map_of(model.net, naive.read(sample.input, SIZE), sample.labels[0], method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("batch", [1, 4])
def test_agcam_equals_the_naive_version(method, batch):
    model = tiny_model()
    chosen = boxed(model)
    expected = naive.averaged([naive.agcam(map_of(model, one, method), one.truth.fractions) for one in chosen])
    same(numbers(AGCAM, chosen, model, method, batch)["label"], expected)


@pytest.mark.parametrize("method", METHODS)
def test_pointing_and_energy_in_boxes_equal_the_naive_version(method):
    model = tiny_model()
    chosen = boxed(model)
    truths = [measures.boxes_mask(one.truth.fractions, SIZE).astype(int) for one in chosen]
    maps = [map_of(model, one, method) for one in chosen]
    near = replace(POINTING, tolerances=(3, 0))
    for protocol, tolerances in ((near, (3, 0)), (POINTING, (15, 0))):
        found = [naive.pointing(R, t, tolerances) for R, t in zip(maps, truths, strict=True)]
        same(numbers(protocol, chosen, model, method)["label"], naive.averaged(found))
    expected = naive.averaged([naive.energy(R, t) for R, t in zip(maps, truths, strict=True)])
    same(numbers(ENERGY, chosen, model, method)["label"], expected)


@pytest.mark.parametrize("foreground", ["any", "explained"])
def test_in_masks_too_and_where_nobody_answered_it_counts_neither_way(foreground):
    model = tiny_model()
    masks = [blob(i, (0, 1, 2, VOID)) for i in range(4)]
    chosen = [Sample(str(i), picture(i), (i % 2,), Mask(mask)) for i, mask in enumerate(masks)]
    laid = [naive.laid(mask, SIZE) for mask in masks]
    shown = [t == i % 2 + 1 if foreground == "explained" else t > 0 for i, t in enumerate(laid)]
    truths = [np.where(t == VOID, VOID, s) for t, s in zip(laid, shown, strict=True)]
    maps = [map_of(model, one, "input_x_gradient") for one in chosen]
    pairs = list(zip(maps, truths, strict=True))
    pointing = replace(POINTING, foreground=foreground, tolerances=(0, 2))
    expected = naive.averaged([naive.pointing(R, t, (0, 2)) for R, t in pairs])
    same(numbers(pointing, chosen, model, "input_x_gradient")["label"], expected)
    found = numbers(replace(ENERGY, foreground=foreground), chosen, model, "input_x_gradient")["label"]
    same(found, naive.averaged([naive.energy(R, t) for R, t in pairs]))


def test_wrong_predictions_are_left_out_with_the_reason():
    model = tiny_model()
    (right,) = boxed(model, 1)
    wrong = Sample("wrong", right.input, ((right.labels[0] + 1) % 5,), right.truth)
    told = "wrong: left out, for its prediction is not its label"
    found = rows(AGCAM, [right, wrong], model)
    assert {row.sample: row.reason for row in found if row.reason} == {"wrong": told}
    assert {row.sample for row in found if not row.reason} == {"0"}
    assert not reasons(POINTING, [right, wrong], model)


def test_boxes_without_a_pixel_are_left_out_but_agcam_counts_their_corner():
    model = tiny_model()
    (known,) = boxed(model, 1)
    empty = Sample("empty", known.input, known.labels, Boxes(((0.4, 0.4, 0.4, 0.4),)))
    none = Sample("none", known.input, known.labels, Boxes(()))
    told = "left out, for its truth has no pixel at the model's size"
    for protocol in (POINTING, ENERGY):
        assert reasons(protocol, [empty, none], model) == {"empty": f"empty: {told}", "none": f"none: {told}"}
    assert reasons(AGCAM, [empty, none], model) == {"none": f"none: {told}"}


def test_large_truths_are_left_out_where_the_protocol_says_so():
    model = tiny_model()
    (known,) = boxed(model, 1)
    half = Sample("half", known.input, known.labels, Boxes(((0, 0, 0.5, 1),)))
    less = Sample("less", known.input, known.labels, Boxes(((0, 0, 0.4, 1),)))
    found = reasons(replace(ENERGY, below=0.5), [half, less], model)
    assert found == {"half": "half: left out, for its truth covers 50% of the picture or more"}
    assert not reasons(ENERGY, [half, less], model)


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_a_constant_map_gets_what_chance_gets(monkeypatch, value):
    model = tiny_model()
    chosen = boxed(model)
    set_map(monkeypatch, np.full((4, 4), value))
    found = numbers(replace(POINTING, enlarging="nearest"), chosen, model)["label"]
    assert found["hits"] == pytest.approx(found["chance"])
    assert found["hits within 15 px"] == pytest.approx(found["chance within 15 px"]) == 1
    found = numbers(ENERGY, chosen, model)["label"]
    assert found["energy inside"] == pytest.approx(found["area of the truth"] if value else 0)
    assert found["no positive relevance"] == (value == 0)
    assert numbers(AGCAM, chosen, model)["label"]["recall"] < 1e-5


def test_what_does_not_fit_is_refused():
    model = tiny_model()
    chosen = [
        Sample("mask", picture(0), (1,), Mask(blob(0))),
        Sample("label", picture(0), (9,), Boxes(BOXES[0])),
        Sample("labels", picture(0), (1, 2), Boxes(BOXES[0])),
        Sample("pixel", picture(0, 1, 1), (1,), Boxes(BOXES[0])),
    ]
    found = reasons(AGCAM, chosen, model)
    assert found["mask"] == "mask: expected a picture with boxes, got Mask"
    assert found["label"] == "label: label 9 is outside the model's 5 classes"
    assert found["labels"] == "labels: expected one label, got 2"
    assert "pixel" not in reasons(ENERGY, chosen, model)


@pytest.mark.parametrize("resize", ["shortest", "longest"])
def test_boxes_go_the_way_of_the_picture(resize):
    """A box drawn white lies where the model sees white."""
    image = np.zeros((16, 32, 3), dtype=np.uint8)
    image[4:12, 10:20] = 255
    sample = Sample("0", Image.fromarray(image), (), Boxes(((10 / 32, 4 / 16, 20 / 32, 12 / 16),)))
    how = Preprocess(SIZE, resize=resize, interpolation="nearest", mean=(0, 0, 0), std=(1, 1, 1))
    np.testing.assert_array_equal(boxes_of(sample, how, "centres").numpy(), how(sample.input).pixels[0].numpy())
