"""Drawn Vision Transformers of timm, of odd sizes, against the naive versions of every family of methods."""

from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import strategies as st

from gradtoken.methods import METHODS
from gradtoken.probe import Probe
from tests.asking import ask, examples
from tests.lrp.test_against_reference import CASES, MAGNITUDES
from tests.methods import test_attention_and_gradients as gradients
from tests.reference import decomposition, models
from tests.zoo import timm_model

TARGET = torch.tensor([[0, 3]])
ANY = [(name, options) for name, several in gradients.OPTIONS.items() for options in several]
TABLES = [gradients.TOKENS, gradients.SURGERY]
PLAIN = [(name, options) for table in TABLES for name, several in table.items() for options in several]
START = {"transattrib": {"start": 1}}  # its default, which a network of one block does not have
RELEVANCE = [(m.__name__, reference, START.get(m.__name__, {}) | how) for m, reference, how in CASES + MAGNITUDES]
KNOWN = {"class_token": True, "qkv_bias": True, "init_values": None}  # where a reference reads nothing else


class Sizes(NamedTuple):
    """Arguments of timm's VisionTransformer."""

    img_size: tuple[int, int]
    embed_dim: int
    num_heads: int
    depth: int
    mlp_ratio: float
    qkv_bias: bool
    init_values: float | None
    class_token: bool
    seed: int

    def case(self) -> tuple[torch.nn.Module, torch.Tensor]:
        """The network and a picture."""
        options = self._asdict() | {"global_pool": "token" if self.class_token else "avg"}
        torch.manual_seed(options.pop("seed"))
        net = timm_model(**options).double()
        return net, torch.randn(1, 3, *self.img_size, generator=torch.Generator().manual_seed(self.seed)).double()


@st.composite
def sizes(draw: st.DrawFn, **fixed: Any) -> Sizes:
    heads = draw(st.integers(1, 3))
    drawn = Sizes(
        img_size=(4 * draw(st.integers(1, 4)), 4 * draw(st.integers(2, 4))),
        embed_dim=heads * draw(st.integers(2, 6)),
        num_heads=heads,
        depth=draw(st.integers(1, 4)),
        mlp_ratio=draw(st.sampled_from([1.0, 2.0, 3.5])),
        qkv_bias=draw(st.booleans()),
        init_values=draw(st.sampled_from([None, 0.3])),
        class_token=draw(st.booleans()),
        seed=draw(st.integers(0, 5)),
    )
    return drawn._replace(**fixed)


def near(ours: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    assert ours.shape == expected.shape
    assert (ours - expected).abs().max() <= tolerance * expected.abs().max() + 1e-12


def fitted(options: dict[str, Any], depth: int) -> dict[str, Any]:
    """The options with a first block that there is."""
    return {name: min(value, depth - 1) if name == "start" else value for name, value in options.items()}


def equals(drawn: Sizes, which: tuple[str, dict[str, Any]]) -> None:
    name, options = which[0], fitted(which[1], drawn.depth)
    net, x = drawn.case()
    expected = gradients.REFERENCES[name](models.weights(net), x, TARGET, **options)
    near(METHODS[name].bind(options)(Probe(net, x, TARGET)), expected, 1e-7)


def relevance_equals(drawn: Sizes, which: tuple[str, Any, dict[str, Any]]) -> None:
    name, reference, options = which[0], which[1], fitted(which[2], drawn.depth)
    net, x = drawn.case()
    near(METHODS[name].bind(options)(Probe(net, x, TARGET)), reference(net, x, TARGET, **options), 1e-4)


def decomposition_equals(drawn: Sizes, name: str) -> None:
    net, x = drawn.case()
    ours, expected = METHODS[name].bind({})(Probe(net, x, TARGET)), decomposition.REFERENCES[name](net, x, TARGET)
    if name == "globenc":  # the reference leaves out the last division by the sum
        ours, expected = (R / R.sum(dim=2, keepdim=True) for R in (ours, expected))
    near(ours, expected, 1e-6)


@examples(40, 600)
def test_attention_and_gradients(count):
    ask(count, equals, sizes(), st.sampled_from(ANY))


@examples(15, 200)
def test_surgery(count):
    ask(count, equals, sizes(**KNOWN), st.sampled_from(PLAIN))


@examples(15, 200)
def test_relevance(count):
    ask(count, relevance_equals, sizes(**KNOWN), st.sampled_from(RELEVANCE))


@examples(10, 100)
@pytest.mark.parametrize("name", ["alti", "globenc"])
def test_decompositions(name, count):
    def equals_it(drawn: Sizes) -> None:
        decomposition_equals(drawn, name)

    ask(count, equals_it, sizes(class_token=True))
