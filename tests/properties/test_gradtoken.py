"""GradToken on drawn architectures: the naive float64 reference and the invariants of its definition."""

import itertools

import torch
from torch import Tensor

from gradtoken.attribution import attribute
from tests.asking import ask, examples
from tests.properties.parts import Design, designs
from tests.reference import gradtoken as oracle

TARGET = torch.tensor([3, 0])


def close(ours: Tensor, reference: Tensor) -> bool:
    """Equal but for rounding, relative to the largest value; a gradient that cancels has nothing but rounding."""
    return bool((ours - reference).abs().max() <= 1e-8 * reference.abs().max() + 1e-13)


def equals_the_reference(d: Design) -> None:
    net, x = d.build(), d.pictures()
    record = oracle.capture(d.twin(), x, TARGET)
    torch.testing.assert_close(net(x), record.logits)
    L = d.depth + (d.readout == "attention pooling")
    for propagation, heads, depth in itertools.product(oracle.PROPAGATIONS, oracle.HEADS, range(1, L + 1)):
        options = {"propagation": propagation, "heads": heads, "depth": depth}
        expected = oracle.relevance(record, first=d.prefix, tokens=d.tokens, **options)
        ours = attribute(net, x, TARGET, allow_blank=True, **options)
        assert ours.shape == (2, d.rows, d.columns)
        assert close(ours.flatten(1), expected), options


@examples(60, 2000)
def test_equals_the_reference(count):
    ask(count, equals_the_reference, designs())
