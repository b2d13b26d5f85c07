"""Which pixels are erased when, and what is left of a picture."""

import numpy as np
import pytest
import torch

from gradtoken.metrics.perturbation import blur_kernel, blurred, erased, ranks
from tests.reference import erasing as naive


def few_values(seed, shape=(3, 5, 7)):
    """Maps with many equal pixels."""
    return torch.from_numpy(np.random.default_rng(seed).integers(-2, 3, shape)).double()


@pytest.mark.parametrize("most_first", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_ranks_are_places_in_the_order(seed, most_first):
    R = few_values(seed)
    for one, found in zip(R.numpy(), ranks(R, most_first), strict=True):
        for number, place in enumerate(naive.order(one, least_first=not most_first)):
            assert found[place] == number


@pytest.mark.parametrize("most_first", [True, False])
def test_constant_maps_are_in_reading_order(most_first):
    for value in (0.0, -0.0, 1e-30, -7.0):
        found = ranks(torch.full((2, 3, 4), value), most_first)
        assert found.tolist() == torch.arange(12).view(1, 3, 4).expand(2, -1, -1).tolist()


def test_zero_and_minus_zero_are_equal():
    assert ranks(torch.tensor([[[0.0, -0.0, 0.0, -0.0]]])).tolist() == [[[0, 1, 2, 3]]]


@pytest.mark.parametrize("whole", [False, True])
def test_erased_is_the_loop(whole):
    x, R = torch.rand(3, 2, 5, 7, dtype=torch.float64), few_values(0)
    fill = torch.rand_like(x) if whole else torch.tensor([0.3, -2.0]).double()
    counts = torch.tensor([0, 1, 20, 35, 99])
    found = erased(x, ranks(R), counts, fill)
    assert found.shape == (5, *x.shape)
    for n, count in enumerate(counts.tolist()):
        for b in range(3):
            other = fill[b].numpy() if whole else naive.filled(x[b].numpy(), fill.tolist())
            expected = naive.pasted(x[b].numpy(), other, naive.order(R[b].numpy())[:count])
            np.testing.assert_array_equal(found[n, b], expected)


def test_erased_leaves_the_pictures_alone():
    x = torch.rand(1, 3, 4, 4)
    before = x.clone()
    erased(x, ranks(x[:, 0]), torch.tensor([16]), torch.zeros(3)).zero_()
    assert torch.equal(x, before)


@pytest.mark.parametrize(("width", "sigma"), [(11, 5.0), (11, 1.0), (3, 4.0), (1, 1.0)])
def test_the_blur_is_the_published_kernel(width, sigma):
    pytest.importorskip("scipy")
    g = blur_kernel(width, sigma)
    np.testing.assert_allclose(np.outer(g, g), naive.rise_kernel(width, sigma), rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [(16, 16), (13, 20), (3, 2), (1, 1)])
def test_blurred_is_the_loop(size):
    pytest.importorskip("scipy")
    x = torch.rand(2, 3, *size, dtype=torch.float64)
    expected = np.stack([naive.blurred(one, naive.rise_kernel()) for one in x.numpy()])
    np.testing.assert_allclose(blurred(x), expected, rtol=0, atol=1e-12)


def test_a_blurred_plain_picture_is_plain_far_from_the_edge():
    x = torch.full((1, 3, 30, 30), 0.7, dtype=torch.float64)
    torch.testing.assert_close(blurred(x)[:, :, 5:-5, 5:-5], x[:, :, 5:-5, 5:-5])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_number_formats_are_kept(dtype):
    assert blurred(torch.rand(1, 3, 12, 12).to(dtype)).dtype == dtype
