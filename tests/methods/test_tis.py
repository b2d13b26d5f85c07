"""Transformer input sampling against the naive float64 reference, and what follows from its formula."""

import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gradtoken import passes
from gradtoken.errors import BadModel, BadTarget, MissingExtra, NoGrid
from gradtoken.methods.tis import channels, largest, means, sampled, tis, with_others
from gradtoken.probe import Probe
from gradtoken.seeds import seeded
from tests import zoo
from tests.reference.perturbation import REFERENCES

TARGETS = torch.tensor([[0, 1], [2, 3], [4, 0]])
pytest.importorskip("scipy")


def probe(name="class token", batch=3, double=False):
    subject = zoo.PICTURES[name]
    net, x = subject.build(), zoo.pictures(subject, batch)
    return Probe(net.double() if double else net, x.double() if double else x, TARGETS[:batch])


@pytest.mark.parametrize("name", ["class token", "not square", "one row"])
@pytest.mark.parametrize("ratio", [0.5, 0.25])
def test_equals_the_reference(name, ratio):
    one = probe(name)
    centroids = torch.rand(3, 20, one.layout.count, generator=torch.Generator().manual_seed(2))
    ours = tis(one, centroids=centroids, ratio=ratio)
    expected = REFERENCES["tis"](
        one.net.double(), one.grid.double(), TARGETS, centroids=list(centroids.double()), ratio=ratio
    )
    assert (ours - expected).abs().max() < 1e-5 * expected.abs().max()


def test_more_masks_than_channels_are_the_channels():
    one = probe(double=True)
    vectors = channels(one, one.run(graph=False))
    assert vectors.shape == (3, 4 * 16, 16)
    torch.testing.assert_close(tis(one), tis(one, centroids=vectors))


# Masks ---------------------------------------------------------------------------------------------------------------


def test_k_means_ends_where_every_centroid_is_the_mean_of_its_own():
    one = probe(double=True, batch=2)
    vectors = channels(one, one.run(graph=False))
    for x, centroids in zip(vectors, means(vectors, 9, seeded(None)), strict=True):
        assert len(centroids) <= 9
        nearest = torch.cdist(x, centroids).argmin(dim=1)
        expected = torch.stack([x[nearest == i].mean(dim=0) for i in range(len(centroids))])
        torch.testing.assert_close(centroids, expected)


def test_masks_hold_the_largest_entries_and_lost_clusters_count_nothing():
    centroids = [torch.rand(3, 8), torch.rand(2, 8)]
    kept, M = largest(centroids, 3)
    assert kept.shape == (3, 2, 3)
    assert M.sum(dim=2).tolist() == [[3, 3], [3, 3], [3, 0]]
    for i, one in enumerate(centroids):
        assert torch.equal(M[: len(one), i] == 1, one >= one.sort(dim=1, descending=True).values[:, 2:3])


def test_prefix_tokens_are_kept():
    one = probe("distilled", 1)
    assert with_others(one, torch.tensor([[3, 0]]), 18).tolist() == [[0, 1, 5, 2]]


def test_all_tokens_give_the_probability():
    one = probe(batch=2)
    x = one.run(graph=False).value("x", 0)
    found = sampled(one, x, torch.arange(16).expand(3, 2, 16))
    expected = one.logits.softmax(dim=1).gather(1, TARGETS[:2])
    torch.testing.assert_close(found, expected.expand(3, 2, 2))
    R = tis(one, ratio=1.0, masks=3)
    torch.testing.assert_close(R, expected[..., None].expand(2, 2, 16))


# Scores --------------------------------------------------------------------------------------------------------------


def test_lies_between_the_smallest_and_the_largest_score():
    one = probe(batch=1)
    centroids = torch.rand(5, 16, generator=torch.Generator().manual_seed(0))
    kept, M = largest([centroids], 4)
    p, R = sampled(one, one.run(graph=False).value("x", 0), kept), tis(one, centroids=centroids, ratio=0.25)
    held = M[:, 0].any(dim=0)
    assert (R[0, :, ~held] == 0).all()
    assert (R[0, :, held] >= p.amin(dim=0)[0, :, None] - 1e-6).all()
    assert (R[0, :, held] <= p.amax(dim=0)[0, :, None] + 1e-6).all()


def test_samples_targets_and_micro_batches_do_not_mix(monkeypatch):
    together = probe(double=True)
    expected = tis(together, masks=10)
    for i in range(3):
        alone = tis(Probe(together.net, together.grid[i : i + 1], TARGETS[i : i + 1, 1]), masks=10)
        torch.testing.assert_close(alone[:, 0], expected[i : i + 1, 1])
    monkeypatch.setattr(passes, "BUDGET", 1)
    torch.testing.assert_close(tis(together, masks=10), expected)


def test_the_start_is_that_of_the_generator():
    one = probe(double=True, batch=2)
    maps = [tis(one, masks=5, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1, 1)]
    assert torch.equal(maps[1], maps[2])
    assert not torch.equal(maps[0], maps[1])
    assert torch.equal(maps[0], tis(one, masks=5))


@pytest.mark.parametrize("name", ["distilled", "registers, mean", "attention pooling", "torchvision", "transformers"])
def test_other_models(name):
    R = tis(probe(name, 2), masks=6)
    assert R.shape == (2, 2, 16)
    assert ((R >= 0) & (R <= 1)).all()


# Refusals ------------------------------------------------------------------------------------------------------------


class Placed(nn.Module):
    """Two blocks on patches; `how` their attention knows places, for any number of tokens."""

    def __init__(self, how):
        super().__init__()
        self.how, self.patches = how, nn.Conv2d(3, 16, 4, 4)
        self.qkv = nn.ModuleList(nn.Linear(16, 48) for _ in range(2))
        self.head = nn.Linear(16, zoo.CLASSES)
        self.register_buffer("angles", torch.arange(16.0)[:, None] / 10 ** torch.linspace(0, 2, 8))

    def rotated(self, x):
        angles, (a, b) = self.angles[: x.shape[2]], x.chunk(2, dim=-1)
        return torch.cat([a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()], dim=-1)

    def forward(self, x):
        x = self.patches(x).flatten(2).mT
        places = torch.arange(x.shape[1], dtype=x.dtype)
        for layer in self.qkv:
            q, k, v = layer(F.layer_norm(x, (16,)))[:, None].chunk(3, dim=-1)
            if self.how == "rotary table from the front":
                q, k = self.rotated(q), self.rotated(k)
            bias = -(places[:, None] - places).abs() if self.how == "distance" else None
            x = x + F.scaled_dot_product_attention(q, k, v, bias, is_causal=self.how == "causal")[:, 0]
        return self.head(x.mean(dim=1))


@pytest.mark.parametrize("how", ["rotary table from the front", "distance", "causal"])
def test_places_known_to_the_blocks_are_refused_where_nothing_else_would_fail(how):
    x = zoo.pictures(zoo.PICTURES["class token"])
    assert tis(Probe(zoo.shaken(Placed("not at all")), x, 0), masks=4).shape == (2, 1, 16)
    with pytest.raises(BadModel, match="look at the places of tokens themselves"):
        tis(Probe(zoo.shaken(Placed(how)), x, 0), masks=4)


@pytest.mark.parametrize("name", ["BEiT", "EVA, rotary"])
def test_tables_of_places_are_refused(name):
    with pytest.raises(BadModel, match="look at the places of tokens themselves"):
        tis(probe(name, 2), masks=4)


def test_tables_of_places_without_an_effect_are_refused_too():
    net = zoo.PICTURES["BEiT"].build()
    for block in net.blocks:
        nn.init.zeros_(block.attn.relative_position_bias_table)
    with pytest.raises(BadModel, match="look at the places of tokens themselves"):
        tis(Probe(net, zoo.pictures(zoo.PICTURES["BEiT"]), 0), masks=4)


def test_refusals(monkeypatch):
    one = probe(batch=1)
    for options in ({"ratio": 0.01}, {"ratio": 1.2}, {"masks": 0}):
        with pytest.raises(BadTarget, match="at least one mask that keeps 1 to 16 patches"):
            tis(one, **options)
    with pytest.raises(BadTarget, match=r"expected centroids \(masks, 16\) or \(1, masks, 16\), got \(4, 9\)"):
        tis(one, centroids=torch.rand(4, 9))
    with pytest.raises(BadTarget, match="expected classes as targets, got a callable"):
        tis(Probe(one.net, one.grid, lambda logits: logits[:, 0]))
    with pytest.raises(NoGrid, match="expected inputs"):
        tis(Probe(zoo.bert(), zoo.TEXT, 0), masks=4)
    monkeypatch.setitem(sys.modules, "scipy.cluster.vq", None)
    with pytest.raises(MissingExtra, match=r"scipy is not installed; run: pip install 'gradtoken\[scipy\]'"):
        tis(one)
