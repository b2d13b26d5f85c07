"""Warnings of maps: when they are given, when not, and where they are shown."""

import numpy as np
import pytest
import torch
from PIL import Image

import gradtoken
from gradtoken import doubts
from gradtoken.draw.words import AGNOSTIC
from gradtoken.files import rendered
from gradtoken.methods import METHODS
from gradtoken.models.labels import Labels
from gradtoken.models.model import Model
from gradtoken.models.preprocess import Preprocess
from gradtoken.models.vit import VisionTransformer
from tests import zoo

NAMES = Labels(("cat, house cat", "dog", "horse", "boat", "bird"))
TWO = [(0, "cat, house cat"), (1, "dog")]


def model(dtype=torch.float32) -> Model:
    net = zoo.shaken(VisionTransformer(classes=5, size=32, patch=8, width=16, depth=3, heads=2, hidden=32))
    return Model(net.to(dtype), "small", Preprocess((32, 32)), NAMES, "made here")


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 80, 3), dtype=np.uint8))


def test_maps_of_two_classes_that_are_nearly_the_same():
    R = torch.rand(4, 4, generator=torch.Generator().manual_seed(0))
    other = R.flip(0)
    assert doubts.of_maps(torch.stack([R, 3 * R + 1e-4]), TWO, True) == [
        ("nearly the same for dog (r = 1.000)",),
        ("nearly the same for cat (r = 1.000)",),
    ]
    assert doubts.of_maps(torch.stack([R, other]), TWO, True) == [(), ()]
    negative = ("every value is negative: nothing speaks for it",)
    assert doubts.of_maps(torch.stack([R, -R]), TWO, True) == [(), negative]  # the opposite is not the same
    assert doubts.of_maps(torch.stack([R, -R]), TWO, False) == [(AGNOSTIC,)] * 2
    assert doubts.of_maps((R - 0.5)[None], TWO[:1], True) == [()]
    assert doubts.of_maps(R[None], TWO[:1], True) == [()]


@pytest.mark.parametrize("by", [-0.02, 0.02])
def test_the_limit_of_likeness(by):
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 400, generator=generator)
    a, b = a - a.mean(), b - b.mean()
    b = b - (a @ b) / (a @ a) * a
    rho = min(doubts.ALIKE + by, 0.9999)
    mixed = rho * a / a.norm() + (1 - rho**2) ** 0.5 * b / b.norm()
    said = doubts.of_maps(torch.stack([a, mixed]), TWO, True)
    assert [bool(one) for one in said] == [by > 0] * 2


def test_the_most_alike_of_several_is_named_and_other_scores_are_left_out():
    R = torch.rand(16, generator=torch.Generator().manual_seed(0))
    noise = torch.rand(16, generator=torch.Generator().manual_seed(1))
    maps = torch.stack([R, R + 0.05 * noise, R + 0.01 * noise, R])
    three = [(0, "cat"), (1, "dog"), (2, "boat"), (None, "contrast")]
    said = doubts.of_maps(maps, three, True)
    assert "for boat" in said[0][0]
    assert said[3] == ()
    same_class_twice = doubts.of_maps(maps[[0, 0]], [(0, "cat"), (0, "cat")], True)
    assert same_class_twice == [(), ()]


def test_a_patch_that_holds_a_large_part():
    R = torch.ones(1, 14, 14)
    R[0, 3, 4] = 60.0
    assert doubts.of_maps(R, TWO[:1], True) == [()]
    R[0, 3, 4] = -70.0
    assert doubts.of_maps(R, TWO[:1], True) == [("one patch holds 26.4 % of it",)]
    assert doubts.of_maps(R[:, :4, :7], TWO[:1], True) == [()]  # of few patches one may well hold as much
    assert doubts.of_maps(R, TWO[:1], True, patches=False) == [()]  # one word often is the reason
    assert doubts.of_maps(torch.zeros(1, 14, 14), TWO[:1], True) == [()]


def test_blank_constant_and_tiny_maps_say_nothing():
    for R in (torch.zeros(2, 64), torch.ones(2, 64), torch.rand(2, 4)):
        assert doubts.of_maps(R, TWO, True) == [(), ()]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_that_knows_no_class_says_so(method, picture):
    maps = gradtoken.explain(picture, model(), ["cat", "dog"], method, allow_blank=True)
    for one in maps:
        assert (AGNOSTIC in one.warnings) == (not METHODS[method].class_aware)


def test_nothing_more_is_run_in_single_precision(picture):
    net = model()
    gradtoken.explain(picture, net, "dog", heads="mean")
    runs = []
    net.net.head.register_forward_hook(lambda *_: runs.append(1))
    gradtoken.explain(picture, net, "dog", heads="mean")
    assert len(runs) == 1


def test_rounding_is_tried_in_half_precision(picture):
    found = {}

    def unstable(probe):  # whose map hangs on the last bit of the pixels
        bits = probe.grid.view(torch.int16).long()
        return (bits.flatten(1)[:, None, :16] % 2).float()

    def stable(probe):
        return probe.grid.float().flatten(1)[:, None, :16]

    case = gradtoken.Probe(model(torch.bfloat16).net, torch.randn(1, 3, 32, 32).bfloat16(), 1)
    for run in (unstable, stable):
        found[run.__name__] = doubts.rounding(case, run, run(case))
    assert found["stable"] == [()]
    assert found["unstable"][0][0].startswith("rounding alone changes it in bfloat16: correlation")
    one = gradtoken.explain(picture, model(torch.bfloat16), "dog", heads="mean")
    assert not any("rounding" in said for said in one.warnings)  # a network whose maps are steady


def test_rounding_moves_pixels_by_no_more_than_their_last_place():
    x = torch.randn(1, 3, 64, 64).bfloat16()
    other = doubts.rounded_otherwise(x)
    assert other.dtype == torch.bfloat16
    relative = ((other.float() - x.float()).abs() / x.float().abs()).max()
    assert 0 < relative <= 2 * torch.finfo(torch.bfloat16).eps
    assert 0.3 < (other != x).float().mean() < 0.9
    torch.testing.assert_close(other, doubts.rounded_otherwise(x), rtol=0, atol=0)


def test_warnings_are_saved_loaded_and_shown(tmp_path, picture):
    (one,) = gradtoken.explain(picture, model(), ["dog"], heads="mean")
    from dataclasses import replace

    said = replace(one, warnings=("one patch holds 62.0 % of it", "nearly the same for <boat> (r = 0.990)"))
    for kind in ("json", "npz"):
        assert gradtoken.Explanation.load(said.save(tmp_path / f"a.{kind}")).warnings == said.warnings
    page = rendered([said], ".html", {}).decode()
    assert "one patch holds 62.0 % of it" in page
    assert "&lt;boat&gt;" in page
    assert "one patch holds 62.0 %" in rendered([said], ".svg", {}).decode()
    plain = replace(one, warnings=())
    assert "holds" not in rendered([plain], ".html", {}).decode()


def test_class_agnostic_maps_say_it_once(picture):
    one = gradtoken.explain(picture, model(), "dog", "rollout")
    assert rendered([one], ".html", {}).decode().count(f"<br>{AGNOSTIC}") == 1
    assert one.warnings == (AGNOSTIC,)


def test_cells_of_comparisons_carry_them(picture):
    found = gradtoken.compare(picture, model(), ["dog", "cat"], ["rollout", "gradtoken"], heads="mean")
    assert [one.warnings for one in found.column(0)] == [(AGNOSTIC,)] * 2
