"""Integrated gradients, occlusion and gradient SHAP: against naive formulas, captum itself, and what must hold."""

import sys

import numpy as np
import pytest
import torch
from torch import nn

from gradtoken import passes
from gradtoken.errors import BadTarget, MissingExtra, NoGrid
from gradtoken.methods.gradient_shap import gradient_shap
from gradtoken.methods.integrated_gradients import completeness_gap, integrated_gradients
from gradtoken.methods.occlusion import occlusion
from gradtoken.probe import Probe
from tests import zoo
from tests.reference.surgery import REFERENCES

captum = pytest.importorskip("captum.attr")
TARGETS = torch.tensor([[0, 1], [2, 3], [4, 0]])
METHODS = {
    "integrated_gradients": lambda probe: integrated_gradients(probe, steps=5),
    "occlusion": occlusion,
    "gradient_shap": lambda probe: gradient_shap(probe, samples=5),
    "gradient_shap with noise": lambda probe: gradient_shap(probe, samples=5, noise=0.1),
}


def probe(name="class token", batch=3):
    subject = zoo.PICTURES[name]
    return Probe(subject.build().double(), zoo.pictures(subject, batch).double(), TARGETS[:batch])


@pytest.mark.parametrize("method", METHODS)
def test_samples_targets_and_micro_batches_do_not_mix(method, monkeypatch):
    run, together = METHODS[method], probe()
    expected = run(together)
    assert expected.shape == (3, 2, 16, 16)
    assert not expected.requires_grad
    for i in range(3):
        alone = run(Probe(together.net, together.grid[i : i + 1], TARGETS[i : i + 1, 1]))
        torch.testing.assert_close(alone[:, 0], expected[i : i + 1, 1])
    monkeypatch.setattr(passes, "BUDGET", 1)
    torch.testing.assert_close(run(together), expected)


@pytest.mark.parametrize("method", METHODS)
def test_a_callable_target_is_the_class_it_reads(method):
    one = probe(batch=2)
    expected = METHODS[method](one)[:, 1]
    other = Probe(one.net, one.grid, lambda logits: logits[range(len(logits)), [1, 3] * (len(logits) // 2)])
    torch.testing.assert_close(METHODS[method](other)[:, 0], expected)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["distilled", "registers, mean", "attention pooling", "BEiT", "EVA, rotary"])
def test_other_models(method, name):
    found = METHODS[method](probe(name, 1))
    assert found.shape == (1, 2, 16, 16)
    assert (found != 0).any()


# Integrated gradients ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["class token", "not square", "one row"])
def test_integrated_gradients_equal_the_reference(name):
    subject = zoo.PICTURES[name]
    net, x = subject.build(), zoo.pictures(subject, 3)
    ours = integrated_gradients(Probe(net, x, TARGETS), steps=10)
    expected = REFERENCES["integrated_gradients"](net.double(), x.double(), TARGETS, steps=10)
    assert (ours - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("baseline", ["zero", "pad"])
def test_integrated_gradients_of_a_text_equal_the_reference(baseline):
    net, target = zoo.bert(), torch.tensor([[0, 3], [1, 4]])
    padding = {**zoo.TEXT, "input_ids": torch.zeros_like(zoo.TEXT["input_ids"])}
    ours = integrated_gradients(Probe(net, zoo.TEXT, target), steps=10, baseline=padding if baseline == "pad" else 0.0)
    expected = REFERENCES["integrated_gradients"](net.double(), zoo.TEXT, target, steps=10, baseline=baseline)
    assert (ours - expected).abs().max() < 1e-5 * expected.abs().max()
    assert (ours[1, :, 3:] == 0).all()


def test_integrated_gradients_sum_to_the_change_of_the_score():
    one = probe()
    assert completeness_gap(one, steps=150).abs().max() < 1e-4
    R, baseline = integrated_gradients(one, steps=150, baseline=0.3), one.net(torch.full_like(one.grid, 0.3))
    torch.testing.assert_close(R.sum(dim=(2, 3)), one.scores - baseline.gather(1, TARGETS), rtol=1e-4, atol=1e-4)
    rough = integrated_gradients(one, steps=2)
    gap = one.scores - one.net(torch.zeros_like(one.grid)).gather(1, TARGETS) - rough.sum(dim=(2, 3))
    torch.testing.assert_close(completeness_gap(one, steps=2), gap)
    text = Probe(zoo.bert().double(), zoo.TEXT, torch.tensor([[0, 3], [1, 4]]))
    assert completeness_gap(text, steps=150).abs().max() < 1e-4


def test_a_baseline_may_be_a_picture():
    one = probe()
    plain = torch.full((3, 1, 1), 0.3, dtype=torch.float64)
    torch.testing.assert_close(
        integrated_gradients(one, steps=3, baseline=plain), integrated_gradients(one, steps=3, baseline=0.3)
    )
    assert (integrated_gradients(one, steps=3, baseline=one.grid) == 0).all()
    with pytest.raises(BadTarget, match=r"expected a baseline that fits \(3, 3, 16, 16\), got \(5,\)"):
        integrated_gradients(one, baseline=torch.zeros(5))
    with pytest.raises(BadTarget, match="other inputs are one for texts alone"):
        integrated_gradients(one, baseline={"x": one.grid})


def test_embedded_tokens_as_inputs():
    net, x = zoo.shaken(zoo.Encoder()).double(), torch.randn(2, 6, 16).double()
    one, x0 = Probe(net, x, torch.tensor([[0, 1], [2, 3]])), x + 0.2 * torch.randn(6, 16).double()
    R = integrated_gradients(one, steps=100, baseline=x0)
    assert R.shape == (2, 2, 6)
    change = one.scores - net(x0).gather(1, torch.tensor([[0, 1], [2, 3]]))
    torch.testing.assert_close(R.sum(dim=2), change, rtol=1e-2, atol=1e-3)  # ReLU has kinks


def test_a_model_that_turns_gradients_off():
    class Off(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = zoo.PICTURES["class token"].build().double()

        def forward(self, x):
            with torch.no_grad():
                return self.net(x)

    one = probe()
    off = Off()
    off.net.load_state_dict(one.net.state_dict())
    other = Probe(off, one.grid, TARGETS)
    for method in ("integrated_gradients", "gradient_shap"):
        torch.testing.assert_close(METHODS[method](other), METHODS[method](one))


# Occlusion -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("window", "stride", "baseline"), [(None, None, 0.0), (4, 2, 0.7), ((8, 4), (8, 3), 0.0), (16, None, 0.0)]
)
def test_occlusion_is_the_mean_loss_of_the_windows_that_hold_a_pixel(window, stride, baseline):
    one = probe(batch=2)
    h, w = (4, 4) if window is None else (window, window) if isinstance(window, int) else window
    down, right = (h, w) if stride is None else (stride, stride) if isinstance(stride, int) else stride
    total, count = torch.zeros(2, 2, 16, 16), torch.zeros(16, 16)
    for top in range(0, 16 - h + down, down):
        for left in range(0, 16 - w + right, right):
            box = (slice(top, top + h), slice(left, left + w))
            covered = one.grid.clone()
            covered[:, :, *box] = baseline
            total[:, :, *box] += (one.scores - one.net(covered).gather(1, TARGETS[:2])).detach()[..., None, None]
            count[box] += 1
    found = occlusion(one, window=window, stride=stride, baseline=baseline)
    torch.testing.assert_close(found, (total / count).double(), rtol=1e-5, atol=1e-5)


def test_occlusion_of_a_picture_that_is_not_square():
    R = occlusion(probe("not square", 1))
    assert R.shape == (1, 2, 16, 24)
    assert torch.equal(R, R[:, :, ::4, ::4].repeat_interleave(4, dim=2).repeat_interleave(4, dim=3))


# Gradient SHAP -------------------------------------------------------------------------------------------------------


def test_gradient_shap_equals_captum(monkeypatch):
    one = probe()
    a = torch.rand(4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    monkeypatch.setattr(np.random, "uniform", lambda low, high, size: np.tile(a.numpy(), size // 4))
    theirs = captum.GradientShap(one.net).attribute(one.grid, torch.zeros_like(one.grid[:1]), 4, 0.0, TARGETS[:, 1])
    ours = gradient_shap(one, samples=4, generator=torch.Generator().manual_seed(3))
    draws = torch.Generator().manual_seed(3)
    assert torch.equal(a, torch.cat([torch.rand(1, dtype=torch.float64, generator=draws) for _ in range(4)]))
    torch.testing.assert_close(ours[:, 1], theirs.sum(dim=1))


def test_gradient_shap_nears_integrated_gradients():
    one = probe(batch=1)
    expected = integrated_gradients(one)
    found = gradient_shap(one, samples=400)
    assert (found - expected).abs().max() < 0.2 * expected.abs().max()


def test_gradient_shap_of_a_linear_model_is_exact():
    """The gradient is w wherever it is taken, so R = (mean of x + e - x0) * w."""

    class Linear(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net, self.w = net, nn.Parameter(torch.randn(3, 16, 16).double())

        def forward(self, x):
            return 0 * self.net(x) + (self.w * x).sum(dim=(1, 2, 3))[:, None] + 1e-9 * self.net(x)

    one = probe(batch=2)
    linear = Linear(one.net)
    references = torch.randn(3, 3, 16, 16).double()
    found = gradient_shap(Probe(linear, one.grid, 0), samples=6, noise=0.5, baselines=references)
    draws, moves = torch.Generator().manual_seed(0), []
    for _ in range(6):
        torch.rand(1, generator=draws, dtype=torch.float64)
        e = 0.5 * torch.randn(3, 16, 16, generator=draws, dtype=torch.float64)
        moves.append(one.grid + e - references[torch.randint(3, (), generator=draws)])
    torch.testing.assert_close(
        found[:, 0], (linear.w * torch.stack(moves).mean(dim=0)).sum(dim=1), rtol=1e-5, atol=1e-6
    )


def test_gradient_shap_is_that_of_the_generator():
    one, state = probe(batch=1), torch.random.get_rng_state()
    maps = [gradient_shap(one, samples=2, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1, 1)]
    assert torch.equal(maps[1], maps[2])
    assert not torch.equal(maps[0], maps[1])
    assert torch.equal(maps[0], gradient_shap(one, samples=2))
    assert torch.equal(state, torch.random.get_rng_state())


def test_gradient_shap_of_a_text():
    net, target = zoo.bert().double(), torch.tensor([[0, 3], [1, 4]])
    R = gradient_shap(Probe(net, zoo.TEXT, target), samples=3)
    alone = {name: x[1:, :4] for name, x in zoo.TEXT.items()}
    torch.testing.assert_close(R[1:, :, :3], gradient_shap(Probe(net, alone, target[1:]), samples=3))
    assert (R[1, :, 3:] == 0).all()


# Refusals ------------------------------------------------------------------------------------------------------------


def test_refusals(monkeypatch):
    one = probe(batch=1)
    for options, match in (
        ({"window": 17}, "expected a window from 1 x 1 to 16 x 16 pixels, got 17"),
        ({"window": (4, 0)}, r"expected a window from 1 x 1 to 16 x 16 pixels, got \(4, 0\)"),
        ({"stride": 5}, "expected a stride from 1 x 1 to 4 x 4 pixels, got 5"),
    ):
        with pytest.raises(BadTarget, match=match):
            occlusion(one, **options)
    with pytest.raises(BadTarget, match="at least 1 step, got 0"):
        integrated_gradients(one, steps=0)
    with pytest.raises(BadTarget, match="at least 1 sample, got 0"):
        gradient_shap(one, samples=0)
    with pytest.raises(NoGrid, match="expected inputs"):
        occlusion(Probe(zoo.bert(), zoo.TEXT, 0))
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    for method in (integrated_gradients, occlusion):
        with pytest.raises(MissingExtra, match=r"captum is not installed; run: pip install 'gradtoken\[captum\]'"):
            method(one)
