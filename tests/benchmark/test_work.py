"""One unit: which samples get values, which get a reason, and that nothing else changes."""

import copy
import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from gradtoken.benchmark.plan import Variant
from gradtoken.benchmark.work import maps_of, measured
from gradtoken.data.sample import Sample
from gradtoken.errors import BadPicture, BadRelevance, BadSample, NoRule
from gradtoken.probe import Probe
from tests.benchmark import tiny

METRICS = {"untouched", "positive"}


@pytest.fixture(scope="module")
def model():
    return tiny.model()


def work(model, some=None, methods=("gradtoken",), **sizes):
    """Rows by method."""
    plan = tiny.plan_of(some, net=model, methods=methods, **sizes)
    rows = {variant.method: [] for variant in plan.variants}
    for unit in plan.units:
        for key, part in measured(plan, unit, plan.variants).items():
            rows[key.rsplit("-", 1)[0]] += part
    return rows


def test_each_sample_has_each_ask_and_metric_once(model):
    got = tiny.valued(work(model)["gradtoken"])
    asks = ("predicted", "label")
    assert got.keys() == {(f"{i}.png", ask, m) for i in range(tiny.COUNT) for ask in asks for m in METRICS}


def test_a_map_that_is_the_same_for_all_classes_is_measured_once(model):
    rows = work(model, methods=("gradtoken", "rollout"))
    assert {ask for _, ask, _ in tiny.valued(rows["rollout"])} == {"predicted"}
    assert {ask for _, ask, _ in tiny.valued(rows["gradtoken"])} == {"predicted", "label"}


def test_bad_samples_get_one_row_with_the_reason_each(model):
    good = tiny.samples(4)
    some = [
        BadSample("a.png: is truncated"),
        good[0],
        BadPicture("no picture at all"),
        good[1],
        Sample("outside", tiny.picture(1), (5,)),
        Sample("below", tiny.picture(1), (-1,)),
        Sample("two", tiny.picture(2), (1, 2)),
        good[2],
        Sample("none", tiny.picture(2), ()),
        Sample("text", "a cat on a mat", (1,)),
        good[3],
    ]
    for sizes in ({"batch": 1}, {"unit": 2}, {}):
        for rows in work(model, some, ("gradtoken", "rollout"), **sizes).values():
            found = tiny.reasons(rows)
            assert found.keys() == {"bad 0", "bad 2", "outside", "below", "two", "none", "text"}
            assert found["bad 0"] == "a.png: is truncated"
            assert found["bad 2"] == "BadPicture: no picture at all"
            assert "label 5 is outside the model's 5 classes" in found["outside"]
            assert "label -1 is outside" in found["below"]
            assert "expected one label, got 2" in found["two"]
            assert "expected one label, got 0" in found["none"]
            assert "expected a picture, got a text" in found["text"]
            assert {sample for sample, _, _ in tiny.valued(rows)} == {one.id for one in good}
            assert all(row.reason or row.values for row in rows)


def test_good_samples_do_not_see_the_bad_ones(model):
    mixed = [BadSample("no"), *tiny.samples(3), Sample("two", tiny.picture(2), (1, 2)), *tiny.samples(6)[3:]]
    tiny.same(
        [row for row in work(model, mixed)["gradtoken"] if not row.reason], work(model, tiny.samples(6))["gradtoken"]
    )


def test_only_bad_samples(model):
    assert len(work(model, [BadSample("no"), BadSample("neither")])["gradtoken"]) == 2


def test_a_method_that_fails_on_one_sample_of_a_batch_loses_only_that(model, monkeypatch):
    def call(probe):
        R = probe.scores[:, :, None] * torch.arange(1, 17).double()
        if any(torch.equal(x, fragile) for x in probe.grid):
            raise BadRelevance("too dark")
        return R

    whole = work(model)["gradtoken"]
    how = replace(model.preprocess, resize="squash", interpolation="bilinear")
    fragile = how(tiny.picture(4)).pixels.double()
    seen = tiny.replaced(monkeypatch, call)
    for batch in (1, 3, 64):
        seen.clear()
        rows = work(model, methods=("gradtoken", "rollout"), batch=batch)
        assert tiny.reasons(rows["gradtoken"]) == {"4.png": "BadRelevance: too dark"}
        others = {sample for sample, _, _ in tiny.valued(rows["gradtoken"])}
        assert others == {f"{i}.png" for i in range(tiny.COUNT) if i != 4}
        assert not tiny.reasons(rows["rollout"])
    assert not tiny.reasons(whole)


def test_maps_that_are_not_finite_lose_only_their_sample(model, monkeypatch):
    def call(probe):
        R = torch.ones(*probe.scores.shape, probe.layout.count).double()
        return R / (probe.grid[:, 0, 0, 0] != dark)[:, None, None]

    how = replace(model.preprocess, resize="squash", interpolation="bilinear")
    dark = how(tiny.picture(2)).pixels.double()[0, 0, 0]
    tiny.replaced(monkeypatch, call)
    found = tiny.reasons(work(model)["gradtoken"])
    assert found.keys() == {"2.png"}
    assert "not finite" in found["2.png"]


def test_a_method_that_refuses_the_model_gives_rows(model, monkeypatch):
    def call(probe):
        raise NoRule("no rule for this operation")

    tiny.replaced(monkeypatch, call)
    rows = work(model, methods=("gradtoken", "rollout"))
    assert tiny.reasons(rows["gradtoken"]) == {
        f"{i}.png": "NoRule: no rule for this operation" for i in range(tiny.COUNT)
    }
    assert not tiny.reasons(rows["rollout"])


def test_a_real_refusal_gives_rows():
    """Of a method that masks patches behind a class token, on a model without one."""
    rows = work(tiny.model(class_token=False, global_pool="avg"), methods=("class_embedding_projection", "gradtoken"))
    for found in rows.values():
        assert {row.sample for row in found} == {f"{i}.png" for i in range(tiny.COUNT)}


def test_a_picture_on_which_the_model_itself_fails_loses_only_that(model):
    broken = copy.deepcopy(model.net)
    how = replace(model.preprocess, resize="squash", interpolation="bilinear")
    dark = how(tiny.picture(0)).pixels.double()[0, 0, 0]

    class Fragile(type(broken)):
        def forward(self, x):
            return super().forward(x) / (x[:, 0, 0, 0] != dark)[:, None]

    broken.__class__ = Fragile
    for batch in (1, 4):
        rows = work(replace(model, net=broken), batch=batch)["gradtoken"]
        assert tiny.reasons(rows).keys() == {"0.png"}
        assert "not finite" in tiny.reasons(rows)["0.png"]
        assert len({sample for sample, _, _ in tiny.valued(rows)}) == tiny.COUNT - 1


@pytest.mark.parametrize("method", ["gradtoken", "attn_lrp", "random", "integrated_gradients", "tis", "libra"])
def test_the_model_is_untouched(method, model):
    net = model.net
    net.train()
    net.blocks[1].eval()
    net.head.bias.requires_grad_(False)
    net.cls_token.grad = torch.ones_like(net.cls_token)
    modes = [module.training for module in net.modules()]
    before = copy.deepcopy(net.state_dict())
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    try:
        rows = work(model, tiny.samples(3), (method,))[method]
        assert not tiny.reasons(rows)
        assert [module.training for module in net.modules()] == modes
        assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
        assert not net.head.bias.requires_grad
        grads = {name for name, p in net.named_parameters() if p.grad is not None}
        assert grads == {"cls_token"}
        assert torch.equal(net.cls_token.grad, torch.ones_like(net.cls_token))
        assert sum(p.requires_grad for p in net.parameters()) == len(list(net.parameters())) - 1
        hooks = (m._forward_hooks | m._forward_pre_hooks | m._backward_hooks for m in net.modules())
        assert not any(hooks)
        assert torch.equal(torch.get_rng_state(), states[0])
        assert np.random.get_state()[1].tolist() == states[1]
        assert random.getstate() == states[2]
        assert torch.is_grad_enabled()
    finally:
        net.eval()
        net.cls_token.grad = None
        net.head.bias.requires_grad_(True)


def test_training_mode_and_no_grad_change_nothing(model):
    first = work(model, tiny.samples(3))["gradtoken"]
    model.net.train()
    try:
        with torch.no_grad():
            tiny.same(first, work(model, tiny.samples(3))["gradtoken"])
    finally:
        model.net.eval()


def test_options_reach_the_method(model):
    plan = tiny.plan_of(net=model, methods=(Variant("gradtoken"), Variant("gradtoken", {"propagation": "none"})))
    one, other = measured(plan, range(tiny.COUNT), plan.variants).values()
    assert tiny.valued(one).keys() == tiny.valued(other).keys()
    assert tiny.valued(one) != tiny.valued(other)


def test_a_random_method_draws_other_numbers_for_each_sample_and_the_same_in_any_batch(model):
    together, alone = (tiny.valued(work(model, methods=("random",), batch=n)["random"]) for n in (4, 1))
    assert together == alone
    pixels = model.preprocess(tiny.picture(0)).pixels[None].double()
    one, other = (maps_of(Variant("random"), name, Probe(model.net, pixels, 0)) for name in "ab")
    assert not torch.equal(one, other)
