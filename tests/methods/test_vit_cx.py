"""ViT-CX against the naive float64 reference, its masks, and what follows from its formula."""

import sys

import pytest
import torch
import torch.nn.functional as F

from gradtoken import passes
from gradtoken.errors import BadTarget, MissingExtra, NoGrid
from gradtoken.methods import vit_cx as module
from gradtoken.methods.vit_cx import clusters, cosines, enlarge, feature_maps, region_masks, spread, vit_cx
from gradtoken.probe import Probe
from tests import zoo
from tests.reference.perturbation import REFERENCES

TARGETS = torch.tensor([[0, 1], [2, 3], [4, 0]])
pytest.importorskip("scipy")


def probe(name="class token", batch=3):
    subject = zoo.PICTURES[name]
    return Probe(subject.build(), zoo.pictures(subject, batch), TARGETS[:batch])


@pytest.mark.parametrize("name", ["class token", "not square", "one row"])
@pytest.mark.parametrize("threshold", [0.02, 0.1])
def test_equals_the_reference(name, threshold):
    one = probe(name)
    ours = vit_cx(one, noise=0.0, threshold=threshold)
    expected = REFERENCES["vit_cx"](one.net.double(), one.grid.double(), TARGETS, threshold=threshold)
    assert (ours - expected).abs().max() < 1e-5 * expected.abs().max()


# Masks ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def maps():
    one = probe("not square", 1)
    features = one.run(graph=False).value("features", one.stream[-1])
    return one, feature_maps(one, features)[0]


def test_masks_are_enlarged_as_pictures_are(maps):
    one, f = maps
    expected = F.interpolate(f[None], size=one.grid.shape[-2:], mode="bilinear")[0]
    torch.testing.assert_close(enlarge(f, one.grid), expected)


def test_cosines_are_those_of_the_enlarged_maps(maps):
    one, f = maps
    f = spread(f, one.grid)
    torch.testing.assert_close(enlarge(f, one.grid).flatten(1).aminmax(dim=1).min, torch.zeros(16).double())
    torch.testing.assert_close(enlarge(f, one.grid).flatten(1).aminmax(dim=1).max, torch.ones(16).double())
    large = enlarge(f, one.grid).flatten(1)
    expected = F.cosine_similarity(large[:, None], large, dim=2)
    torch.testing.assert_close(cosines(f, one.grid), expected)


def test_clusters_are_as_large_as_they_can_be(maps):
    one, f = maps
    distances = (1 - cosines(spread(f, one.grid), one.grid)).clamp(min=0)
    groups = clusters(distances, 0.1)
    members = [(groups == g).nonzero()[:, 0] for g in groups.unique()]
    assert 2 < len(members) < 16
    for one_group in members:
        assert distances[one_group][:, one_group].max() <= 0.1
        for other in members:
            both = torch.cat([one_group, other])
            assert other is one_group or distances[both][:, both].max() > 0.1


def test_constant_maps_are_left_out():
    one = probe(batch=1)
    f = torch.ones(3, 4, 4, dtype=torch.float64)
    assert region_masks(one, f, 0.1).shape == (0, 4, 4)
    f = torch.cat([f, torch.rand(1, 4, 4, dtype=torch.float64)])
    M = region_masks(one, f, 0.1)
    torch.testing.assert_close(M, spread(f[3:], one.grid))


# Scores --------------------------------------------------------------------------------------------------------------


def test_one_mask_that_hides_nothing_gives_the_probability(monkeypatch):
    monkeypatch.setattr(module, "region_masks", lambda probe, maps, threshold: torch.ones(1, 4, 4).double())
    one = probe()
    expected = one.logits.softmax(dim=1).gather(1, TARGETS)[..., None, None].expand(-1, -1, 16, 16)
    torch.testing.assert_close(vit_cx(one, noise=0.0), expected)


def test_masks_without_any_relief_give_nothing(monkeypatch):
    monkeypatch.setattr(module, "region_masks", lambda probe, maps, threshold: torch.ones(0, 4, 4).double())
    assert vit_cx(probe()).shape == (3, 2, 16, 16)
    assert (vit_cx(probe()) == 0).all()


def test_noise_follows_the_formula(monkeypatch):
    M = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(5)).double()
    monkeypatch.setattr(module, "region_masks", lambda probe, maps, threshold: M)
    one = probe(batch=1)
    x, net, draw = one.grid, one.net, torch.Generator().manual_seed(9)
    large = F.interpolate(M[None], size=(16, 16), mode="bilinear")[0].float()
    Z = torch.stack([0.1 * torch.randn(3, 16, 16, generator=draw) * (1 - m) for m in large])
    with torch.no_grad():
        masked, alone, plain = (net(pictures).softmax(dim=1)[:, 1] for pictures in (x * large[:, None] + Z, x + Z, x))
    s = masked - alone + plain
    expected = (s[:, None, None] * large).sum(dim=0) / large.sum(dim=0) / 3
    found = vit_cx(one, noise=0.1, generator=torch.Generator().manual_seed(9))
    torch.testing.assert_close(found[0, 1], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_samples_targets_and_micro_batches_do_not_mix(noise, monkeypatch):
    together = probe()
    expected = vit_cx(together, noise=noise)
    for i in range(3):
        alone = vit_cx(Probe(together.net, together.grid[i : i + 1], TARGETS[i : i + 1, 1]), noise=noise)
        torch.testing.assert_close(alone[:, 0], expected[i : i + 1, 1], rtol=1e-4, atol=1e-6)
    monkeypatch.setattr(passes, "BUDGET", 1)
    torch.testing.assert_close(vit_cx(together, noise=noise), expected, rtol=1e-4, atol=1e-6)


def test_noise_is_that_of_the_generator():
    one = probe(batch=1)
    maps = [vit_cx(one, noise=0.1, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1, 1)]
    assert torch.equal(maps[1], maps[2])
    assert not torch.equal(maps[0], maps[1])
    assert torch.equal(maps[0], vit_cx(one, noise=0.1))


# Refusals ------------------------------------------------------------------------------------------------------------


def test_refusals(monkeypatch):
    one = probe(batch=1)
    with pytest.raises(BadTarget, match="expected classes as targets, got a callable"):
        vit_cx(Probe(one.net, one.grid, lambda logits: logits[:, 0]))
    with pytest.raises(NoGrid, match="expected inputs"):
        vit_cx(Probe(zoo.bert(), zoo.TEXT, 0))
    monkeypatch.setitem(sys.modules, "scipy.cluster.hierarchy", None)
    with pytest.raises(MissingExtra, match=r"scipy is not installed; run: pip install 'gradtoken\[scipy\]'"):
        vit_cx(one)
