"""Colours and overlays: values of single pixels, never only shapes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from gradtoken.draw.colours import Scale
from gradtoken.draw.overlay import DIM, enlarge, over_picture, overlay
from gradtoken.errors import BadTarget, UnknownName

QUARTERS = np.array([[0.0, 1.0], [2.0, 4.0]], np.float32)


@pytest.mark.parametrize("size", [(28, 28), (7, 50), (1, 1)])
def test_enlarge_is_bilinear_with_centred_cells(size):
    relevance = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    expected = F.interpolate(torch.tensor(relevance)[None, None], size=size, mode="bilinear", align_corners=False)
    np.testing.assert_allclose(enlarge(relevance, size), expected[0, 0].numpy(), rtol=1e-6)


def test_enlarge_nearest_repeats_cells():
    np.testing.assert_array_equal(enlarge(QUARTERS, (4, 4), "nearest"), QUARTERS.repeat(2, 0).repeat(2, 1))
    with pytest.raises(BadTarget, match="bilinear or nearest, got 'cubic'"):
        enlarge(QUARTERS, (4, 4), "cubic")


def test_the_map_lies_where_the_model_looked():
    inside = over_picture(QUARTERS, (6, 8), (2, 1, 6, 5), "nearest")  # a crop: the middle of the picture
    assert np.isnan(inside).sum() == 6 * 8 - 16
    np.testing.assert_array_equal(inside[1:5, 2:6], QUARTERS.repeat(2, 0).repeat(2, 1))
    beyond = over_picture(QUARTERS, (4, 8), (0, -2, 8, 6), "nearest")  # padding: the map is larger than the picture
    np.testing.assert_array_equal(beyond, QUARTERS.repeat(4, 0).repeat(4, 1)[2:6])


def test_overlay_mixes_picture_and_colours_linearly():
    picture = Image.new("RGB", (4, 4), (100, 50, 200))
    scale = Scale(0, 4, "gray")
    drawn = np.asarray(overlay(picture, QUARTERS, (0, 0, 4, 4), scale, opacity=0.25, interpolation="nearest"))
    for cell, pixel in ((0.0, drawn[0, 0]), (2.0, drawn[3, 0]), (4.0, drawn[3, 3])):
        grey = round(cell / 4 * 255)
        np.testing.assert_allclose(pixel, [0.75 * c + 0.25 * grey for c in (100, 50, 200)], atol=0.8)


def test_what_the_model_did_not_see_is_dimmed():
    picture = Image.new("RGB", (8, 4), (200, 200, 200))
    drawn = np.asarray(overlay(picture, QUARTERS, (4, 0, 8, 4), Scale(0, 4, "gray"), opacity=0))
    assert (drawn[:, :4] == round(DIM * 200)).all()
    assert (drawn[:, 4:] == 200).all()


def test_threshold_keeps_the_picture_where_relevance_is_high():
    picture = Image.new("RGB", (4, 4), (200, 200, 200))
    drawn = np.asarray(
        overlay(picture, QUARTERS, (0, 0, 4, 4), Scale(0, 4, "gray"), interpolation="nearest", threshold=0.5)
    )
    kept = (drawn == 200).all(axis=2)
    np.testing.assert_array_equal(kept, (QUARTERS >= 2).repeat(2, 0).repeat(2, 1))


def test_scales():
    assert Scale.of([QUARTERS]) == Scale(0, 4, "inferno")
    assert Scale.of([QUARTERS + 1, QUARTERS - 0.5]) == Scale(-5, 5, "RdBu_r")
    assert Scale.of([QUARTERS, QUARTERS * 3], "jet") == Scale(0, 12, "jet")
    assert Scale.of([np.full((2, 2), 3.0)]) == Scale(0, 3, "inferno")
    assert Scale.of([np.zeros((2, 2))]).high == 1
    with pytest.raises(UnknownName, match="no colour map 'infernal'; did you mean 'inferno'"):
        Scale.of([QUARTERS], "infernal")


def test_zero_is_in_the_middle_of_a_signed_scale():
    white = Scale.of([QUARTERS - 1]).paint(np.zeros((1, 1), np.float32))
    assert (white > 240).all()
