"""Gaze: the naive reference, and what it does not depend on."""

import itertools

import pytest
import torch

from gradtoken.attribution import attribute
from gradtoken.errors import NoAttention, UnknownName
from gradtoken.methods.gaze import by_shares, gaze, scores_gained
from gradtoken.probe import Probe
from tests import zoo
from tests.methods.test_gradtoken import worst
from tests.methods.test_score_gradient import CHANGES, changed
from tests.reference import gradtoken as oracle
from tests.reference import score_gradient as reference
from tests.test_reference import TOY, toy_case

VARIANTS = list(itertools.product(("shares", "average", "none"), ("after", "before"), (0, 2)))


@pytest.mark.parametrize("name", zoo.PICTURES)
def test_equals_the_reference(name):
    subject = zoo.PICTURES[name]
    net, x, target = subject.build(), zoo.pictures(subject, 2), torch.tensor([3, 0])
    record = oracle.capture(net, x, target)
    at = {"first": subject.first, "tokens": subject.grid[0] * subject.grid[1]}
    for spread, clip, start in VARIANTS:
        options = {"spread": spread, "clip": clip, "start": start}
        expected = reference.gaze(record, **at, **options)
        ours = attribute(net, x, target, "gaze", allow_blank=True, **options)
        assert worst(ours.flatten(1), expected) < 2e-5, options


@pytest.mark.parametrize("build", [zoo.bert, zoo.llama])
def test_text_with_padding_equals_the_reference(build):
    net, target = build().double(), torch.tensor([3, 0])
    record = oracle.capture(net, zoo.TEXT, target)
    for spread in ("shares", "none"):
        expected = reference.gaze(record, first=0, tokens=6, spread=spread)
        ours = attribute(net, zoo.TEXT, target, "gaze", allow_blank=True, spread=spread)
        assert worst(ours, expected) < 1e-8
        assert (ours[1, 4:] == 0).all()


@pytest.mark.parametrize("name", [name for name in TOY if name != "first token, causal"])  # which sees itself alone
def test_readouts_and_masks_of_a_toy_model_equal_the_reference(name):
    net, inputs, target = toy_case(name)
    record, probe = oracle.capture(net, inputs, target), Probe(net, inputs, target)
    expected = reference.gaze(record, first=probe.layout.first, tokens=probe.layout.count)
    assert worst(gaze(probe)[:, 0], expected) < 1e-10


@pytest.mark.parametrize("name", ["class token", "registers, mean", "attention pooling", "transformers"])
def test_halo_deals_out_generic_attention(name):
    """Against the dense matrix of the reference, from the map of the method whose own tests are elsewhere."""
    subject = zoo.PICTURES[name]
    net, x, target = subject.build().double(), zoo.pictures(subject, 2).double(), torch.tensor([3, 0])
    first, count = subject.first, subject.grid[0] * subject.grid[1]
    _, earlier, _ = oracle.layers(oracle.capture(net, x, target), first + count, 1)
    g = attribute(net, x, target, "generic_attention").flatten(1)
    for i, ours in enumerate(attribute(net, x, target, "halo").flatten(1)):
        s = torch.cat([torch.zeros(first, dtype=g.dtype), g[i]])
        A = [a.A[i].detach().mean(dim=0) for a in earlier]
        expected = reference.dealt(s, A, list(range(first, first + count)), "shares")[first:]
        torch.testing.assert_close(ours, expected, rtol=1e-8, atol=1e-15)
        torch.testing.assert_close(ours.sum(), g[i].sum())


@pytest.fixture
def x() -> torch.Tensor:
    return zoo.pictures(zoo.PICTURES["class token"]).double()


@pytest.mark.parametrize("change", CHANGES)
def test_no_change_that_leaves_the_model_as_it_is_changes_the_map(change, x):
    net = zoo.PICTURES["class token"].build().double()
    before = attribute(net, x, 3, "gaze", allow_blank=True)
    changed(net, CHANGES[change])
    torch.testing.assert_close(attribute(net, x, 3, "gaze", allow_blank=True), before, rtol=1e-8, atol=1e-14)


def test_what_is_spread_keeps_its_sum_and_a_zero_target_gains_nothing(x):
    probe = Probe(zoo.PICTURES["class token"].build().double(), x, torch.tensor([[0, 1], [2, 3]]))
    s = scores_gained(probe, 0)
    torch.testing.assert_close(by_shares(probe, s).sum(dim=2), s.sum(dim=2))


def test_it_is_the_derivative_of_the_class_by_a_bias_on_all_scores(x):
    """By finite differences: a mask with a number for token 5 in the class token's row, in every block."""
    net = zoo.PICTURES["class token"].build().double()
    s = scores_gained(Probe(net, x, 3), 0)[:, 0, 4]

    def biased(step: float) -> torch.Tensor:
        mask = torch.zeros(17, 17, dtype=torch.float64)
        mask[0, 5] = step
        plain = torch.nn.functional.scaled_dot_product_attention
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("torch.nn.functional.scaled_dot_product_attention", lambda q, k, v, **_: plain(q, k, v, mask))
            return net(x)[:, 3].detach()

    torch.testing.assert_close((biased(1e-5) - biased(-1e-5)) / 2e-5, s, rtol=1e-5, atol=1e-9)


def test_options():
    subject = zoo.PICTURES["class token"]
    net, x = subject.build(), zoo.pictures(subject)
    with pytest.raises(UnknownName, match=r"no spread 'share'; did you mean 'shares'"):
        attribute(net, x, 0, "gaze", spread="share")
    with pytest.raises(UnknownName, match=r"no clip 'never'; known: after, before"):
        attribute(net, x, 0, "gaze", clip="never")
    text = {"input_ids": torch.tensor([[1, 5], [3, 0]]), "attention_mask": torch.tensor([[1, 1], [1, 0]])}
    with pytest.raises(NoAttention, match=r"a single key in samples \[1\]"):
        attribute(zoo.bert(), text, 0, "gaze")
