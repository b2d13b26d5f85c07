"""A large attention under relevance rules, of which nothing is kept: the same relevance from less memory."""

import pytest
import torch
from benchmarks.meter import peak_bytes
from torch import nn

from gradtoken import attribute
from gradtoken.lrp import attended
from gradtoken.models.vit import VisionTransformer

METHODS = {
    "transattrib": {"precise": True},
    "partial_lrp": {"precise": True},
    "lrp": {},
}


def net_of(size: int, **options: int) -> VisionTransformer:
    torch.manual_seed(0)
    options = {"width": 16, "depth": 3, "heads": 2, "hidden": 32} | options
    return VisionTransformer(classes=5, size=size, patch=4, **options).eval()


def pictures(size: int, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("method", METHODS)
def test_rows_at_a_time_give_the_same_relevance(method, monkeypatch):
    net, x = net_of(32), pictures(32)
    formed = []
    inner = attended.attention
    monkeypatch.setattr(
        attended, "attention", lambda q, *args, **how: formed.append(q.shape[2]) or inner(q, *args, **how)
    )
    expected = attribute(net, x, [[1, 2]] * 2, method, **METHODS[method])
    assert set(formed) == {65}
    formed.clear()
    monkeypatch.setattr(attended, "CELLS", 2 * 2 * 65 * 9)  # nine rows of all heads
    found = attribute(net, x, [[1, 2]] * 2, method, **METHODS[method])
    assert set(formed) == {9, 65 % 9}
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=float(expected.abs().max()) * 1e-6)


class Prescaled(nn.Module):
    """Its queries are scaled before the attention, which the rule for products must know."""

    def __init__(self) -> None:
        super().__init__()
        self.net = net_of(32)
        for block in self.net.blocks:
            block.attn.forward = self.attention_of(block.attn)

    @staticmethod
    def attention_of(attn):
        def forward(x):
            B, N, C = x.shape
            q, k, v = attn.qkv(x).view(B, N, 3, attn.heads, -1).permute(2, 0, 3, 1, 4)
            out = nn.functional.scaled_dot_product_attention(q * 1e-4, k, v, scale=1e4 * q.shape[-1] ** -0.5)
            return attn.proj(out.transpose(1, 2).reshape(B, N, C))

        return forward

    def forward(self, x):
        return self.net(x)


def test_a_scale_before_the_attention_is_remembered(monkeypatch):
    net, x = Prescaled(), pictures(32)
    expected = attribute(net, x, 1, "transattrib", precise=True)
    monkeypatch.setattr(attended, "CELLS", 2 * 2 * 65 * 9)
    seen = []
    monkeypatch.setattr(
        attended, "scaled", lambda x, factor, make=attended.scaled: seen.append(factor) or make(x, factor)
    )
    torch.testing.assert_close(attribute(net, x, 1, "transattrib", precise=True), expected)
    assert pytest.approx(1e-4) in seen


def test_no_matrix_stays(monkeypatch):
    """Each further block adds less than one of its matrices; kept in the open it would add two."""
    monkeypatch.setattr(attended, "CELLS", 2**18)
    x, peaks = pictures(96, 1), []
    for depth in (3, 5):
        net = net_of(96, depth=depth, heads=4)
        attribute(net, x, 1, "raw_attention")
        peaks.append(peak_bytes(lambda net=net: attribute(net, x, 1, "transattrib")))
    assert (peaks[1] - peaks[0]) / 2 < 4 * 577**2 * 4
