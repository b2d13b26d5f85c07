"""Dependence on class, weights and noise."""

import numpy as np
import pytest
import torch

from gradtoken.errors import UnknownName
from gradtoken.metrics import sanity
from tests.metrics import cases
from tests.reference import metrics as naive

BY = {"cosine": naive.cosine, "pearson": naive.pearson, "spearman": naive.spearman}


def pairs(a, b):
    return list(zip(a.numpy(), b.numpy(), strict=True))


@cases.batches
@pytest.mark.parametrize("by", BY)
def test_similarities_are_the_formulas(batch, by):
    a, b = cases.random_maps(batch), cases.random_maps(batch)
    expected = np.array([BY[by](*pair) for pair in pairs(a, b)])
    cases.same(sanity.SIMILARITIES[by](a, b), expected)
    cases.same(sanity.class_sensitivity(a, b, by), 1 - expected)


@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_torchmetrics_correlations(name):
    functional = pytest.importorskip("torchmetrics.functional")
    a, b = torch.rand(2, 3, 5, 8)
    other = {"pearson": functional.pearson_corrcoef, "spearman": functional.spearman_corrcoef}[name]
    torch.testing.assert_close(sanity.SIMILARITIES[name](a, b), other(a.flatten(1).T, b.flatten(1).T))


def test_scipys_rank_correlation_with_ties():
    stats = pytest.importorskip("scipy.stats")
    a, b = cases.random_maps(7, levels=2), cases.random_maps(7, levels=2)
    cases.same(sanity.spearman(a, b), [stats.spearmanr(x.ravel(), y.ravel()).statistic for x, y in pairs(a, b)])


@pytest.mark.parametrize("by", BY)
def test_the_same_map_is_insensitive_and_its_negative_the_opposite(by):
    R = cases.random_maps(7)
    torch.testing.assert_close(sanity.class_sensitivity(R, 3 * R, by), torch.zeros(7).double())
    torch.testing.assert_close(sanity.class_sensitivity(R, -R, by), torch.full((7,), 2.0).double())


@pytest.mark.parametrize("name", ["constant", "zero", "nan"])
def test_a_map_without_structure_has_no_correlation(name):
    R = cases.extreme_maps()
    for a, b in ((R[name], R["random"]), (R["random"], R[name])):
        for call in (sanity.pearson, sanity.spearman):
            assert call(a, b).isnan().all()
            assert call(a.float(), b.float()).isnan().all()
    assert sanity.pearson(torch.ones(2, 1, 1), torch.ones(2, 1, 1)).isnan().all()


def test_an_unknown_similarity_is_refused():
    with pytest.raises(UnknownName, match="did you mean 'pearson'"):
        sanity.class_sensitivity(torch.ones(1, 2), torch.ones(1, 2), "person")


@cases.batches
def test_randomisation_of_signed_and_absolute_maps(batch):
    a, b = cases.random_maps(batch), cases.random_maps(batch)
    cases.same(sanity.randomisation_similarity(a, b), [naive.spearman(x, y) for x, y in pairs(a, b)])
    absolute = [naive.spearman(np.abs(x), np.abs(y)) for x, y in pairs(a, b)]
    cases.same(sanity.randomisation_similarity(a, b, absolute=True), absolute)


@cases.batches
@pytest.mark.parametrize("count", [1, 4])
def test_max_sensitivity_is_the_formula(batch, count):
    R, near = cases.random_maps(batch), torch.stack([cases.random_maps(batch) for _ in range(count)])
    expected = [naive.max_sensitivity(R[b].numpy(), near[:, b].numpy()) for b in range(batch)]
    cases.same(sanity.max_sensitivity(R, near), expected)


def test_max_sensitivity_of_unchanged_and_of_empty_maps():
    R = torch.stack([torch.ones(2, 3), torch.zeros(2, 3)])
    cases.same(sanity.max_sensitivity(R, R[None]), [0.0, np.nan])


@cases.batches
@pytest.mark.parametrize("classes", [2, 3])
def test_class_map_distance_is_the_formula(batch, classes):
    R = torch.stack([cases.random_maps(batch) for _ in range(classes)], dim=1)
    cases.same(sanity.class_map_distance(R), [naive.class_map_distance(one.numpy()) for one in R])


def test_class_map_distance_of_equal_apart_and_empty_maps():
    one = torch.tensor([[1.0, 0.0]])
    R = torch.stack([torch.stack([one, 2 * one]), torch.stack([one, one.flip(1)]), torch.stack([one, -one])])
    cases.same(sanity.class_map_distance(R), [0.0, 1.0, np.nan])
    assert sanity.class_map_distance(R[:, :1]).isnan().all()
