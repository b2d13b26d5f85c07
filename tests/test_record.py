"""Every way of writing attention is seen as the same attention; what cannot be followed is refused."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gradtoken.align import aligned
from gradtoken.attribution import attribute
from gradtoken.errors import BadModel, NoAttention
from gradtoken.operations import matrix_axes
from gradtoken.probe import Probe
from gradtoken.record import Enough, Recorder

B, H, N, D = 2, 2, 16, 4
SCALE = D**-0.5


def heads(x: Tensor) -> Tensor:
    """(B, N, H * D) -> (B, H, N, D)"""
    return x.unflatten(-1, (H, D)).transpose(1, 2)


def joined(x: Tensor) -> Tensor:
    """(B, H, N, D) -> (B, N, H * D)"""
    return x.transpose(1, 2).flatten(2)


# One attention, spelt in many ways: q, k, v (B, N, H * D) -> (B, N, H * D) --------------------------------------------


def fused(q, k, v):
    return joined(F.scaled_dot_product_attention(heads(q), heads(k), heads(v)))


def by_hand(q, k, v):
    A = (heads(q) @ heads(k).transpose(-2, -1) * SCALE).softmax(dim=-1)
    return joined(A @ heads(v))


def divided(q, k, v):
    A = torch.softmax(torch.matmul(heads(q), heads(k).mT) / D**0.5, -1)
    return joined(torch.matmul(A, heads(v)))


def scaled_before_the_reshape(q, k, v):
    return joined(F.softmax(heads(q * SCALE).matmul(heads(k).mT), dim=-1) @ heads(v))


def scaled_in_place(q, k, v):
    q = heads(q).clone()
    q *= SCALE
    scores = q @ heads(k).mT
    scores -= scores.detach().amax(dim=-1, keepdim=True)
    return joined(nn.Softmax(dim=-1)(scores) @ heads(v))


def heads_in_the_batch(q, k, v):
    q, k, v = (heads(x).flatten(0, 1) for x in (q, k, v))
    A = torch.bmm(q, k.mT).mul(SCALE).softmax(-1)
    return joined(torch.bmm(A, v).unflatten(0, (-1, H)))


def added_product(q, k, v):
    q, k, v = (heads(x).flatten(0, 1) for x in (q, k, v))
    A = torch.baddbmm(torch.zeros(len(q), N, N), q, k.mT, beta=1, alpha=SCALE).softmax(-1)
    return joined((A @ v).unflatten(0, (-1, H)))


def einstein(q, k, v):
    scores = torch.einsum("bhid,bhjd->bhij", heads(q), heads(k)) * SCALE
    return torch.einsum("bhij,bhjd->bihd", scores.softmax(-1), heads(v)).flatten(2)


def einstein_with_heads_last(q, k, v):
    q, k, v = (x.unflatten(-1, (H, D)) for x in (q, k, v))  # (B, N, H, D)
    A = torch.einsum("bihd, bjhd -> bhij", [q * SCALE, k]).softmax(-1)
    return torch.einsum("bhij, bjhd -> bihd", A, v).flatten(2)


def tokens_in_columns(q, k, v):
    """As convolutional attention does: (B, H, D, N) throughout, A' on the right."""
    q, k, v = (heads(x).mT.contiguous() for x in (q, k, v))
    A = (q.transpose(-2, -1) @ k * SCALE).softmax(dim=-1)
    return joined((v @ A.transpose(-2, -1)).mT)


def heads_mixed_by_a_convolution(q, k, v):
    """Talking heads, with weights that change nothing."""
    same = torch.eye(H)[:, :, None, None]
    scores = F.conv2d(heads(q) @ heads(k).mT * SCALE, same)
    return joined(F.conv2d(scores.softmax(-1), same) @ heads(v))


def heads_mixed_by_a_linear_map(q, k, v):
    scores = F.linear((heads(q) @ heads(k).mT * SCALE).permute(0, 2, 3, 1), torch.eye(H)).permute(0, 3, 1, 2)
    return joined(scores.softmax(-1) @ heads(v))


def one_window(q, k, v):
    q, k, v = (heads(x)[:, None] for x in (q, k, v))  # (B, 1, H, N, D)
    return joined(F.scaled_dot_product_attention(q, k, v)[:, 0])


def by_hand_in_one_window(q, k, v):
    q, k, v = (heads(x)[:, :, None] for x in (q, k, v))  # (B, H, 1, N, D)
    return joined(((q @ k.mT * SCALE).softmax(-1) @ v)[:, :, 0])


def masked_heads_in_the_batch(q, k, v):
    q, k, v = (heads(x).flatten(0, 1) for x in (q, k, v))
    return joined(F.scaled_dot_product_attention(q, k, v, torch.zeros(len(q), N, N)).unflatten(0, (-1, H)))


def of_pytorch(q, k, v):
    """`nn.MultiheadAttention` with projections that change nothing, the weights asked for and thrown away."""
    return pytorch_attention(q, k, v, need_weights=True)


def of_pytorch_without_weights(q, k, v):
    return pytorch_attention(q, k, v, need_weights=False)


def pytorch_attention(q, k, v, need_weights):
    C = H * D
    q, k, v = (x.transpose(0, 1) for x in (q, k, v))
    one, zero = torch.eye(C), torch.zeros
    out, A = F.multi_head_attention_forward(
        *(q, k, v, C, H, torch.cat([one, one, one]), zero(3 * C), None, None, False, 0.0, one, zero(C)),
        training=False,
        need_weights=need_weights,
    )
    assert (A is not None) == need_weights
    return out.transpose(0, 1)


SPELLINGS = [
    *(by_hand, divided, scaled_before_the_reshape, scaled_in_place, heads_in_the_batch, added_product, einstein),
    *(einstein_with_heads_last, tokens_in_columns, heads_mixed_by_a_convolution, heads_mixed_by_a_linear_map),
    *(one_window, by_hand_in_one_window, masked_heads_in_the_batch, of_pytorch, of_pytorch_without_weights),
]


class Tiny(nn.Module):
    """Two blocks of attention over 4 x 4 patches of 4 pixels, pooled by the mean."""

    def __init__(self, attention=fused, last=None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.head = nn.Conv2d(3, H * D, 4, stride=4), nn.Linear(H * D, 5)
        self.qkv = nn.ModuleList([nn.Linear(H * D, 3 * H * D) for _ in range(2)])
        self.attentions = attention, last or attention

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).mT
        for qkv, attention in zip(self.qkv, self.attentions, strict=True):
            x = x + attention(*(3 * qkv(x)).chunk(3, dim=-1))
        return self.head(x.mean(dim=1))


@pytest.fixture
def x() -> Tensor:
    return torch.randn(B, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("spelling", SPELLINGS, ids=lambda f: f.__name__)
def test_every_spelling_gives_the_same_map(spelling, x):
    expected = attribute(Tiny(), x, 0, heads="mean")
    net = Tiny(spelling)
    torch.testing.assert_close(net(x), Tiny()(x))
    for _ in range(2):  # the first run learns where the tail starts
        probe = Probe(net, x, 0)
        assert len(probe.calls) == len(probe.earlier) + 1 == 2
        assert probe.first.grids == [(4, 4)]
        ours = attribute(net, x, 0, heads="mean")
        # A scale that is part of the operation is part of the gradient; one that came before is not.
        torch.testing.assert_close(ours / ours.abs().max(), expected / expected.abs().max(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("spelling", [fused, by_hand, einstein, tokens_in_columns, of_pytorch])
def test_the_size_of_the_map_does_not_depend_on_the_spelling(spelling, x):
    expected = attribute(Tiny(by_hand), x, 0, heads="mean")
    torch.testing.assert_close(attribute(Tiny(spelling), x, 0, heads="mean"), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("factor", [scaled_before_the_reshape, scaled_in_place, einstein_with_heads_last])
def test_a_scale_on_the_query_is_taken_off(factor, x):
    expected, ours = Probe(Tiny(by_hand), x, 0), Probe(Tiny(factor), x, 0)
    torch.testing.assert_close(ours.last.q, expected.last.q)
    torch.testing.assert_close(ours.dq, expected.dq, rtol=1e-4, atol=1e-7)


# What is not one attention -------------------------------------------------------------------------------------------


def two_maps_of_the_same_values(q, k, v):
    """Differential attention: the second map is subtracted, so the first is the one that is explained."""
    q, k, v = heads(q), heads(k), heads(v)
    one = F.scaled_dot_product_attention(q, k, v)
    return joined(one - 0.5 * F.scaled_dot_product_attention(q.flip(-1), k.flip(-1), v))


def test_the_second_map_of_differential_attention_is_part_of_the_first(x):
    probe = Probe(Tiny(two_maps_of_the_same_values), x, 0)
    assert len(probe.calls) == 2
    expected = Probe(Tiny(), x, 0)
    torch.testing.assert_close(probe.calls[0].q, expected.calls[0].q)


def maps_subtracted_by_hand(q, k, v):
    A = (heads(q) @ heads(k).mT * SCALE).softmax(dim=-1)
    return joined((A[:, :1] - 0.5 * A[:, 1:]) @ heads(v))


def softmax_over_the_queries(q, k, v):
    A = (heads(k) @ heads(q).mT * SCALE).softmax(dim=-2)
    return joined(A.mT @ heads(v))


def scores_transposed(q, k, v):
    A = (heads(k) @ heads(q).mT * SCALE).mT.softmax(dim=-1)
    return joined(A @ heads(v))


def weights_transposed(q, k, v):
    A = (heads(q) @ heads(k).mT * SCALE).softmax(dim=-1)
    return joined(A.mT @ heads(v))


@pytest.mark.parametrize(
    "last", [maps_subtracted_by_hand, softmax_over_the_queries, scores_transposed, weights_transposed]
)
def test_an_attention_that_cannot_be_followed_is_refused_not_skipped(last, x):
    with pytest.raises(NoAttention, match="Tiny takes the softmax of a matrix product after the 1 attentions"):
        attribute(Tiny(fused, last), x, 0)


def test_a_product_without_softmax_is_no_attention(x):
    def linear(q, k, v):
        return joined(heads(q) @ (heads(k).softmax(dim=-2).mT @ heads(v)))

    with pytest.raises(NoAttention, match="computed no attention that can be seen"):
        attribute(Tiny(linear), x, 0)


@pytest.mark.parametrize(
    ("equation", "axes"),
    [
        ("bhid,bhjd->bhij", ([0, 1, 2, 3], [0, 1, 3, 2], [0, 1, 2, 3])),
        ("bihd,bjhd->bhij", ([0, 2, 1, 3], [0, 2, 3, 1], [0, 1, 2, 3])),
        ("B G H I D, B G H J D -> B G H I J", ([0, 1, 2, 3, 4], [0, 1, 2, 4, 3], [0, 1, 2, 3, 4])),
        ("ik,kj->ji", ([0, 1], [0, 1], [1, 0])),
        ("bhwc,hkc->bhwk", None),  # two free axes on the left
        ("...id,...jd->...ij", None),
        ("nm,hnm->h", None),
        ("bid,bjd", None),
        ("bii,bjd->bj", None),
    ],
)
def test_equations_that_are_matrix_products(equation, axes):
    assert matrix_axes(equation) == axes


@pytest.mark.parametrize(
    "equation", ["bid,bjd->bij", "bid,bjd->bji", "bij,bjd->bid", "bid->bdi", "bid,bjd->bd", "bid,bid->b"]
)
def test_einsum_gives_what_it_gave(equation):
    shapes = {"bid": (2, 3, 4), "bjd": (2, 5, 4), "bij": (2, 3, 5)}
    operands = [torch.randn(shapes[letters]) for letters in equation.partition("->")[0].split(",")]
    with Recorder():
        ours = torch.einsum(equation, *operands)
        listed = torch.einsum(equation, operands)
    torch.testing.assert_close(ours, torch.einsum(equation, *operands))
    assert torch.equal(ours, listed)


class UnusedHead(Tiny):
    """Computes an attention pooling, and classifies by the mean."""

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x).flatten(2).mT
        tokens = tokens + fused(*self.qkv[0](tokens).chunk(3, dim=-1))
        fused(*self.qkv[1](tokens).chunk(3, dim=-1))
        return self.head(tokens.mean(dim=1))


def test_an_attention_that_the_score_does_not_need_is_passed_over(x):
    net = UnusedHead()
    for _ in range(2):
        assert len(Probe(net, x, 0).calls) == 1
    everything = lambda out: out.sum(dim=1)  # noqa: E731
    assert len(Probe(net, x, everything).calls) == 1


class TwoTowers(Tiny):
    """Two outputs, each of a tower of its own."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.embed(x).flatten(2).mT
        return tuple(fused(*qkv(tokens).chunk(3, dim=-1)).mean(dim=1)[:, 0] for qkv in self.qkv)


def test_a_target_on_one_tower_does_not_hide_the_other(x):
    net = TwoTowers()
    probes = [Probe(net, x, lambda out, i=i: out[i]) for i in (0, 1, 0)]
    assert [len(probe.calls) for probe in probes] == [1, 2, 1]
    assert not torch.equal(probes[0].last.q, probes[1].last.q)


def test_attentions_that_could_not_be_read_are_counted(x):
    class Sliced(Tiny):
        def forward(self, x: Tensor) -> Tensor:
            tokens = self.embed(x).flatten(2).mT
            q, k, v = self.qkv[0](tokens).chunk(3, dim=-1)
            A = (q @ k.mT).softmax(dim=-1)
            tokens = tokens + torch.stack([A, A])[0] @ v  # no longer followed
            return self.head((tokens + fused(*self.qkv[1](tokens).chunk(3, dim=-1))).mean(dim=1))

    probe = Probe(Sliced(), x, 0)
    assert (len(probe.calls), probe.first.unread) == (1, 1)
    assert Probe(Tiny(), x, 0).first.unread == 0


# `nn.MultiheadAttention` ----------------------------------------------------------------------------------------------


def both(options, inputs, **arguments):
    """Its outputs with and without us, and the recorder."""
    torch.manual_seed(0)
    net = nn.MultiheadAttention(8, 2, **options).eval()
    expected = net(*inputs, **arguments)
    with Recorder() as record:
        ours = net(*inputs, **arguments)
    return expected, ours, record


PADDING = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
CAUSAL = torch.ones(5, 5, dtype=torch.bool).triu(1)


@pytest.mark.parametrize(
    "mask", [{}, {"key_padding_mask": PADDING}, {"attn_mask": CAUSAL}], ids=["", "padding", "causal"]
)
@pytest.mark.parametrize("weights", [{}, {"need_weights": False}, {"average_attn_weights": False}], ids=str)
@pytest.mark.parametrize("options", [{}, {"bias": False}, {"kdim": 6, "vdim": 4}], ids=str)
def test_pytorch_attention_gives_what_it_gave(options, weights, mask):
    q = torch.randn(2, 5, 8)
    inputs = (q, torch.randn(2, 5, options.get("kdim", 8)), torch.randn(2, 5, options.get("vdim", 8)))
    expected, ours, record = both({"batch_first": True, **options}, inputs, **mask, **weights)
    for one, two in zip(expected, ours, strict=True):
        assert (one is None) == (two is None)
        if one is not None:
            torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-6)
    assert len(record.calls) == 1
    assert record.unfinished == 0


def test_pytorch_attention_without_a_batch():
    x = torch.randn(5, 8)
    expected, ours, record = both({}, (x, x, x))
    torch.testing.assert_close(ours, expected)
    assert record.calls[0].q.shape == (1, 2, 5, 4)


@pytest.mark.parametrize("mask", [torch.randn(4, 5, 5), torch.randn(5, 5)], ids=["per head", "shared"])
def test_pytorch_attention_with_an_added_mask(mask):
    x = torch.randn(2, 5, 8)
    expected, ours, record = both({"batch_first": True}, (x, x, x), attn_mask=mask)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)
    attention = aligned(record.close()[0], 2)
    assert attention is not None
    assert attention.mask.ndim == 4


@pytest.mark.parametrize("options", [{"add_bias_kv": True}, {"add_zero_attn": True}])
def test_pytorch_attention_that_cannot_be_explained(options):
    x = torch.randn(5, 2, 8)
    with pytest.raises(BadModel, match="add_bias_kv, add_zero_attn or static keys"):
        both(options, (x, x, x))


# What is kept ---------------------------------------------------------------------------------------------------------


def test_only_the_tail_keeps_what_the_graph_saved(x):
    net, record = Tiny(), Recorder()
    with torch.autograd.graph.saved_tensors_hooks(record.pack, record.unpack), record:
        net(x)
    filled = [sum(bool(box) for box in segment) for segment in record.segments]
    assert filled[:-1] == [0, 0]
    assert filled[-1] > 0
    record.drop()
    assert not any(map(len, record.segments))


def test_nothing_is_saved_before_a_start_that_is_known(x):
    record = Recorder(start=2)
    with torch.no_grad(), record:
        out = Tiny()(x)
    assert out.requires_grad
    assert [call.q.requires_grad for call in record.calls] == [False, True]


def test_until_ends_the_forward_pass(x):
    record = Recorder(start=-1, until=1)
    with pytest.raises(Enough), torch.no_grad(), record:
        Tiny()(x)
    assert len(record.calls) == 1
