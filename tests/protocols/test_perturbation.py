"""Perturbation protocols, from pictures to numbers, against loops over pictures, steps and pixels."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import gradtoken
from gradtoken.benchmark.plan import Variant
from gradtoken.data.sample import Sample
from gradtoken.errors import BadRelevance
from gradtoken.models.preprocess import Preprocess
from gradtoken.protocols.perturbation import pixels_in
from tests import zoo
from tests.benchmark import tiny
from tests.reference import erasing as naive

AWARE, AGNOSTIC = ("gradtoken", "input_x_gradient"), ("rollout", "raw_attention")


class Naive:
    """What the protocols measure on, made without them."""

    def __init__(self, model, samples):
        how = model.preprocess
        self.net, self.black = model.net, [-m / s for m, s in zip(how.mean, how.std, strict=True)]
        self.x = [naive.squashed(sample.input, how.size, how.mean, how.std) for sample in samples]
        self.labels = [sample.labels[0] for sample in samples]
        self.predicted = [int(naive.logits(self.net, x).argmax()) for x in self.x]

    def maps(self, method, classes):
        """Of each picture alone, (H, W)."""
        pairs = zip(self.x, classes, strict=True)
        found = [
            gradtoken.attribute(self.net, torch.from_numpy(x)[None], c, method, allow_blank=True)[0] for x, c in pairs
        ]
        return [naive.enlarged(R.detach().numpy(), x.shape[1:]) for R, x in zip(found, self.x, strict=True)]


@pytest.fixture(scope="module")
def model():
    return tiny.model()


@pytest.fixture(scope="module")
def known(model):
    return Naive(model, tiny.samples())


def kernel_of(name):
    """Of the blur that insertion starts from, if there is one."""
    return naive.rise_kernel() if "petsiuk" in name else None


def found(tmp_path, protocol, model, method, **options):
    return tiny.numbers(
        tiny.rows(tmp_path, protocol=tiny.PUBLISHED[protocol], net=model, methods=[method], **options),
        tiny.PUBLISHED[protocol],
    )


def test_the_pictures_tell_something(known):
    right = [a == b for a, b in zip(known.predicted, known.labels, strict=True)]
    assert 1 < sum(right) < len(right) - 1
    assert len(set(known.predicted)) > 2


@pytest.mark.parametrize(
    ("name", "method"),
    [("perturbation/chefer2021", one) for one in AWARE + AGNOSTIC] + [("perturbation/gradtoken2025", "gradtoken")],
)
def test_perturbation_is_the_formula(name, method, model, known, tmp_path):
    got = found(tmp_path, name, model, method)
    assert list(got) == (["predicted", "label"] if method in AWARE else ["predicted"])
    for ask, classes in {"predicted": known.predicted, "label": known.labels}.items():
        if ask in got:
            maps = known.maps(method, classes)
            for number, value in naive.perturbation(known.net, known.x, maps, known.labels, known.black).items():
                assert got[ask][number] == pytest.approx(value, abs=1e-9), (ask, number)


def test_the_other_areas_of_the_same_curves(model, known, tmp_path):
    got = found(tmp_path, "perturbation/chefer2021", model, "gradtoken")["label"]
    maps = known.maps("gradtoken", known.labels)
    for number, least_first in (("positive", False), ("negative", True)):
        each = zip(known.x, maps, known.labels, strict=True)
        y = np.mean([naive.hits(known.net, x, R, c, known.black, least_first) for x, R, c in each], axis=0)
        assert got[f"{number}, mean of steps"] == pytest.approx(sum(y) / 9, abs=1e-9)
        height = sum((y[i] + y[i + 1]) / 2 for i in range(8)) / 8
        assert got[f"{number}, trapezoid"] == pytest.approx(height, abs=1e-9)


@pytest.mark.parametrize("method", ["gradtoken", "rollout"])
def test_abpc_is_the_formula(method, model, known, tmp_path):
    got = found(tmp_path, "abpc/agcam2024", model, method)
    assert list(got) == ["label"]
    expected = naive.abpc(known.net, known.x, known.maps(method, known.labels), known.labels)
    assert got["label"]["abpc"] == pytest.approx(expected, abs=1e-9)
    assert got["label"]["abpc"] == pytest.approx(got["label"]["lerf"] - got["label"]["morf"], abs=1e-12)


@pytest.mark.parametrize(("name", "steps", "count"), [("tam2021", 28, 3), ("petsiuk2018", 224, 1)])
@pytest.mark.parametrize("method", ["gradtoken", "rollout"])
def test_insertion_and_deletion_are_the_formula(name, steps, count, method, model, tmp_path):
    known, K = Naive(model, tiny.samples(count)), kernel_of(name)
    got = found(tmp_path, f"insertion-deletion/{name}", model, method, some=tiny.samples(count))
    assert list(got) == ["predicted"]
    cases = list(zip(known.x, known.maps(method, known.predicted), known.predicted, strict=True))
    deletion = [naive.deletion(known.net, x, R, c, steps) for x, R, c in cases]
    insertion = [naive.insertion(known.net, x, R, c, steps, K) for x, R, c in cases]
    assert got["predicted"]["deletion"] == pytest.approx(np.mean(deletion), abs=1e-9)
    assert got["predicted"]["insertion"] == pytest.approx(np.mean(insertion), abs=1e-9)


# ------------------------------------------------------------------------------------------ what could go wrong


def fixed(*values):
    """A method that gives these values, or one value, for each patch."""

    def call(probe):
        R = torch.tensor(values, dtype=torch.float64).expand(probe.layout.count)
        return R.expand(*probe.scores.shape, -1)

    return call


@pytest.mark.parametrize("name", tiny.PUBLISHED)
@pytest.mark.parametrize("value", [0.0, -0.3])
def test_a_constant_map_is_erased_in_reading_order(name, value, model, monkeypatch, tmp_path):
    count = 1 if "petsiuk" in name else 3
    if "petsiuk" in name and value == 0.0:
        pytest.skip("224 steps take long; one value is enough")
    known, flat = Naive(model, tiny.samples(count)), [np.full(tiny.SIZE, 1.0)] * count
    tiny.replaced(monkeypatch, fixed(value))
    for got in found(tmp_path, name, model, "gradtoken", some=tiny.samples(count)).values():
        if "positive" in got:
            expected = naive.perturbation(known.net, known.x, flat, known.labels, known.black)
        elif "abpc" in got:
            expected = {"abpc": 0.0}
        else:
            steps, K = (224 if "petsiuk" in name else 28), kernel_of(name)
            cases = list(zip(known.x, flat, known.predicted, strict=True))
            expected = {
                "deletion": np.mean([naive.deletion(known.net, x, R, c, steps) for x, R, c in cases]),
                "insertion": np.mean([naive.insertion(known.net, x, R, c, steps, K) for x, R, c in cases]),
            }
        for number, one in expected.items():
            assert got[number] == pytest.approx(one, abs=1e-9), number


@pytest.mark.parametrize("name", ["perturbation/chefer2021", "abpc/agcam2024", "insertion-deletion/tam2021"])
def test_equal_patches_go_in_reading_order(name, model, monkeypatch, tmp_path):
    values = [0.0] * 5 + [1.0] * 6 + [0.0] * 5
    R = naive.enlarged(np.array(values).reshape(4, 4), tiny.SIZE)
    known = Naive(model, tiny.samples(3))
    tiny.replaced(monkeypatch, fixed(*values))
    for got in found(tmp_path, name, model, "gradtoken", some=tiny.samples(3)).values():
        if "positive" in got:
            expected = naive.perturbation(known.net, known.x, [R] * 3, known.labels, known.black)
        elif "abpc" in got:
            expected = {"abpc": naive.abpc(known.net, known.x, [R] * 3, known.labels)}
        else:
            cases = list(zip(known.x, known.predicted, strict=True))
            expected = {
                "deletion": np.mean([naive.deletion(known.net, x, R, c, 28) for x, c in cases]),
                "insertion": np.mean([naive.insertion(known.net, x, R, c, 28, None) for x, c in cases]),
            }
        for number, one in expected.items():
            assert got[number] == pytest.approx(one, abs=1e-9), number


@pytest.mark.parametrize("side", [224, 384, 448, 518])
@pytest.mark.parametrize("steps", [10, 28, 224])
def test_a_share_of_the_pixels_is_counted_without_rounding(side, steps):
    counts = [pixels_in(i / steps, side * side) for i in range(steps + 1)]
    assert counts == [side * side * i // steps for i in range(steps + 1)]


def test_one_computation_where_the_label_is_predicted(model, known, monkeypatch, tmp_path):
    seen = []

    def call(probe):
        seen.extend([tuple(probe.scores.shape)])
        return probe.scores[:, :, None] * torch.linspace(1, 2, probe.layout.count).to(probe.scores)

    tiny.replaced(monkeypatch, call)
    got = tiny.valued(tiny.rows(tmp_path, net=model, batch=3))
    right = sum(a == b for a, b in zip(known.predicted, known.labels, strict=True))
    assert sum(B * K for B, K in seen) == right + 2 * (tiny.COUNT - right)
    for i, (a, b) in enumerate(zip(known.predicted, known.labels, strict=True)):
        one, other = (got[f"{i}.png", ask, "positive"] for ask in ("predicted", "label"))
        assert a != b or one == other


@pytest.mark.parametrize("name", ["perturbation/chefer2021", "abpc/agcam2024", "insertion-deletion/tam2021"])
@pytest.mark.parametrize("method", ["gradtoken", "rollout"])
def test_rows_do_not_depend_on_sizes(name, method, model, tmp_path):
    protocol = tiny.PUBLISHED[name]
    sizes = [{"batch": 1, "chunk": 7, "unit": 1}, {"batch": 3, "chunk": 50, "unit": 4}, {"batch": 64, "chunk": 500}]
    first, *others = [
        tiny.rows(tmp_path / str(i), tiny.samples(4), protocol, model, [method], **one) for i, one in enumerate(sizes)
    ]
    for other in others:
        tiny.same(first, other, 1e-6 if protocol.score == "probability" else 0)


def test_rows_of_float32_do_not_depend_on_sizes(tmp_path):
    model = replace(tiny.model(), net=tiny.model().net.float())
    protocol = tiny.CHEFER
    first = tiny.rows(tmp_path / "a", protocol=protocol, net=model, batch=1, chunk=9)
    tiny.same(first, tiny.rows(tmp_path / "b", protocol=protocol, net=model), 0)


def test_a_picture_that_is_not_square_in_a_model_that_is_not(tmp_path):
    net = zoo.timm_model(img_size=(16, 24)).double()
    model = replace(tiny.model(), net=net, preprocess=Preprocess((16, 24), resize="longest"))
    known = Naive(model, tiny.samples(4))
    got = found(tmp_path, "perturbation/chefer2021", model, "gradtoken", some=tiny.samples(4))["label"]
    expected = naive.perturbation(net, known.x, known.maps("gradtoken", known.labels), known.labels, known.black)
    assert {name: got[name] for name in expected} == pytest.approx(expected, abs=1e-9)


def test_only_correct_leaves_the_others_out_and_says_so(model, known, tmp_path):
    rows = tiny.rows(tmp_path, protocol=replace(tiny.CHEFER, only_correct=True), net=model)
    wrong = {f"{i}.png" for i in range(tiny.COUNT) if known.predicted[i] != known.labels[i]}
    assert tiny.reasons(rows).keys() == wrong
    assert {sample for sample, _, _ in tiny.valued(rows)} == {f"{i}.png" for i in range(tiny.COUNT)} - wrong
    assert all("left out" in reason for reason in tiny.reasons(rows).values())


def test_a_sample_without_label_needs_none_where_the_prediction_is_followed(model, tmp_path):
    some = [Sample("no label", tiny.picture(0), ()), Sample("another set's", tiny.picture(1), (700, 3))]
    followed = tiny.rows(tmp_path / "a", some, tiny.PUBLISHED["insertion-deletion/tam2021"], model)
    assert not tiny.reasons(followed)
    judged = tiny.rows(tmp_path / "b", some, tiny.CHEFER, model)
    assert len(tiny.reasons(judged)) == 2
    assert not tiny.valued(judged)


def test_numbers_of_draws_are_numbers_of_each(model, tmp_path):
    rows = tiny.valued(tiny.rows(tmp_path, protocol=tiny.CHEFER, net=model))
    metrics = {metric for _, _, metric in rows}
    each = {m: np.array([rows[f"{i}.png", "label", m] for i in range(tiny.COUNT)]) for m in metrics}
    together = tiny.CHEFER.conclude(each)
    for i in range(tiny.COUNT):
        for name, value in tiny.CHEFER.conclude({m: v[i] for m, v in each.items()}).items():
            assert together[name].shape == (tiny.COUNT,)
            assert together[name][i] == pytest.approx(float(value), abs=1e-12)


def test_a_method_that_fails_on_one_sample_loses_only_that(model, monkeypatch, tmp_path):
    fragile = torch.from_numpy(Naive(model, tiny.samples(4)).x[3])

    def call(probe):
        if any(torch.equal(x, fragile) for x in probe.grid):
            raise BadRelevance("this picture is too much for me")
        return fixed(0.5)(probe)

    tiny.replaced(monkeypatch, call)
    rows = tiny.rows(tmp_path, net=model, methods=[Variant("gradtoken")])
    assert tiny.reasons(rows) == {"3.png": "BadRelevance: this picture is too much for me"}
    assert len({sample for sample, _, _ in tiny.valued(rows)}) == tiny.COUNT - 1
