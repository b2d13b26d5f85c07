"""GradToken on drawn architectures: the naive float64 reference and the invariants of its definition."""

import itertools

import pytest
import torch
from torch import Tensor

from gradtoken.attention import average, average_rows
from gradtoken.attribution import attribute
from gradtoken.probe import Probe
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


@examples(60, 600)
def test_equals_the_reference(count):
    ask(count, equals_the_reference, designs())


def keeps_its_invariants(d: Design) -> None:
    net, x = d.build(), d.pictures()
    probe, last = Probe(net, x, TARGET), oracle.capture(d.twin(), x, TARGET).attentions[-1]
    reading = {"class token": [0], "distilled": [0, 1]}.get(d.readout)
    if reading is not None:  # (i) no other row has a gradient
        assert not probe.dq[:, :, :, max(reading) + 1 :].any()
        assert all(row == reading for row in (r.nonzero()[:, 0].tolist() for r in probe.readers))
    gO = last.O.grad  # (B, H, M, N)
    tiny = 1e-12 * max(1.0, gO.abs().max().item())
    assert gO.sum(dim=-1).abs().max() <= tiny  # (ii)
    g = gO.sum(dim=2)
    M = torch.einsum("bhnd,bhd->bhn", probe.last.k, probe.dq[:, 0].sum(dim=2))
    gram = last.scale * (last.k @ (last.k.mT @ g[..., None]))[..., 0]
    torch.testing.assert_close(M, gram.detach(), rtol=1e-8, atol=1e-12)  # (iii)
    energy = last.scale * (last.k.mT @ g[..., None])[..., 0].square().sum(dim=-1)
    torch.testing.assert_close((g * M).sum(dim=-1), energy.detach(), rtol=1e-8, atol=1e-12)  # (iv)


def averages_share_out(d: Design) -> None:
    probe = Probe(d.build(), d.pictures(), TARGET)
    L, N = len(probe.earlier) + 1, d.prefix + d.tokens
    ones = torch.ones(2, N, 1, dtype=torch.float64)
    total = sum((average(A, ones) for A in probe.earlier), torch.zeros_like(ones)) / L
    torch.testing.assert_close(total, torch.full_like(total, (L - 1) / L))
    row = ones[..., 0] / N
    for A in reversed(probe.earlier):
        row = row + average_rows(A, row)
    torch.testing.assert_close(row.sum(dim=1), torch.full((2,), 2.0 ** (L - 1), dtype=torch.float64))


def is_linear_in_the_score(d: Design) -> None:
    net, x = d.build(), d.pictures()
    for propagation in oracle.PROPAGATIONS:
        options = {"heads": "mean", "propagation": propagation, "allow_blank": True}
        one, two = (attribute(net, x, c, **options) for c in (1, 2))
        both = attribute(net, x, lambda logits: 3 * logits[:, 1] - logits[:, 2], **options)
        assert close(both, 3 * one - two)


@examples(30, 300)
@pytest.mark.parametrize("property", [keeps_its_invariants, averages_share_out, is_linear_in_the_score])
def test_invariants(property, count):
    ask(count, property, designs())
