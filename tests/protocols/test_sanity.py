"""Sanity checks against a naive version, and that they leave the model alone."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from gradtoken.benchmark.ready import prepared
from gradtoken.benchmark.work import batch_of
from gradtoken.data.sample import Sample
from gradtoken.protocols import PROTOCOLS
from gradtoken.protocols.protocol import View
from gradtoken.protocols.sanity import randomised, similarity
from tests.protocols.tiny import (
    METHODS,
    SIZE,
    concluded,
    numbers,
    picture,
    plan_of,
    reasons,
    rows,
    same,
    set_map,
    tiny_model,
)
from tests.reference import protocols as naive

CLASS = PROTOCOLS["class-sensitivity/rebuffi2020"]
WEIGHTS = replace(PROTOCOLS["weight-randomisation/adebayo2018"], stages=3)
NOISE = replace(PROTOCOLS["max-sensitivity/yeh2019"], draws=3)


def samples(count=4):
    return [Sample(str(i), picture(i), (i,)) for i in range(count)]


def comparable(found):
    """Means over samples with comparable maps: a tiny random model gives some two without relevance."""
    kept = [one for one in found if not np.isnan(list(one.values())).any()]
    assert len(kept) >= 2
    return naive.averaged(kept)


def inputs(chosen):
    return [naive.read(one.input, SIZE) for one in chosen]


@pytest.mark.parametrize("method", ["gradtoken", "input_x_gradient"])
@pytest.mark.parametrize("batch", [1, 3])
def test_class_sensitivity_equals_the_naive_version(method, batch):
    model = tiny_model()
    found = [naive.class_sensitivity(model.net, x, method) for x in inputs(samples())]
    same(numbers(CLASS, samples(), model, method, batch)["predicted"], comparable(found))
    labelled = [naive.class_sensitivity(model.net, x, method, i) for i, x in enumerate(inputs(samples()))]
    known = replace(CLASS, asks=("label",))
    same(numbers(known, samples(), model, method, batch)["label"], comparable(labelled))


def test_a_method_that_ignores_the_class_has_none():
    found = numbers(CLASS, samples(), tiny_model(), "raw_attention")["predicted"]
    assert found == pytest.approx({"1 - spearman": 0, "1 - pearson": 0}, abs=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("batch", [1, 3])
def test_randomisation_equals_the_naive_version(method, batch):
    model = tiny_model()
    nets = [copy.deepcopy(net) for net in randomised(model.net, 3, 0)]
    found = [naive.randomisation(model.net, nets, x, method) for x in inputs(samples())]
    same(numbers(WEIGHTS, samples(), model, method, batch)["predicted"], comparable(found))


def test_layers_become_random_from_the_output_backwards_in_a_copy():
    net = tiny_model().net
    before = copy.deepcopy(net.state_dict())
    stages = [copy.deepcopy(one.state_dict()) for one in randomised(net, 4, 0)]
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])
    changed = [{n for n, w in stage.items() if not torch.equal(w, before[n])} for stage in stages]
    assert changed[0] < changed[1] < changed[2] < changed[3] == set(before)
    assert "head.weight" in changed[0]
    assert "patch_embed.proj.weight" not in changed[2]
    for names, stage, later in zip(changed, stages, stages[1:], strict=False):
        assert all(torch.equal(later[name], stage[name]) for name in names)
    w, z = before["blocks.0.mlp.fc1.weight"], stages[3]["blocks.0.mlp.fc1.weight"]
    assert abs(z.std() / w.std() - 1) < 0.1
    again = next(randomised(net, 1, 0)).state_dict()
    assert all(torch.equal(again[name], stages[3][name]) for name in before)
    other = next(randomised(net, 1, 1)).state_dict()
    assert not torch.equal(other["head.weight"], again["head.weight"])


def test_shared_weights_stay_shared():
    net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    net[1].weight = net[0].weight
    (found,) = randomised(net, 1, 0)
    assert found[0].weight is found[1].weight


def test_the_curve_of_the_stages_begins_with_the_network_itself():
    means = {"similarity": np.array([[0.9, 0.5, 0.1]]), "absolute similarity": np.array([[0.9, 0.5, 0.2]])}
    ((x, y),) = WEIGHTS.curves(means).values()
    assert x == [0, 1 / 3, 2 / 3, 1]
    np.testing.assert_array_equal(y, [[1, 0.9, 0.5, 0.1]])
    assert concluded(WEIGHTS, means) == pytest.approx(
        {"similarity": 0.1, "absolute similarity": 0.2, "mean similarity": 0.5}
    )
    once = replace(WEIGHTS, stages=1)
    assert once.curves(means) == {}
    assert concluded(once, means) == {"similarity": 0.1, "absolute similarity": 0.2}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("batch", [1, 3])
def test_max_sensitivity_equals_the_naive_version(method, batch):
    model = tiny_model()
    noise = [NOISE.noise(View(one.id, x[0], ())) for one, x in zip(samples(), inputs(samples()), strict=True)]
    found = [naive.max_sensitivity(model.net, x, z, method) for x, z in zip(inputs(samples()), noise, strict=True)]
    same(numbers(NOISE, samples(), model, method, batch)["predicted"], comparable(found))


def test_noise_is_of_the_samples_name_and_within_its_radius():
    a, b = (View(name, torch.zeros(3, 8, 8), ()) for name in "ab")
    assert torch.equal(NOISE.noise(a), NOISE.noise(View("a", torch.ones(3, 8, 8), (1,))))
    assert not torch.equal(NOISE.noise(a), NOISE.noise(b))
    assert not torch.equal(NOISE.noise(a), replace(NOISE, seed=1).noise(a))
    assert 0.019 < NOISE.noise(a).abs().max() <= 0.02
    assert NOISE.noise(a).shape == (3, 3, 8, 8)


@pytest.mark.parametrize("protocol", [CLASS, WEIGHTS, NOISE], ids=lambda one: one.name)
def test_the_model_and_the_random_state_stay_as_they_were(protocol):
    model = tiny_model()
    before, state = copy.deepcopy(model.net.state_dict()), torch.get_rng_state()
    rows(protocol, samples(2), model)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.net.state_dict().items())
    assert all(p.grad is None for p in model.net.parameters())


@pytest.mark.parametrize("protocol", [CLASS, WEIGHTS, NOISE], ids=lambda one: one.name)
def test_maps_that_cannot_be_compared_are_left_out_with_the_reason(protocol, monkeypatch):
    set_map(monkeypatch, np.zeros((4, 4)))
    found = reasons(protocol, samples(2), tiny_model())
    told = "left out, for maps that are the same everywhere cannot be compared"
    assert found == {"0": f"0: {told}", "1": f"1: {told}"}


def test_a_map_is_not_like_one_that_is_the_same_everywhere():
    a = torch.tensor([[[0.0, 1.0]], [[0.0, 0.0]], [[0.0, 1.0]], [[0.0, 0.0]]])
    b = torch.tensor([[[0.0, 1.0]], [[0.0, 1.0]], [[2.0, 2.0]], [[2.0, 2.0]]])
    for by in ("spearman", "pearson"):
        torch.testing.assert_close(similarity(a, b, by), torch.tensor([1.0, 0, 0, torch.nan]), equal_nan=True)


def test_one_class_cannot_be_told_from_another():
    found = reasons(CLASS, samples(1), tiny_model(num_classes=1))
    assert found == {"0": "BadModel: class-sensitivity/rebuffi2020 compares two classes; the model has 1"}


def test_without_a_method_there_are_no_further_maps():
    plan = plan_of(CLASS, samples(1), tiny_model())
    batch = batch_of(plan, prepared(plan, range(1))[0])
    with pytest.raises(NotImplementedError, match="while a method is measured"):
        batch.again(plan.model.net, batch.pixels)
