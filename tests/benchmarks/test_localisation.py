"""The two localisation measures on maps made by hand."""

import pytest
import torch
from benchmarks.boxes import enlarge, gaussian, hit, inside, share

LEFT_AND_CORNER = [(0.0, 0.0, 0.5, 1.0), (0.75, 0.75, 1.0, 1.0)]


def test_inside_is_the_union_of_the_boxes():
    mask = inside([*LEFT_AND_CORNER, (0.25, 0.0, 0.5, 1.0)], (4, 4))
    assert mask.long().tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 0, 1]]


def test_share_counts_positive_relevance_only():
    mask = inside(LEFT_AND_CORNER, (2, 4))  # the corner box holds the centre of pixel (1, 3) on its edge
    R = torch.tensor([[1.0, 2.0, 3.0, -9.0], [-5.0, 0.0, 2.0, 0.0]])
    assert share(R, mask) == pytest.approx(3 / 8)
    assert share(-R.abs(), mask) == 0.0


def test_hit_is_the_highest_pixel_and_its_expectation_for_ties():
    mask = inside([(0.0, 0.0, 0.5, 1.0)], (2, 4))
    R = torch.zeros(2, 4)
    assert hit(R, mask) == 0.5
    R[1, 1] = 1
    assert hit(R, mask) == 1.0
    R[0, 2] = 2
    assert hit(R, mask) == 0.0


def test_the_gaussian_and_enlarging_keep_the_middle():
    R = enlarge(gaussian(14)[None], (224, 224))[0]
    assert R.shape == (224, 224)
    torch.testing.assert_close(R, R.flip(0, 1))
    torch.testing.assert_close(R[112, 112], R.max())
