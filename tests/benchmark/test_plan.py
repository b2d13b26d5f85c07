"""What names a method, and what makes a run another run."""

import hashlib
import json
from dataclasses import replace

import pytest
import torch

from gradtoken.benchmark.plan import Plan, Variant, digest_of_ids, planned, repeated, variants_of
from gradtoken.errors import BadData, BadTarget, UnknownName
from gradtoken.models.grouped import grouped
from tests.benchmark import tiny


@pytest.fixture(scope="module")
def model():
    return tiny.model()


def test_options_in_another_order_are_the_same_variant():
    one = Variant("gradtoken", {"depth": 2, "heads": "mean"})
    other = Variant("gradtoken", {"heads": "mean", "depth": 2})
    assert one.key == other.key
    assert one.title == other.title


def test_other_options_are_another_variant():
    variants = [
        Variant("gradtoken"),
        Variant("gradtoken", {"depth": 1}),
        Variant("gradtoken", {"depth": 2}),
        Variant("gradtoken", {"depth": "2"}),
        Variant("rollout"),
        Variant("rollout", {"start": 1}),
    ]
    assert len({one.key for one in variants}) == len(variants)
    assert variants[1].title == "gradtoken depth=1"


def test_a_key_is_a_harmless_folder_name():
    key = Variant("gradtoken", {"propagation": "../../x", "a": "\n"}).key
    assert key.startswith("gradtoken-")
    assert key.replace("-", "").replace("_", "").isalnum()


def test_a_method_is_planned_once_and_all_means_all():
    from gradtoken.methods import METHODS

    assert [v.method for v in variants_of(["rollout", "gradtoken", "rollout"], tiny.QUICK)] == ["rollout", "gradtoken"]
    assert [v.method for v in variants_of(["all"], tiny.QUICK)] == list(METHODS)


def test_options_of_the_protocol_and_of_the_user():
    protocol = replace(tiny.QUICK, options={"rollout": {"start": 1}, "gradtoken": {"depth": 2}})
    found = variants_of(["rollout", "gradtoken"], protocol, {"rollout": {"start": 0}})
    assert [dict(v.options) for v in found] == [{"start": 0}, {"depth": 2}]


def test_the_same_variant_twice_is_refused(model):
    twice = (Variant("gradtoken", {"depth": 2, "heads": "mean"}), Variant("gradtoken", {"heads": "mean", "depth": 2}))
    with pytest.raises(BadTarget, match="gradtoken depth=2 heads=mean is there twice"):
        Plan(tiny.QUICK, tiny.data_of(tiny.samples()), model, twice)


@pytest.mark.parametrize("sizes", [{"batch": 0}, {"chunk": 0}, {"unit": -1}])
def test_sizes_are_above_zero(sizes, model):
    with pytest.raises(BadTarget, match="at least 1"):
        tiny.plan_of(net=model, **sizes)


def test_nothing_to_do_is_refused(model):
    with pytest.raises(BadTarget, match="at least one method"):
        tiny.plan_of(net=model, methods=())
    with pytest.raises(BadData, match="made here has no samples"):
        tiny.plan_of([], net=model)


def test_unknown_names_are_refused_before_anything_is_computed(model):
    for methods, options in ((["rollot"], {}), (["rollout"], {"rollout": {"strat": 1}})):
        with pytest.raises(UnknownName, match="did you mean"):
            planned(tiny.QUICK, tiny.data_of(tiny.samples()), model, methods, options)


def test_options_of_a_method_that_is_not_measured_are_refused(model):
    with pytest.raises(UnknownName, match="no method among those asked 'rollout'; known: gradtoken"):
        planned(tiny.QUICK, tiny.data_of(tiny.samples()), model, ["gradtoken"], {"rollout": {"start": 1}})


def test_samples_of_one_name_are_refused(model):
    some = tiny.samples(3)
    with pytest.raises(BadData, match=r"made here: 2 samples are called '0.png'"):
        tiny.plan_of([*some, replace(some[0], labels=(2,))], net=model)


@pytest.mark.parametrize("count", [1, 3, 4, 5, 8])
def test_units_cover_each_sample_once(count, model):
    units = tiny.plan_of(tiny.samples(count), net=model, unit=4).units
    assert [i for unit in units for i in unit] == list(range(count))
    assert all(len(unit) == 4 for unit in list(units)[:-1])


@pytest.mark.parametrize(
    ("one", "other"),
    [(["a\nb", "c"], ["a", "b\nc"]), (["a", "b"], ["b", "a"]), (["ab"], ["a", "b"]), (["é"], ["e\u0301"]), ([], [""])],
)
def test_other_ids_have_another_digest(one, other):
    assert digest_of_ids(one) != digest_of_ids(other)


@pytest.mark.parametrize("count", [0, 1, 2, 4095, 4096, 4097, 9000])
def test_the_digest_of_many_ids_is_that_of_their_list_in_json(count):
    ids = [f'é"{i}\udce9' for i in range(count)]
    assert digest_of_ids(iter(ids)) == hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:16]


def test_a_name_that_is_there_twice_is_found_and_the_most_frequent_one_named():
    assert repeated(["a", "b"])[1] == 1
    assert repeated(["a", "b", "c", "b", "a", "b"]) == ("b", 3)
    twins = [Twin("x"), Twin("y"), Twin("y")]  # of one hash, yet two names
    assert repeated(twins[:2])[1] == 1
    assert repeated(twins) == ("y", 2)


class Twin(str):
    def __hash__(self):
        return 7

    def __eq__(self, other):
        return str.__eq__(self, other)


def other_plans(model):
    """One change each."""
    some = tiny.samples()
    weights = tiny.model()
    with torch.no_grad():
        weights.net.head.bias[0] += 1e-12
    buffer = tiny.model()
    buffer.net.register_buffer("more", torch.zeros(1))
    layers = tiny.model()
    layers.net.norm.eps = 0.1
    three, pairs = ["x", "y", "z"], [[0, 1], [1], [2]]
    in_groups = {
        "groups": grouped(model, three, pairs),
        "other groups": grouped(model, three, [[1], [0, 1], [2]]),
        "pooled otherwise": grouped(model, three, pairs, "logsumexp"),
    }
    how = replace(model.preprocess, mean=(0.5, 0.4, 0.31))
    data = tiny.data_of(some)
    return {
        "protocol": tiny.plan_of(some, replace(tiny.QUICK, shares=(0.3, 0.6)), model),
        "version": tiny.plan_of(some, replace(tiny.QUICK, version=2), model),
        "data name": replace(tiny.plan_of(some, net=model), data=tiny.data_of(some, "others")),
        "fewer samples": tiny.plan_of(some[:-1], net=model),
        "order": tiny.plan_of(some[::-1], net=model),
        "weights": tiny.plan_of(some, net=weights),
        "buffer": tiny.plan_of(some, net=buffer),
        "name": tiny.plan_of(some, net=replace(model, name="other")),
        "dtype": tiny.plan_of(some, net=replace(model, net=tiny.model().net.float())),
        "preprocessing": tiny.plan_of(some, net=replace(model, preprocess=how)),
        "unit": tiny.plan_of(some, net=model, unit=5),
        "layers": tiny.plan_of(some, net=layers),
        "classes": replace(tiny.plan_of(some, net=model), data=replace(data, classes=("x",))),
        "what classes mean": replace(tiny.plan_of(some, net=model), data=replace(data, groups={0: (1,)})),
        "lists": replace(tiny.plan_of(some, net=model), data=replace(data, lists="other")),
        **{name: tiny.plan_of(some, net=one) for name, one in in_groups.items()},
    }


def test_whatever_changes_a_number_changes_the_fingerprint(model):
    prints = {name: plan.manifest()["fingerprint"] for name, plan in other_plans(model).items()}
    prints["same"] = tiny.plan_of(net=model).manifest()["fingerprint"]
    assert len(set(prints.values())) == len(prints)


def test_whatever_changes_none_does_not(model):
    first = tiny.plan_of(net=model).manifest()
    again = tiny.plan_of(net=tiny.model(), batch=1, chunk=2, methods=["rollout"]).manifest()
    assert first == again
    assert json.loads(json.dumps(first)) == first
