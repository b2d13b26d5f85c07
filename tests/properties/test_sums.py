"""What the values of a method sum to, on drawn architectures."""

import pytest
import torch
from hypothesis import assume

from gradtoken.attribution import attribute
from gradtoken.errors import GradTokenError
from gradtoken.methods.decompx import decompose, written
from gradtoken.probe import Probe
from tests.asking import ask, examples
from tests.properties.parts import Design, designs
from tests.properties.test_gradtoken import TARGET
from tests.properties.test_methods import BOTH


def attention_is_shared_out(d: Design) -> None:
    """Without tokens before the patches, rows of attention and their normalised products sum to one."""
    net, x = d.build(), d.pictures()
    for name in ("raw_attention", "rollout", "alti", "globenc"):
        try:
            R = attribute(net, x, TARGET, name)
        except GradTokenError:  # of alti and globenc, for networks that they cannot take apart
            assert name in ("alti", "globenc")
            continue
        assert (R >= 0).all()
        torch.testing.assert_close(R.sum(dim=(1, 2)), torch.ones(2, dtype=torch.float64))


def the_path_is_complete(d: Design) -> None:
    """Integrated gradients sum to the change of the score; what 300 steps leave is less than one per cent."""
    net, x = d.build(), d.pictures(1)
    R = attribute(net, x, 1, "integrated_gradients", steps=300, allow_blank=True)
    change = net(x)[0, 1] - net(torch.zeros_like(x))[0, 1]
    assert (R.sum() - change).abs() <= 0.01 * max(R.abs().sum().item(), 1e-6)


def shares_are_complete(d: Design) -> None:
    """The shares of tokens and biases that DecompX gives sum to the score."""
    probe = Probe(d.build(), d.pictures(), BOTH)
    try:
        total = torch.stack([decompose(*written(probe, i))[:, 0].sum(dim=0) for i in range(2)])
    except GradTokenError:
        assume(False)
    torch.testing.assert_close(total, probe.scores, rtol=1e-9, atol=1e-9)


@examples(15, 200)
def test_attention_without_a_prefix_is_shared_out(count):
    ask(count, attention_is_shared_out, designs(readout="mean", registers=0))


@examples(6, 100)
@pytest.mark.parametrize("property", [the_path_is_complete, shares_are_complete])
def test_shares_sum_to_the_score(property, count):
    ask(count, property, designs())
