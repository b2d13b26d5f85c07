"""Sums, bounds and orders that follow from the formulas of methods, whatever the model."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gradtoken.along import mean_gradient
from gradtoken.methods import METHODS, vit_cx
from gradtoken.methods.class_embedding_projection import class_identifiability
from gradtoken.probe import Probe
from tests import zoo

TARGET = torch.tensor([[0, 3], [1, 4]])
CLASS_TOKEN, POOLED = zoo.PICTURES["class token"], zoo.PICTURES["no prefix, mean"]


def probe_of(subject: zoo.Subject) -> Probe:
    torch.manual_seed(0)
    return Probe(subject.build().double(), zoo.pictures(subject).double(), TARGET)


def run(name: str, probe: Probe, **options) -> Tensor:
    return METHODS[name].bind(options)(probe)


def close(a: Tensor, b: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(a, b, atol=tolerance * max(b.abs().max().item(), 1e-30), rtol=0)


def test_300_published_steps_along_attention_leave_less_than_one_per_cent():
    """Sum of A * mean dp/dA over k / m A, k = 0 ... m - 1, is p(A) - p(0), block by block."""
    probe = probe_of(CLASS_TOKEN)
    steps, full = torch.arange(300, dtype=torch.float64) / 300, probe.score(probability=True)
    for block in probe.plain.blocks:
        dZ = mean_gradient(probe, block, steps, probability=True)
        total = (dZ * probe.plain.value("Z", block)[:, None]).sum(dim=(2, 3, 4))
        change = full - probe.score(edits={("Z", block): lambda Z: 0 * Z}, probability=True)
        close(total, change, 1e-2)


@pytest.mark.parametrize("name", ["generic_attention", "transattrib"])
def test_a_block_more_takes_no_relevance_away(name):
    """Each factor I + E is at least I."""
    options = {"normalise": False} if name == "transattrib" else {}
    maps = [run(name, probe_of(CLASS_TOKEN), start=start, **options) for start in (3, 2, 1, 0)]
    assert all((more >= fewer).all() for fewer, more in pairwise(maps))
    assert (maps[-1] > maps[0]).any()


# Class-embedding projection -------------------------------------------------------------------------------------------


def test_the_class_token_of_the_last_block_shows_the_models_own_logits():
    probe = probe_of(CLASS_TOKEN)
    out, end = probe.plain.value("out", 3), ("out", -1)
    close(probe.run(edits={end: lambda _: out}, start=end, graph=False).logits, probe.logits)
    rank = (probe.logits[:, None] > probe.logits.gather(1, TARGET)[..., None]).sum(dim=2)
    found = class_identifiability(probe.net, probe.inputs, TARGET)
    assert torch.equal(found[:, :, 3, 0], (1 - rank / zoo.CLASSES).double())


def test_the_projection_sums_to_the_change_by_a_uniform_shift_of_the_attention_row():
    """All attention e higher in the rows that are read, each with the weight it is read with."""
    probe, total, end, eps = probe_of(POOLED), 0, ("out", -1), 1e-6

    def shown(block: int, e: float) -> Tensor:
        shift = e / 16 * probe.plain.value("v", block).sum(dim=2, keepdim=True)
        edit = {("Z", block): lambda Z: Z + shift}
        branch = probe.run(edits=edit, graph=False).value("branch", block)
        return probe.run(edits={end: lambda _: branch}, start=end, graph=False).scores

    for block in probe.stream:
        total = total + (shown(block, eps) - shown(block, -eps)) / (2 * eps)
    close(run("class_embedding_projection", probe, gradient="logit").sum(dim=2), total, 1e-6)


# ViT-CX ---------------------------------------------------------------------------------------------------------------


def test_pixels_lie_between_the_effects_of_the_masks():
    """The masks have weights with sum 1 at each pixel: min s <= m R <= max s."""
    probe = probe_of(CLASS_TOKEN)
    R, features = run("vit_cx", probe), probe.plain.value("features", 3)
    for i, maps in enumerate(vit_cx.feature_maps(probe, features)):
        M = vit_cx.region_masks(probe, maps, 0.1)
        large = F.interpolate(M[None], size=(16, 16), mode="bilinear")[0]
        pictures = probe.grid[i] * large[:, None]
        s = probe.net(pictures).detach().softmax(dim=1)[:, TARGET[i]]
        values = len(M) * R[i][:, large.sum(dim=0) > 1e-3]
        assert len(M) > 2
        assert (values >= s.amin(dim=0)[:, None] - 1e-9).all()
        assert (values <= s.amax(dim=0)[:, None] + 1e-9).all()
        assert values.std() > 0
