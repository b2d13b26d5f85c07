"""All methods on drawn architectures: against naive versions where there are any, and what must hold for each."""

import copy

import pytest
import torch
from hypothesis import strategies as st

from gradtoken.attribution import attribute
from gradtoken.errors import GradTokenError
from gradtoken.manual import obstacle
from gradtoken.methods import METHODS
from gradtoken.probe import Probe
from tests.asking import ask, examples
from tests.methods.test_every_method import CHEAP, UNSTABLE
from tests.properties import naive
from tests.properties.parts import Design, designs
from tests.properties.test_gradtoken import TARGET, close
from tests.reference import gradtoken as oracle
from tests.reference import score_gradient

BOTH = torch.tensor([[3, 0], [1, 4]])
DRAWN = st.sampled_from(sorted(METHODS))


def equals_the_naive_one(d: Design) -> None:
    net, x = d.build(), d.pictures()
    record = oracle.capture(d.twin(), x, TARGET)
    for name, formula in naive.METHODS.items():
        expected = torch.stack([formula(record, i, d.prefix)[d.prefix :] for i in range(2)])
        assert close(attribute(net, x, TARGET, name, allow_blank=True).flatten(1), expected), name


@examples(40, 400)
def test_methods_of_attention_matrices_equal_the_naive_ones(count):
    ask(count, equals_the_naive_one, designs())


@examples(25, 200)
@pytest.mark.parametrize("name", score_gradient.MAPS)
def test_relatives_of_gradtoken_equal_the_naive_ones(name, count, monkeypatch):
    def equals(d: Design, propagation: str, heads: str) -> None:
        net, x, options = d.build(), d.pictures(), {"propagation": propagation, "heads": heads}
        record, at = oracle.capture(d.twin(), x, TARGET), {"first": d.prefix, "tokens": d.tokens}
        expected = score_gradient.relevance(record, name, monkeypatch, **at, **options)
        assert close(attribute(net, x, TARGET, name, allow_blank=True, **options).flatten(1), expected)

    ask(count, equals, designs(), st.sampled_from(oracle.PROPAGATIONS), st.sampled_from(oracle.HEADS))


def is_a_method(d: Design, name: str) -> None:
    """Announced where it is refused; else finite, of a known shape, the same again, and alone as in a batch."""
    net, x = d.build(), d.pictures()
    before = copy.deepcopy(net.state_dict())
    reason = obstacle(METHODS[name], Probe(net, x, BOTH))

    def run(x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return attribute(net, x, target, name, allow_blank=True, **CHEAP.get(name, {}))

    if reason:
        assert len(reason) > 40
        with pytest.raises(GradTokenError, match=r".{40}"):
            run(x, BOTH)
        return
    together = run(x, BOTH)
    assert together.shape[2:] in {(d.rows, d.columns), tuple(x.shape[2:])}
    assert together.isfinite().all()
    assert torch.equal(together, run(x, BOTH))
    tolerance = 1e-4 if name in UNSTABLE else 1e-6
    for i, k in ((0, 1), (1, 0)):
        alone = run(x[i : i + 1], BOTH[i : i + 1, k])[0]
        assert (alone - together[i, k]).abs().max() <= tolerance * together[i, k].abs().max() + 1e-12
    if not METHODS[name].class_aware:
        assert torch.equal(together[:, 0], together[:, 1])
    assert all(torch.equal(a, b) for a, b in zip(before.values(), net.state_dict().values(), strict=True))


@examples(100, 1500)
def test_every_method(count):
    ask(count, is_a_method, designs(), DRAWN)
