"""Range, size and threshold of a map."""

import numpy as np
import pytest
import torch

from gradtoken.metrics import maps, thresholds
from tests.metrics import cases
from tests.reference import metrics as naive


@cases.batches
def test_minmax_is_the_formula(batch):
    R = cases.random_maps(batch)
    cases.same(maps.minmax(R), [naive.minmax(one.numpy()) for one in R])


def test_a_constant_map_has_no_range():
    assert maps.minmax(torch.full((2, 1, 1), 3.0)).isnan().all()
    assert maps.minmax(cases.extreme_maps()["nan"]).isnan().all()


@pytest.mark.parametrize("size", [(6, 20), (3, 5), (2, 4), (1, 1)])
def test_enlarging_is_bilinear_between_pixel_centres(size):
    R = cases.random_maps(2, (3, 5))
    cases.same(maps.enlarge(R, size), [naive.bilinear(one.numpy(), size) for one in R])


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "bicubic", "area"])
def test_other_modes(mode):
    assert maps.enlarge(torch.rand(2, 3, 5).half(), (6, 10), mode).shape == (2, 6, 10)


def test_has_positive():
    R = torch.stack(list(cases.extreme_maps().values()), dim=1)
    assert maps.has_positive(R).tolist() == [[True, True, False, False, False]]


@cases.batches
@pytest.mark.parametrize("bins", [2, 16, 256])
def test_otsu_is_the_formula(batch, bins):
    R = torch.randn(batch, 6, 9, dtype=torch.float64).exp()
    cases.same(thresholds.otsu(R, bins), [naive.otsu(one.numpy(), bins) for one in R])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_otsu_is_scikit_images(dtype):
    filters = pytest.importorskip("skimage.filters")
    R = torch.randn(5, 40, 30, dtype=dtype).abs()
    expected = [filters.threshold_otsu(one.numpy()) for one in R]
    np.testing.assert_allclose(thresholds.otsu(R), expected, rtol=1e-5)


def test_otsu_of_two_values_parts_them():
    R = torch.tensor([[[0.0, 0.0, 1.0]]])
    assert thresholds.foreground(R, thresholds.otsu(R)).tolist() == [[[False, False, True]]]


def test_thresholds_of_a_map():
    R = torch.tensor([[[0.0, 0.1, 0.5]], [[1.0, 3.0, 2.0]]])
    torch.testing.assert_close(thresholds.mean(R), torch.tensor([0.2, 2.0]))
    torch.testing.assert_close(thresholds.share_of_maximum(R), torch.tensor([0.1, 0.6]))
    torch.testing.assert_close(thresholds.fixed(R, 0.4), torch.tensor([0.4, 0.4]))
    torch.testing.assert_close(thresholds.fixed(R), torch.tensor([0.5, 0.5]))
    strict = thresholds.foreground(R, thresholds.share_of_maximum(R))
    assert strict.tolist() == [[[False, False, True]], [[True, True, True]]]


@cases.batches
def test_foreground_is_strictly_above(batch):
    R = cases.random_maps(batch)
    t = thresholds.mean(R)
    cases.same(thresholds.foreground(R, t), [naive.foreground(x.numpy(), float(y)) for x, y in zip(R, t, strict=True)])


@pytest.mark.parametrize("rule", [thresholds.mean, thresholds.share_of_maximum, thresholds.fixed, thresholds.otsu])
def test_a_constant_map_is_background_under_every_rule(rule):
    R = maps.minmax(torch.full((2, 3, 5), 0.3))
    assert not thresholds.foreground(R, rule(R)).any()


@pytest.mark.parametrize("rule", [thresholds.mean, thresholds.otsu])
@pytest.mark.parametrize("size", [(1, 1), (3, 5)])
def test_an_unscaled_constant_map_is_background(rule, size):
    R = torch.full((1, *size), 0.5)
    assert not thresholds.foreground(R, rule(R)).any()
