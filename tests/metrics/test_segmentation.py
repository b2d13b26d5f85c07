"""Counts and ratios of labels, and average precision, against the naive form, scikit-learn and torchmetrics."""

import numpy as np
import pytest
import torch

from gradtoken.data import sample
from gradtoken.errors import BadData, MissingExtra
from gradtoken.metrics import maps, segmentation, thresholds
from gradtoken.metrics.segmentation import VOID
from tests.metrics import cases
from tests.reference import metrics as naive


def guesses(batch, classes, size=(5, 8)):
    return torch.randint(0, classes, (batch, *size)), torch.randint(-1, classes, (batch, *size))


@cases.batches
@pytest.mark.parametrize("classes", [2, 4])
def test_counts_and_ratios_are_the_formulas(batch, classes):
    guess, truth = guesses(batch, classes)
    counts = segmentation.confusion(guess, truth, classes)
    pairs = [(a.numpy(), b.numpy()) for a, b in zip(guess, truth, strict=True)]
    both, either = zip(*(naive.intersections_and_unions(a, b, classes) for a, b in pairs), strict=True)
    right, labelled = zip(*(naive.correct_and_labelled(a, b) for a, b in pairs), strict=True)
    for found, expected in zip(counts, (both, either, right, labelled), strict=True):
        cases.same(found, expected)
    ratios = np.array([[naive.ratio(*ab) for ab in zip(*one, strict=True)] for one in zip(both, either, strict=True)])
    cases.same(segmentation.iou(guess, truth, classes), ratios)
    cases.same(segmentation.mean_iou(guess, truth, classes), np.nanmean(ratios, axis=1))
    cases.same(segmentation.pixel_accuracy(guess, truth, classes), np.divide(right, labelled))


@cases.masks
@cases.maps
def test_extremes_are_as_documented(name, mask):
    R, truth = maps.minmax(cases.extreme_maps()[name]), cases.extreme_masks()[mask]
    guess = thresholds.foreground(R, thresholds.mean(R))
    a, b = guess[0].numpy().astype(int), truth[0].numpy()
    cases.same(segmentation.pixel_accuracy(guess, truth), [naive.ratio(*naive.correct_and_labelled(a, b))])
    both, either = naive.intersections_and_unions(a, b, 2)
    cases.same(segmentation.iou(guess, truth), [[naive.ratio(x, y) for x, y in zip(both, either, strict=True)]])
    cases.same(segmentation.foreground_f1(guess, truth), [naive.foreground_f1(a, b)])
    joint = naive.average_precision_joint(R[0].numpy(), b)
    cases.same(segmentation.average_precision_joint(R, truth), [joint])
    alone = naive.average_precision_foreground(R[0].numpy(), b)
    cases.same(segmentation.average_precision_foreground(R, truth), [alone])


def test_a_map_without_values_counts_as_background():
    truth = torch.tensor([[[1, 0, 0, 0]]])
    R = maps.minmax(torch.zeros(1, 1, 4))
    guess = thresholds.foreground(R, thresholds.mean(R))
    assert segmentation.pixel_accuracy(guess, truth).tolist() == [0.75]
    assert segmentation.iou(guess, truth).tolist() == [[0.75, 0.0]]
    assert segmentation.foreground_f1(guess, truth).tolist() == [0.0]
    assert segmentation.average_precision_joint(R, truth).tolist() == [0.5]  # all scores are equal


def test_sums_over_a_data_set_differ_from_the_mean_of_pictures():
    truth = torch.tensor([[[1, 1, 1, 1]], [[1, 0, 0, 0]]])
    guess = torch.tensor([[[1, 1, 1, 0]], [[0, 0, 0, 0]]])
    counts = segmentation.confusion(guess, truth)
    of_sums = (counts.intersection.sum(dim=0) / counts.union.sum(dim=0)).mean()
    of_pictures = segmentation.mean_iou(guess, truth).mean()
    torch.testing.assert_close(of_sums, torch.tensor((3 / 5 + 3 / 5) / 2))
    torch.testing.assert_close(of_pictures, torch.tensor((3 / 8 + 3 / 8) / 2))


def test_the_joint_average_precision_is_neither_that_of_a_class_nor_their_mean():
    R = torch.tensor([[[0.9, 0.3, 0.5], [0.2, 0.1, 0.0]]], dtype=torch.float64)
    truth = torch.tensor([[[1, 1, 0], [0, 0, 0]]])
    of_foreground = (1 + 2 / 3) / 2
    of_background = (1 + 1 + 1 + 4 / 5) / 4
    together = (4 + 5 / 7 + 6 / 8) / 6  # 1, 0.9 twice, 0.8 | 0.7 wrong | 0.5 right and wrong | 0.3
    cases.same(segmentation.average_precision_foreground(R, truth), [of_foreground])
    cases.same(segmentation.average_precision_foreground(1 - R, 1 - truth), [of_background])
    cases.same(segmentation.average_precision_joint(R, truth), [together])
    assert together != pytest.approx((of_foreground + of_background) / 2, abs=0.01)


@cases.batches
def test_average_precisions_are_the_formulas(batch):
    R, truth = maps.minmax(cases.random_maps(batch)), cases.random_masks(batch)
    pairs = [(x.numpy(), g.numpy()) for x, g in zip(R, truth, strict=True)]
    cases.same(segmentation.average_precision_joint(R, truth), [naive.average_precision_joint(*p) for p in pairs])
    alone = segmentation.average_precision_foreground(R, truth)
    cases.same(alone, [naive.average_precision_foreground(*p) for p in pairs])


@pytest.mark.parametrize("label", [0, 1, VOID])
def test_one_pixel(label):
    truth, R = torch.tensor([[[label]]]), torch.tensor([[[0.7]]])
    guess = thresholds.foreground(R, thresholds.fixed(R))
    known = {0: 0.0, 1: 1.0, VOID: np.nan}[label]
    cases.same(segmentation.pixel_accuracy(guess, truth), [known])
    cases.same(segmentation.foreground_f1(guess, truth), [1.0 if label == 1 else 0.0])
    joint = {0: 0.5, 1: 1.0, VOID: np.nan}[label]
    cases.same(segmentation.average_precision_joint(R, truth), [joint])


def test_scikit_learns_f1_and_jaccard():
    sklearn = pytest.importorskip("sklearn.metrics")
    guess, truth = guesses(7, 2)
    for a, b, f1, iou in zip(
        guess, truth, segmentation.foreground_f1(guess, truth), segmentation.iou(guess, truth), strict=True
    ):
        a, b = a[b != VOID].numpy(), b[b != VOID].numpy()
        assert float(f1) == pytest.approx(sklearn.f1_score(b, a))
        np.testing.assert_allclose(iou, sklearn.jaccard_score(b, a, average=None), rtol=1e-6)


def test_torchmetrics_accuracy_iou_and_average_precision():
    functional = pytest.importorskip("torchmetrics.functional.classification")
    guess, truth = guesses(3, 4)
    R = torch.rand(3, 5, 8)
    for b in range(3):
        g, t = guess[b : b + 1], truth[b : b + 1]
        accuracy = functional.multiclass_accuracy(g, t, 4, average="micro", ignore_index=VOID)
        torch.testing.assert_close(segmentation.pixel_accuracy(g, t, 4)[0], accuracy)
        iou = functional.multiclass_jaccard_index(g, t, 4, average="none", ignore_index=VOID)
        torch.testing.assert_close(segmentation.iou(g, t, 4)[0], iou)
        mask = t.clamp(max=1)
        precision = functional.binary_average_precision(R[b : b + 1], mask, ignore_index=VOID)
        torch.testing.assert_close(segmentation.average_precision_foreground(R[b : b + 1], mask)[0], precision)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_average_precision_in_every_number_format(dtype):
    R = torch.tensor([[[0.0, 0.25, 1.0]]], dtype=dtype)
    truth = torch.tensor([[[0, 0, 1]]])
    assert segmentation.average_precision_joint(R, truth).tolist() == [1.0]


@pytest.mark.parametrize(("guess", "truth"), [(2, 0), (0, 2), (-1, 0), (0, 255)])
def test_labels_that_are_no_class_are_refused(guess, truth):
    with pytest.raises(BadData, match=r"expected labels 0 ... 1 in the (guess|truth), got \[(2|-1|255)\]"):
        segmentation.confusion(torch.full((1, 1, 1), guess), torch.full((1, 1, 1), truth))
    with pytest.raises(BadData, match=r"expected labels 0 ... 1 in the "):
        segmentation.foreground_f1(torch.full((1, 1, 1), guess), torch.full((1, 1, 1), truth))


def test_another_void():
    truth = torch.tensor([[[1, 255]]])
    assert segmentation.pixel_accuracy(torch.ones(1, 1, 2), truth, void=255).tolist() == [1.0]


def test_without_scikit_learn_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn.metrics", None)
    with pytest.raises(MissingExtra, match=r"pip install 'gradtoken\[benchmark\]'"):
        segmentation.average_precision_joint(torch.rand(1, 1, 2), torch.ones(1, 1, 2))


def test_void_is_that_of_the_data_sets():
    assert sample.VOID == VOID
