"""Boxes, pointing and energy, and the cells of a mosaic."""

import numpy as np
import pytest
import torch

from gradtoken.errors import MissingExtra
from gradtoken.metrics import localisation, mosaic
from tests.metrics import cases
from tests.reference import metrics as naive

OVERLAPS = {
    "accuracy": localisation.localisation_accuracy,
    "iou": localisation.localisation_iou,
    "dice": localisation.localisation_dice,
    "precision": localisation.localisation_precision,
    "recall": localisation.localisation_recall,
}
QUARTERS = [(0, 0, 0.5, 0.5), (0.5, 0, 1, 0.5), (0, 0.5, 0.5, 1), (0.5, 0.5, 1, 1)]


def random_boxes(count):
    a, b = torch.rand(2, count, 2, dtype=torch.float64)
    return torch.cat([torch.minimum(a, b), torch.maximum(a, b)], dim=1)


@cases.batches
@pytest.mark.parametrize("rule", ["centres", "truncated"])
def test_boxes_become_the_pixels_of_the_formula(batch, rule):
    boxes = [random_boxes(1 + number % 3).tolist() for number in range(batch)]
    found = localisation.boxes_mask(boxes, (9, 14), rule)
    cases.same(found, [naive.boxes_mask(one, (9, 14), rule == "truncated") for one in boxes])


def test_the_two_conventions_differ_by_the_last_pixel():
    half = [[(0.0, 0.0, 0.5, 1.0)]]
    assert localisation.boxes_mask(half, (1, 4)).int().tolist() == [[[1, 1, 0, 0]]]
    assert localisation.boxes_mask(half, (1, 4), "truncated").int().tolist() == [[[1, 1, 1, 0]]]


def test_pictures_without_boxes_and_with_the_whole_picture():
    found = localisation.boxes_mask([[], [(0, 0, 1, 1)]], (2, 3))
    assert found.flatten(1).int().tolist() == [[0] * 6, [1] * 6]


@cases.batches
@pytest.mark.parametrize("extra", [0, 1])
def test_boxes_around_components_are_those_found_by_flooding(batch, extra):
    mask = torch.rand(batch, 9, 14) < 0.25
    found = localisation.component_boxes(mask, extra)
    cases.same(found, [naive.component_boxes(one.numpy(), extra) for one in mask])


def test_diagonal_neighbours_are_one_component_and_holes_do_not_matter():
    assert localisation.component_boxes(torch.eye(3).bool()[None]).all()
    ring = torch.ones(1, 5, 5, dtype=torch.bool)
    ring[0, 1:4, 1:4] = False
    ring[0, 2, 2] = True
    assert localisation.component_boxes(ring).all()
    assert not localisation.component_boxes(torch.zeros(1, 1, 1, dtype=torch.bool)).any()


def test_without_scipy_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "scipy.ndimage", None)
    with pytest.raises(MissingExtra, match=r"pip install 'gradtoken\[scipy\]'"):
        localisation.component_boxes(torch.ones(1, 2, 2))


@cases.batches
@pytest.mark.parametrize("name", OVERLAPS)
def test_overlaps_are_the_formulas(batch, name):
    guess, truth = torch.rand(2, batch, 5, 8) < 0.4
    pairs = zip(guess.numpy(), truth.numpy(), strict=True)
    cases.same(OVERLAPS[name](guess, truth), [naive.overlap(a, b)[name] for a, b in pairs])


@pytest.mark.parametrize("name", OVERLAPS)
@pytest.mark.parametrize("guess", [0, 1])
@pytest.mark.parametrize("truth", [0, 1])
def test_overlaps_of_empty_and_full_masks(name, guess, truth):
    a, b = (torch.full((1, 2, 3), value, dtype=torch.bool) for value in (guess, truth))
    cases.same(OVERLAPS[name](a, b), [naive.overlap(a[0].numpy(), b[0].numpy())[name]])
    nothing_to_miss = (name == "precision" and not guess) or (name == "recall" and not truth)
    assert OVERLAPS[name](a, b).round().tolist() == [float(guess == truth or nothing_to_miss)]


@cases.batches
@pytest.mark.parametrize("tolerance", [0, 1, 2, 15])
def test_pointing_is_the_formula(batch, tolerance):
    R, mask = cases.random_maps(batch, levels=2), torch.rand(batch, 5, 8) < 0.15
    pairs = zip(R.numpy(), mask.numpy(), strict=True)
    expected = [naive.pointing_game(a, b, tolerance) for a, b in pairs]
    cases.same(localisation.pointing_game(R, mask, tolerance), expected)


@cases.maps
@cases.masks
def test_pointing_and_energy_of_extremes(name, mask):
    R, inside = cases.extreme_maps()[name], cases.extreme_masks()[mask] == 1
    one = R[0].numpy(), inside[0].numpy()
    cases.same(localisation.pointing_game(R, inside), [naive.pointing_game(*one)])
    cases.same(localisation.pointing_game(R, inside, 1), [naive.pointing_game(*one, 1)])
    cases.same(localisation.energy_inside(R, inside), [naive.energy_inside(*one)])


def test_a_constant_map_points_like_a_random_point():
    mask = torch.tensor([[[True, False, False, False]]])
    assert localisation.pointing_game(torch.ones(1, 1, 4), mask).tolist() == [0.25]


def test_a_circle_of_fifteen_pixels_is_round():
    R = torch.zeros(2, 40, 40)
    R[0, 20, 35], R[1, 31, 31] = 1, 1  # 15 pixels to the right; 11 and 11 pixels, 15.6 away
    mask = torch.zeros(2, 40, 40, dtype=torch.bool)
    mask[:, 20, 20] = True
    assert localisation.pointing_game(R, mask, 15).tolist() == [1.0, 0.0]


@cases.batches
def test_energy_is_the_formula(batch):
    R, mask = cases.random_maps(batch), torch.rand(batch, 5, 8) < 0.4
    pairs = zip(R.numpy(), mask.numpy(), strict=True)
    cases.same(localisation.energy_inside(R, mask), [naive.energy_inside(a, b) for a, b in pairs])


def test_half_precision_does_not_overflow():
    R = torch.full((1, 300, 300), 10.0, dtype=torch.float16)
    assert localisation.energy_inside(R, torch.ones(1, 300, 300, dtype=torch.bool)).tolist() == [1.0]


@cases.batches
def test_box_iou_is_the_formula(batch):
    a, b = random_boxes(batch), random_boxes(batch)
    pairs = zip(a.tolist(), b.tolist(), strict=True)
    cases.same(localisation.box_iou(a, b), [naive.box_iou(x, y) for x, y in pairs])
    ops = pytest.importorskip("torchvision.ops")
    torch.testing.assert_close(localisation.box_iou(a, b), ops.box_iou(a, b).diagonal())


def test_box_iou_of_apart_equal_and_empty_boxes():
    a = torch.tensor([[0.0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0]])
    b = torch.tensor([[2.0, 2, 3, 3], [0, 0, 1, 1], [1, 1, 1, 1]])
    cases.same(localisation.box_iou(a, b), [0, 1, np.nan])


@cases.batches
def test_shares_and_hits_of_cells_are_the_formulas(batch):
    R = torch.stack([cases.random_maps(batch, (6, 8), levels=3) for _ in QUARTERS], dim=1)
    cases.same(mosaic.cell_share(R, QUARTERS), [naive.cell_share(one.numpy(), QUARTERS) for one in R])
    cases.same(mosaic.cell_hit(R, QUARTERS), [naive.cell_hit(one.numpy(), QUARTERS) for one in R])


@cases.maps
def test_cells_of_extreme_maps(name):
    R = cases.extreme_maps()[name][:, None].expand(-1, 2, -1, -1)
    cells = [(0, 0, 0.5, 1), (0.5, 0, 1, 1)]
    cases.same(mosaic.cell_share(R, cells), [naive.cell_share(R[0].numpy(), cells)])
    cases.same(mosaic.cell_hit(R, cells), [naive.cell_hit(R[0].numpy(), cells)])


def test_a_uniform_map_gets_chance_and_no_evidence_gets_nothing():
    R = torch.stack([torch.full((4, 34, 34), 0.1), torch.zeros(4, 34, 34)])
    cases.same(mosaic.cell_share(R, QUARTERS), [[0.25] * 4, [0.0] * 4])
    assert mosaic.cell_hit(R, QUARTERS).tolist() == [[0.25] * 4, [0.0] * 4]
