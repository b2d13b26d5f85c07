"""Captum's own tunnel, metrics and drawing, fed with this package's relevance."""

import numpy as np
import pytest
import torch

import gradtoken
from gradtoken.draw.grid import enlarge
from gradtoken.errors import BadTarget, MissingExtra, UnknownName
from gradtoken.methods import METHODS
from tests import zoo

captum = pytest.importorskip("captum", reason="captum is not installed")

from captum.attr import NoiseTunnel, visualization  # noqa: E402
from captum.metrics import infidelity, sensitivity_max  # noqa: E402

from gradtoken.adapters.captum import TransformerAttribution  # noqa: E402


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_the_shape_of_the_pictures(net, pictures, method):
    found = TransformerAttribution(net, method, allow_blank=True).attribute(pictures, target=1)
    assert found.shape == pictures.shape
    own = gradtoken.attribute(net, pictures, 1, method, allow_blank=True)
    drawn = np.stack([enlarge(m.numpy(), (16, 16)) for m in own])  # of pixels: as they are
    torch.testing.assert_close(found.sum(dim=1), torch.from_numpy(drawn), rtol=1e-4, atol=1e-5 * float(own.abs().max()))
    torch.testing.assert_close(found[:, 0], found[:, 2])


def test_containers_are_mirrored_and_targets_are_captums(net, pictures):
    attribution = TransformerAttribution(net, heads="mean")
    (inside,) = attribution.attribute((pictures,), target=[1, 3])
    torch.testing.assert_close(inside, attribution.attribute(pictures, target=torch.tensor([[1], [3]])))
    torch.testing.assert_close(inside, attribution.attribute(pictures, target=[(1,), (3,)]))
    torch.testing.assert_close(inside[:1], attribution.attribute(pictures[:1], target=(1,)))
    predicted = net(pictures).argmax(dim=1)
    torch.testing.assert_close(attribution.attribute(pictures), attribution.attribute(pictures, target=predicted))
    assert attribution.has_convergence_delta() is False
    assert attribution.multiplies_by_inputs is False


def test_noise_tunnel_is_the_mean_over_noisy_pictures(net, pictures):
    tunnel = NoiseTunnel(TransformerAttribution(net, heads="mean"))
    quiet = tunnel.attribute(pictures, nt_type="smoothgrad", nt_samples=3, stdevs=0.0, target=2)
    torch.testing.assert_close(quiet, TransformerAttribution(net, heads="mean").attribute(pictures, target=2))
    torch.manual_seed(0)
    found = tunnel.attribute(pictures, nt_type="smoothgrad", nt_samples=4, stdevs=0.5, target=[1, 2])
    torch.manual_seed(0)
    noisy = torch.normal(pictures.repeat_interleave(4, dim=0), 0.5)
    own = TransformerAttribution(net, heads="mean").attribute(noisy, target=[1] * 4 + [2] * 4)
    torch.testing.assert_close(found, own.unflatten(0, (2, 4)).mean(dim=1))
    assert not torch.allclose(found, quiet)


def test_captums_metrics_run(net, pictures):
    attribution = TransformerAttribution(net, heads="mean")
    torch.manual_seed(0)
    moved = sensitivity_max(attribution.attribute, pictures, perturb_radius=0.1, n_perturb_samples=3, target=1)
    assert (moved > 0).all()
    still = sensitivity_max(attribution.attribute, pictures, perturb_radius=0.0, n_perturb_samples=2, target=1)
    torch.testing.assert_close(still, torch.zeros(2))

    def blurred(x):
        noise = 0.1 * torch.randn_like(x)
        return noise, x - noise

    found = infidelity(net, blurred, pictures, attribution.attribute(pictures, target=1), target=1, normalize=True)
    assert found.shape == (2,)
    assert found.isfinite().all()


def test_captum_draws_it(net, pictures):
    found = TransformerAttribution(net, heads="mean").attribute(pictures, target=1)[0]
    figure, _ = visualization.visualize_image_attr(
        found.permute(1, 2, 0).numpy(), pictures[0].permute(1, 2, 0).numpy(), "blended_heat_map", use_pyplot=False
    )
    assert figure.axes


def test_functions_masks_and_texts(net, pictures):
    torch.testing.assert_close(
        TransformerAttribution(net.forward, heads="mean").attribute(pictures, target=1),
        TransformerAttribution(net, heads="mean").attribute(pictures, target=1),
    )
    bert = zoo.bert()
    ids, mask = zoo.TEXT["input_ids"], zoo.TEXT["attention_mask"]
    words = TransformerAttribution(bert, heads="mean")
    found = words.attribute(ids, target=2, additional_forward_args=mask)
    assert found.shape == ids.shape
    torch.testing.assert_close(found, gradtoken.attribute(bert, (ids, mask), 2, heads="mean"))
    assert (found[1, 4:] == 0).all()

    def embedded(e, mask):
        return bert(inputs_embeds=e, attention_mask=mask).logits

    e = bert.bert.embeddings.word_embeddings(ids).detach()
    spread = TransformerAttribution(embedded, heads="mean").attribute(e, target=2, additional_forward_args=(mask,))
    assert spread.shape == e.shape
    torch.testing.assert_close(spread.sum(dim=2), found)


def test_nothing_is_left_behind(net, pictures):
    net.train()
    with torch.no_grad():
        found = TransformerAttribution(net, heads="mean").attribute(pictures.requires_grad_(), target=1)
    assert not found.requires_grad
    assert net.training
    assert all(p.grad is None for p in net.parameters())
    assert pictures.grad is None


def test_refusals(net, pictures):
    with pytest.raises(UnknownName, match="did you mean 'rollout'"):
        TransformerAttribution(net, "rollot")
    with pytest.raises(UnknownName, match="no option of gradtoken 'steps'"):
        TransformerAttribution(net, steps=3)
    attribution = TransformerAttribution(net, heads="mean")
    with pytest.raises(BadTarget, match="expected one tensor as inputs, got 2"):
        attribution.attribute((pictures, pictures), target=1)
    with pytest.raises(BadTarget, match="expected class indices from 0 to 4"):
        attribution.attribute(pictures, target=7)
    with pytest.raises(BadTarget, match="a network or a function of its inputs, got str"):
        TransformerAttribution("vit")


def test_without_captum_the_extra_is_named(monkeypatch):
    import importlib
    import sys

    monkeypatch.setitem(sys.modules, "captum.attr", None)
    monkeypatch.delitem(sys.modules, "gradtoken.adapters.captum")
    with pytest.raises(MissingExtra, match=r"pip install 'gradtoken\[captum\]'"):
        importlib.import_module("gradtoken.adapters.captum")
