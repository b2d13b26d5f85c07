"""Areas under curves, and what happens to the confidence."""

import numpy as np
import pytest
import torch

from gradtoken.metrics import confidence, curves
from gradtoken.protocols.perturbation import area
from tests.metrics import cases
from tests.reference import metrics as naive


@cases.batches
@pytest.mark.parametrize("steps", [1, 2, 9])
def test_areas_are_the_formulas(batch, steps):
    y, clean = torch.rand(batch, steps, dtype=torch.float64), torch.rand(batch, dtype=torch.float64)
    rows = y.tolist()
    expected = [naive.area_with_ends(row, c) for row, c in zip(rows, clean.tolist(), strict=True)]
    cases.same(curves.area_with_ends(y, clean), expected)
    tenths = [(step + 1) / 10 for step in range(steps)]
    cases.same(curves.area_over_steps(y), [naive.trapezoid(row, tenths) for row in rows])
    cases.same(curves.mean_of_steps(y), [sum(row) / steps for row in rows])
    if steps > 1:
        cases.same(curves.normalised_area(y), [naive.normalised_area(row) for row in rows])
    least = y.flip(0)
    cases.same(curves.abpc(least, y), [naive.abpc(a, b) for a, b in zip(least.tolist(), rows, strict=True)])


def test_the_published_eleven_points():
    y, clean = torch.arange(9, 0, -1)[None] / 10, torch.ones(1)
    torch.testing.assert_close(curves.area_with_ends(y, clean), torch.tensor([0.5]))
    torch.testing.assert_close(curves.area_over_steps(y), torch.tensor([0.4]))
    torch.testing.assert_close(curves.mean_of_steps(y), torch.tensor([0.5]))


def test_areas_of_right_and_wrong_average_to_the_area_of_the_accuracy():
    right, clean = (torch.rand(7, 9) < 0.5).float(), torch.ones(7)
    together = curves.area_with_ends(right.mean(dim=0, keepdim=True), clean.mean(dim=0, keepdim=True))
    torch.testing.assert_close(curves.area_with_ends(right, clean).mean(), together[0])


def probabilities(batch, steps):
    p = torch.rand(batch, 1 + steps, dtype=torch.float64).clamp(min=0.01)
    return p[:, 0], p[:, 1:]


@cases.batches
def test_drops_are_the_formulas(batch):
    before, after = probabilities(batch, 1)
    pairs = list(zip(before.tolist(), after[:, 0].tolist(), strict=True))
    cases.same(confidence.average_drop(before, after[:, 0]), [naive.average_drop(*p) for p in pairs])
    cases.same(confidence.drop_in_deletion(before, after[:, 0]), [naive.drop_in_deletion(*p) for p in pairs])
    cases.same(confidence.increase_in_confidence(before, after[:, 0]), [float(b > a) for a, b in pairs])
    cases.same(confidence.increase_in_confidence(before, before), [0.0] * batch)


@cases.batches
@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("with_start", [False, True])
def test_averages_over_amounts_are_the_formulas(batch, steps, with_start):
    before, after = probabilities(batch, steps)
    rows = list(zip(before.tolist(), after.tolist(), strict=True))
    cases.same(confidence.aopc(before, after, with_start), [naive.aopc(*row, with_start) for row in rows])
    plain = [naive.aopc(*row, False) for row in rows]
    cases.same(confidence.comprehensiveness(before, after), plain)
    cases.same(confidence.sufficiency(before, after), plain)
    cases.same(confidence.log_odds(before, after), [naive.log_odds(*row) for row in rows])


@pytest.mark.parametrize("call", [confidence.aopc, confidence.sufficiency, confidence.log_odds])
def test_one_amount_needs_no_second_axis(call):
    before, after = probabilities(7, 1)
    torch.testing.assert_close(call(before, after[:, 0]), call(before, after))


def test_a_probability_of_zero():
    none, some = torch.zeros(1), torch.ones(1)
    assert confidence.average_drop(none, some).isnan().all()
    cases.same(confidence.log_odds(some, none), [np.log(np.finfo(np.float32).tiny)])
    cases.same(confidence.log_odds(none, none), [0.0])


def test_areas_of_protocols_are_these():
    rng = np.random.default_rng(0)
    y, untouched = rng.random((4, 9)), rng.random(4)
    tenths, eighths = [i / 10 for i in range(1, 10)], [i / 8 for i in range(9)]
    whole, clean = torch.from_numpy(y), torch.from_numpy(untouched)
    for got, expected in (
        (area("ends", untouched, y, tenths), curves.area_with_ends(whole, clean)),
        (area("trapezoid", untouched, y, tenths), curves.area_over_steps(whole) / 0.8),
        (area("trapezoid", untouched, y, eighths), curves.normalised_area(whole)),
        (area("mean", untouched, y, tenths), curves.mean_of_steps(whole)),
    ):
        np.testing.assert_allclose(got, expected.numpy(), rtol=0, atol=1e-12)
