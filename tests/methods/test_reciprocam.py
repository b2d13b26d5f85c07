"""ViT-ReciproCAM against the naive float64 reference, and what follows from its formula."""

import pytest
import torch

from gradtoken import passes
from gradtoken.errors import NoGrid
from gradtoken.methods.reciprocam import kernels, masked_scores, reciprocam
from gradtoken.probe import Probe
from tests import zoo
from tests.reference.perturbation import REFERENCES

TARGETS = torch.tensor([[0, 1], [2, 3], [4, 0]])


def probe(name="class token", batch=3):
    subject = zoo.PICTURES[name]
    return Probe(subject.build(), zoo.pictures(subject, batch), TARGETS[:batch])


@pytest.mark.parametrize("name", ["class token", "not square", "one row"])
@pytest.mark.parametrize("options", [{}, {"gaussian": False}, {"class_token": False}])
def test_equals_the_reference(name, options):
    subject = zoo.PICTURES[name]
    net, x = subject.build(), zoo.pictures(subject, 3)
    ours = reciprocam(Probe(net, x, TARGETS), **options)
    expected = REFERENCES["reciprocam"](net.double(), x.double(), TARGETS, **options)
    assert (ours - expected).abs().max() < 1e-5 * expected.abs().max()


def test_kernels_are_cut_at_the_border():
    G = kernels(probe("not square"), gaussian=True).reshape(4, 6, 4, 6)
    assert G[1, 2].nonzero().tolist() == [[i, j] for i in range(3) for j in range(1, 4)]
    assert G[1, 2, 1, 2] == 4 / 16
    assert G[0, 0, 1, 1] == 1 / 16
    assert G.sum(dim=(2, 3))[1:-1, 1:-1].unique().tolist() == [1]
    assert G[0, 0].sum() == 9 / 16
    assert torch.equal(kernels(probe(), gaussian=False), torch.eye(16))


@pytest.mark.parametrize("name", ["class token", "registers, mean", "distilled", "attention pooling", "EVA, rotary"])
def test_masks_of_ones_leave_the_scores(name):
    one = probe(name)
    found = masked_scores(one, torch.ones(2, 16))
    torch.testing.assert_close(found, one.scores[..., None].expand(-1, -1, 2), rtol=1e-4, atol=1e-5)


def test_without_the_class_token_and_the_patches_nothing_is_left_of_the_picture():
    one = probe()
    found = masked_scores(one, torch.zeros(1, 16), prefix=0)[..., 0]
    other = Probe(one.net, -one.grid, TARGETS)
    torch.testing.assert_close(found, masked_scores(other, torch.zeros(1, 16), prefix=0)[..., 0])


def test_samples_targets_and_micro_batches_do_not_mix(monkeypatch):
    together = probe()
    expected = reciprocam(together)
    for i in range(3):
        alone = reciprocam(Probe(together.net, together.grid[i : i + 1], TARGETS[i : i + 1, 1]))
        torch.testing.assert_close(alone[:, 0], expected[i : i + 1, 1], rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(passes, "BUDGET", 1)
    torch.testing.assert_close(reciprocam(together), expected, rtol=1e-4, atol=1e-5)


def test_where_the_norm_follows_the_sum_the_tokens_are_masked_once():
    subject = zoo.PICTURES["class token"]
    vision_transformer = pytest.importorskip("timm.models.vision_transformer")
    net = zoo.timm_model(block_fn=vision_transformer.ResPostBlock).double()
    one = Probe(net, zoo.pictures(subject).double(), TARGETS[:2])
    block = one.stream[-1]
    plain = one.run(graph=False)
    assert torch.equal(plain.value("x", block), plain.value("features", block))
    G = kernels(one, gaussian=True)
    M = torch.cat([torch.ones(1).double(), G[5]])[:, None]
    expected = one.score(edits={("x", block): lambda x: M * x})
    torch.testing.assert_close(reciprocam(one)[..., 5], expected)


def test_text_is_refused():
    with pytest.raises(NoGrid, match="expected inputs"):
        reciprocam(Probe(zoo.bert(), zoo.TEXT, 0))
