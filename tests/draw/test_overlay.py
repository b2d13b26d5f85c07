"""Colours and overlays: values of single pixels, never only shapes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from gradtoken.draw.colours import Scale
from gradtoken.draw.grid import enlarge
from gradtoken.draw.overlay import BAND, DIM, HIDDEN, LINE, overlay
from gradtoken.errors import BadRelevance, GradTokenError, UnknownName

QUARTERS = np.array([[0.0, 1.0], [2.0, 4.0]], np.float32)
GREY = Scale(0, 4, "gray")


def drawn(size, box=None, relevance=QUARTERS, scale=GREY, **style):
    picture = Image.new("RGB", size, (200, 200, 200))
    return np.asarray(overlay(picture, relevance, box, scale, **{"interpolation": "nearest", **style}))


@pytest.mark.parametrize("size", [(28, 28), (7, 50), (3, 5)])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("bilinear", {"mode": "bilinear", "align_corners": False}), ("nearest", {"mode": "nearest-exact"})],
)
def test_enlarge_is_that_of_torch(size, ours, theirs):
    relevance = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    expected = F.interpolate(torch.tensor(relevance)[None, None], size=size, **theirs)[0, 0].numpy()
    np.testing.assert_allclose(enlarge(relevance, size, ours), expected, rtol=1e-5, atol=1e-6)


def test_maps_finer_than_the_drawing_are_averaged():
    relevance = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
    means = relevance.reshape(3, 2, 2, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(enlarge(relevance, (3, 2)), means, rtol=1e-5)
    np.testing.assert_array_equal(enlarge(relevance, (3, 4), "nearest"), relevance[1::2, 1::2])
    fine = np.kron(np.array([[0, 1], [2, 4]]), np.ones((60, 60)))
    image = drawn((4, 4), (0, 0, 4, 4), fine, opacity=1, interpolation="bilinear")
    np.testing.assert_array_equal(image[..., 0], drawn((4, 4), opacity=1)[..., 0])
    assert (drawn((150, 150), None, fine, lines=True) == drawn((150, 150), None, fine)).all()


def test_enlarge_refuses_other_interpolations():
    with pytest.raises(GradTokenError, match="bilinear or nearest, got 'cubic'"):
        enlarge(QUARTERS, (4, 4), "cubic")


def test_overlay_mixes_picture_and_colours_linearly():
    picture = Image.new("RGB", (4, 4), (100, 50, 200))
    mixed = np.asarray(overlay(picture, QUARTERS, None, GREY, opacity=0.25, interpolation="nearest", grey=False))
    for cell, pixel in ((0.0, mixed[0, 0]), (2.0, mixed[3, 0]), (4.0, mixed[3, 3])):
        colour = min(255, int(cell / 4 * 256))  # 256 steps of equal width, as matplotlib
        np.testing.assert_allclose(pixel, [0.75 * c + 0.25 * colour for c in (100, 50, 200)], atol=0.51)


def test_the_picture_under_the_heat_is_grey_unless_asked():
    picture = Image.new("RGB", (4, 4), (100, 50, 200))
    luma = np.asarray(picture.convert("L"))[0, 0]
    assert (np.asarray(overlay(picture, QUARTERS, opacity=0)) == luma).all()
    assert (np.asarray(overlay(picture, QUARTERS, opacity=0, grey=False)) == (100, 50, 200)).all()


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_bands_do_not_show(interpolation):
    size = (3, BAND + 40)
    relevance = np.random.default_rng(0).random((7, 2), dtype=np.float32)
    scale = Scale(0, 1, "viridis")
    once = scale.paint(enlarge(relevance, size[::-1], interpolation))
    np.testing.assert_array_equal(drawn(size, None, relevance, scale, opacity=1, interpolation=interpolation), once)


def test_a_centre_crop_is_dimmed_outside():
    image = drawn((8, 6), (2, 1, 6, 5), opacity=1)
    seen = np.zeros((6, 8), bool)
    seen[1:5, 2:6] = True
    assert (image[~seen] == round(DIM * 200)).all()
    np.testing.assert_array_equal(image[1:5, 2:6, 0], [[0, 0, 64, 64]] * 2 + [[128, 128, 255, 255]] * 2)


def test_padding_lies_outside_the_picture():
    image = drawn((8, 4), (0, -2, 8, 6), opacity=1)  # the map is 8 x 8, the picture its middle rows
    np.testing.assert_array_equal(image[..., 0], [[0] * 4 + [64] * 4] * 2 + [[128] * 4 + [255] * 4] * 2)


def test_pixels_belong_to_the_box_that_holds_their_centre():
    image = drawn((4, 2), (1.4, 0, 2.6, 2), opacity=0)
    np.testing.assert_array_equal((image[0, :, 0] == 200), [False, True, True, False])
    with pytest.raises(GradTokenError, match="outside the picture of 4 x 2 pixels"):
        drawn((4, 2), (9, 0, 12, 2))


def test_threshold_keeps_the_picture_where_relevance_is_high():
    image = drawn((4, 4), threshold=0.5)
    kept = (QUARTERS >= 2).repeat(2, 0).repeat(2, 1)
    np.testing.assert_array_equal(image[..., 0], np.where(kept, 200, round(HIDDEN * 200)))


@pytest.mark.parametrize("top", [0.1, 0.25, 0.5, 1.0])
def test_top_keeps_that_share_of_the_area(top):
    relevance = np.random.default_rng(0).random((14, 14), dtype=np.float32)
    kept = {
        i: (drawn((140, 140), None, relevance, top=top, interpolation=i) == 200).mean() for i in ("nearest", "bilinear")
    }
    assert kept["nearest"] == pytest.approx(top, abs=1 / 196)
    assert kept["bilinear"] == pytest.approx(top, abs=0.01)


def test_lines_lie_between_patches():
    image = drawn((8, 12), opacity=0, lines=True)[..., 0]
    on = np.zeros((12, 8), bool)
    on[image == round(200 * (1 - LINE) + 255 * LINE)] = True
    assert on.all(axis=1).sum() == 1
    assert on.all(axis=0).sum() == 1
    assert on.sum() == 8 + 12 - 1
    with pytest.raises(GradTokenError, match=r"at least 4 pixels, these have 2; draw without"):
        drawn((4, 4), lines=True)


def test_size_is_kept_unless_capped():
    assert drawn((300, 200)).shape == (200, 300, 3)
    assert drawn((300, 200), cap=150).shape == (100, 150, 3)
    assert drawn((300, 200), (150, 0, 300, 200), cap=150, opacity=0)[50, :, 0].tolist() == [120] * 75 + [200] * 75


def test_scales():
    assert Scale.of([QUARTERS]) == Scale(0, 4, "inferno")
    assert Scale.of([QUARTERS + 1, QUARTERS - 0.5]) == Scale(-5, 5, "RdBu_r")
    assert Scale.of([QUARTERS, QUARTERS * 3], "jet") == Scale(0, 12, "jet")
    assert Scale.of([np.full((2, 2), 3.0)]) == Scale(0, 3, "inferno")
    assert Scale.of([np.zeros((2, 2))]).high == 1
    assert Scale.of([QUARTERS], limits=(1, 2)) == Scale(1, 2, "inferno", (True, True))
    assert Scale.of([np.array([-1e-9, 1.0])]).signed is False  # rounding is no sign
    assert Scale.of([np.arange(101.0)], clip=0.1) == Scale(10, 90, "inferno", (True, True))
    with pytest.raises(UnknownName, match="no colour map 'infernal'; did you mean 'inferno'"):
        drawn((4, 4), scale=Scale.of([QUARTERS], "infernal"))


def test_zero_is_in_the_middle_of_a_signed_scale():
    white = Scale.of([QUARTERS - 1]).paint(np.zeros((1, 1), np.float32))
    assert (white > 240).all()


@pytest.mark.parametrize(
    ("style", "message"),
    [
        ({"opacity": 2}, "from 0 to 1, got 2"),
        ({"clip": 0.5}, "below 0.5"),
        ({"limits": (2, 1)}, "low < high"),
        ({"limits": (0, 1), "clip": 0.1}, "give one of them"),
        ({"interpolation": "cubic"}, "bilinear, nearest, got 'cubic'"),
        ({"top": 0}, "above 0"),
        ({"threshold": 7}, "share of the maximum"),
        ({"top": 0.1, "threshold": 0.1}, "give one of them"),
        ({"cap": 3}, "at least 16"),
        ({"colours": "jett"}, "no colour map 'jett'; did you mean 'jet'"),
        ({"color": "jet"}, "no style 'color'; did you mean 'colours'"),
    ],
)
def test_bad_styles_are_refused(style, message):
    with pytest.raises(GradTokenError, match=message):
        drawn((8, 8), **style)


def test_tokens_without_a_grid_are_no_overlay():
    from tests.test_result import example

    with pytest.raises(BadRelevance, match="5 tokens form no grid"):
        example(relevance=np.arange(5)).overlay()
