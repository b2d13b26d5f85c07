"""Quantus's own metrics, asking this package for explanations."""

import numpy as np
import pytest
import torch

import gradtoken
from gradtoken.adapters.quantus import Logits, explain_func
from gradtoken.errors import BadRelevance
from tests import zoo

quantus = pytest.importorskip("quantus", reason="quantus is not installed", exc_type=ImportError)
pytestmark = pytest.mark.filterwarnings("default")  # theirs


@pytest.fixture
def batch(pictures):
    return pictures.numpy(), np.array([1, 3])


def run(metric, net, batch, **options):
    x, y = batch
    return metric(
        model=net,
        x_batch=x,
        y_batch=y,
        a_batch=None,
        explain_func=explain_func,
        explain_func_kwargs=options,
        device="cpu",
    )


def test_the_map_is_the_raw_one_enlarged(net, batch):
    x, y = batch
    found = explain_func(net, x, y, method="gradtoken", heads="mean", device="cpu")
    assert found.shape == (2, 1, 16, 16)
    assert found.dtype == np.float32
    own = gradtoken.attribute(net, torch.from_numpy(x), y.tolist(), heads="mean")
    enlarged = torch.nn.functional.interpolate(own[:, None], (16, 16), mode="bilinear")
    np.testing.assert_allclose(found, enlarged.numpy(), atol=1e-6)


@pytest.mark.parametrize("method", ["gradtoken", "legrad", "rollout"])
def test_max_sensitivity(net, batch, method):
    options = {"method": method, "allow_blank": True}
    near, far = (
        run(quantus.MaxSensitivity(nr_samples=3, lower_bound=bound, disable_warnings=True), net, batch, **options)
        for bound in (1e-4, 0.2)
    )
    assert all(0 < a < 0.1 * b for a, b in zip(near, far, strict=True))


def test_complexity(net, batch):
    broad = run(quantus.Sparseness(disable_warnings=True), net, batch, method="rollout")
    sharp = run(quantus.Sparseness(disable_warnings=True), net, batch, method="input_x_gradient")
    assert all(0 < a < b < 1 for a, b in zip(broad, sharp, strict=True))


def test_other_classes_and_other_weights(net, batch):
    logit = quantus.RandomLogit(num_classes=5, seed=0, disable_warnings=True)
    assert all(value < 0.999 for value in run(logit, net, batch, method="legrad", allow_blank=True))
    np.testing.assert_allclose(run(logit, net, batch, method="rollout"), 1, atol=1e-6)  # the same for every class
    weights = quantus.MPRT(seed=0, disable_warnings=True, return_aggregate=False)
    assert run(weights, net, batch, method="legrad", allow_blank=True)


def test_faithfulness(net, batch):
    correlation = quantus.FaithfulnessCorrelation(nr_runs=5, subset_size=20, disable_warnings=True)
    assert np.isfinite(run(correlation, net, batch, method="legrad", allow_blank=True)).all()


def test_evaluate_takes_methods_with_their_options(net, batch):
    x, y = batch
    ours = {"GradToken": lambda model, inputs, targets, **_: explain_func(model, inputs, targets, heads="mean")}
    ours |= {"LeGrad": lambda model, inputs, targets, **_: explain_func(model, inputs, targets, method="legrad")}
    metrics = {"Sparseness": quantus.Sparseness(disable_warnings=True, return_aggregate=True)}
    data = {"model": net, "x_batch": x, "y_batch": y, "explain_func_kwargs": {}}
    found = quantus.evaluate(metrics=metrics, xai_methods=ours, **data)
    assert set(found) == {"GradToken", "LeGrad"}
    assert found["GradToken"] != found["LeGrad"]


def test_networks_that_return_objects(batch):
    net = Logits(zoo.transformers_vit())
    assert run(quantus.Sparseness(disable_warnings=True), net, batch, heads="mean")


def test_blank_maps_are_refused_unless_asked_for(net, batch):
    net.head.weight.data[:] = 0
    net.head.weight.data[:, 0] = torch.tensor([1.0, -1, 1, -1, 1]) * 1e-3
    x, _ = batch
    for classes in ([0, 0], [1, 1]):
        blank = explain_func(net, x, np.array(classes), allow_blank=True)
        if not blank.reshape(2, -1).any(axis=1).all():
            with pytest.raises(BadRelevance, match="allow_blank=True"):
                explain_func(net, x, np.array(classes))
