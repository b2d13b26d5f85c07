"""GradToken against the naive float64 reference, and the invariants of its definition."""

import itertools
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gradtoken.attribution import attribute
from gradtoken.errors import BadTarget, UnknownName
from gradtoken.methods.gradtoken import Propagation, gradtoken
from gradtoken.probe import Probe
from tests import zoo
from tests.reference import gradtoken as oracle
from tests.test_reference import TOY, toy_case

VARIANTS = list(itertools.product(oracle.PROPAGATIONS, oracle.HEADS, (1, 2, 4)))


def worst(ours: Tensor, reference: Tensor) -> float:
    """Largest error, relative to the largest value of the map."""
    return ((ours.double() - reference).abs().max() / reference.abs().max().clamp(min=1e-30)).item()


@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize("name", zoo.PICTURES)
def test_equals_the_reference(name, batch):
    subject = zoo.PICTURES[name]
    net, x = subject.build(), zoo.pictures(subject, batch)
    target = torch.arange(batch) % zoo.CLASSES
    count = subject.grid[0] * subject.grid[1]
    record = oracle.capture(net, x, target)
    expected = oracle.relevance(record, first=subject.first, tokens=count)
    for _ in range(2):  # the first run learns where the tail starts, the second uses it
        ours = attribute(net, x, target, allow_blank=True)
        assert ours.shape == (batch, *subject.grid)
        assert ours.dtype == torch.float32
        assert worst(ours.flatten(1), expected) < 1e-5


@pytest.mark.parametrize(
    "name", ["class token", "registers, mean", "attention pooling", "BEiT", "distilled", "not square"]
)
def test_variants_equal_the_reference(name):
    subject = zoo.PICTURES[name]
    net, x, target = subject.build(), zoo.pictures(subject), torch.tensor([3, 0])
    count = subject.grid[0] * subject.grid[1]
    record = oracle.capture(net, x, target)
    probe_free = {"first": subject.first, "tokens": count}
    for propagation, heads, depth in VARIANTS:
        options = {"propagation": propagation, "heads": heads, "depth": depth}
        expected = oracle.relevance(record, **probe_free, **options)
        ours = attribute(net, x, target, allow_blank=True, **options)
        if expected.abs().max() == 0:
            assert ours.abs().max() == 0
        else:
            assert worst(ours.flatten(1), expected) < 1e-5, options


@pytest.mark.parametrize("build", [zoo.bert, zoo.llama])
def test_text_with_padding_equals_the_reference(build):
    net, target = build(), torch.tensor([3, 0])
    record = oracle.capture(net, zoo.TEXT, target)
    for propagation, heads in itertools.product(oracle.PROPAGATIONS, oracle.HEADS):
        expected = oracle.relevance(record, first=0, tokens=6, propagation=propagation, heads=heads)
        ours = attribute(net, zoo.TEXT, target, propagation=propagation, heads=heads, allow_blank=True)
        assert ours.shape == (2, 6)
        assert worst(ours, expected) < 1e-5
        assert (ours[1, 4:] == 0).all()


@pytest.mark.parametrize("name", [name for name in TOY if name != "first token, causal"])  # which sees itself alone
def test_readouts_and_masks_of_a_toy_model_equal_the_reference(name):
    net, inputs, target = toy_case(name)
    record, probe = oracle.capture(net, inputs, target), Probe(net, inputs, target)
    at = {"first": probe.layout.first, "tokens": probe.layout.count}
    for propagation in oracle.PROPAGATIONS:
        expected = oracle.relevance(record, **at, propagation=propagation, heads="mean")
        assert worst(gradtoken(probe, propagation=propagation, heads="mean")[:, 0], expected) < 1e-10


def test_padding_changes_nothing():
    net = zoo.bert()
    padded = attribute(net, zoo.TEXT, torch.tensor([3, 0]), heads="mean")[1:, :4]
    alone = {name: x[1:, :4] for name, x in zoo.TEXT.items()}
    torch.testing.assert_close(attribute(net, alone, torch.tensor([0]), heads="mean"), padded)


def test_encoder_of_pytorch_with_a_padding_mask():
    net, x = zoo.shaken(zoo.Encoder()), torch.randn(2, 6, 16, generator=torch.Generator().manual_seed(0))
    padding = torch.tensor([[False] * 6, [False] * 4 + [True] * 2])
    inputs = {"tokens": x, "src_key_padding_mask": padding}
    expected = oracle.gradtoken(net, inputs, torch.tensor([3, 0]), first=0, tokens=6)
    ours = attribute(net, inputs, torch.tensor([3, 0]), allow_blank=True)
    assert worst(ours, expected) < 1e-5


def assert_same_map(build, other_build, inputs):
    """Two implementations of one model: same weights, same signed map."""
    net, other = build(), other_build()
    other.load_state_dict(net.state_dict())
    one, two = (attribute(n, inputs, torch.tensor([3, 0]), heads="mean") for n in (net, other))
    torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-5 * one.abs().max().item())


@pytest.mark.parametrize("build", [zoo.transformers_vit, zoo.bert])
def test_attention_by_hand_equals_the_fused_kernel(build):
    inputs = zoo.TEXT if build is zoo.bert else zoo.pictures(zoo.PICTURES["transformers"])
    assert_same_map(build, lambda: build("eager"), inputs)


@pytest.mark.parametrize("name", ["class token", "EVA, rotary", "attention pooling"])
def test_attention_by_hand_in_timm_with_the_scale_on_q(name):
    subject = zoo.PICTURES[name]
    assert_same_map(subject.build, lambda: zoo.by_hand(subject.build), zoo.pictures(subject))


# Invariants ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def probe() -> Probe:
    subject = zoo.PICTURES["class token"]
    return Probe(subject.build().double(), zoo.pictures(subject).double(), torch.tensor([[0, 1], [2, 3]]))


def test_only_the_class_token_reads(probe):
    """(i)"""
    assert (probe.dq[:, :, :, 1:] == 0).all()
    assert (probe.dq[:, :, :, 0] != 0).all()
    assert probe.readers.sum(dim=1).tolist() == [1, 1]


def test_score_gradients_sum_to_zero_and_give_the_map():
    """(ii), (iii), (iv): with gO = d y / d O, sum gO = 0, M = scale K K' gO and gO . M = scale |K' gO|^2 >= 0."""
    subject = zoo.PICTURES["class token"]
    net, x = subject.build().double(), zoo.pictures(subject).double()
    last = oracle.capture(net, x, torch.tensor([0, 2])).attentions[-1]
    gO = last.O.grad[:, :, 0]  # (B, H, N)
    assert gO.sum(dim=-1).abs().max() < 1e-12 * gO.abs().max()
    probe = Probe(net, x, torch.tensor([0, 2]))
    M = torch.einsum("bhnd,bhd->bhn", probe.last.k, probe.dq[:, 0].sum(dim=2))
    gram = last.scale * (last.k @ last.k.mT @ gO[..., None])[..., 0]
    torch.testing.assert_close(M, gram, rtol=1e-8, atol=1e-10)
    energy = last.scale * (last.k.mT @ gO[..., None])[..., 0].square().sum(dim=-1)
    torch.testing.assert_close((gO * M).sum(dim=-1), energy, rtol=1e-8, atol=1e-10)


def test_rows_of_the_averages(probe):
    """(v): rows of Abar sum to (L - 1) / L, rows of the rollout product to 2^(L - 1)."""
    from gradtoken.attention import average, average_rows

    L = len(probe.earlier) + 1
    ones = torch.ones(2, probe.last.shape[3], 1, dtype=torch.float64)
    total = sum(average(A, ones) for A in probe.earlier) / L
    torch.testing.assert_close(total, torch.full_like(total, (L - 1) / L))
    row = ones[..., 0] / ones.shape[1]
    for A in reversed(probe.earlier):
        row = row + average_rows(A, row)
    torch.testing.assert_close(row.sum(dim=1), torch.full((2,), 2.0 ** (L - 1), dtype=torch.float64))


def test_signed_map_is_linear_in_the_logits():
    """(vi)"""
    subject = zoo.PICTURES["class token"]
    net, x = subject.build().double(), zoo.pictures(subject).double()
    one, two = (attribute(net, x, c, heads="mean") for c in (1, 2))
    both = attribute(net, x, lambda logits: 3 * logits[:, 1] - logits[:, 2], heads="mean")
    torch.testing.assert_close(3 * one - two, both)


@pytest.mark.parametrize("propagation", get_args(Propagation))
def test_queries_that_see_nothing_count_nothing(propagation):
    """A mask over rows and columns leaves padding no key at all; its rows are 0, not NaN."""

    class Square(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = nn.Linear(16, 16), nn.Linear(16, zoo.CLASSES)

        def forward(self, x: Tensor, keep: Tensor) -> Tensor:
            for _ in range(3):
                h = self.layer(x)[:, None]
                x = x + F.scaled_dot_product_attention(h, 2 * h, h, keep[:, None, :, None] & keep[:, None, None])[:, 0]
            return self.head(x[:, 0])

    net, x = zoo.shaken(Square()), torch.randn(2, 6, 16)
    keep = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    together = attribute(net, (x, keep), 0, heads="mean", propagation=propagation)
    alone = attribute(net, (x[1:, :4], keep[1:, :4]), 0, heads="mean", propagation=propagation)
    torch.testing.assert_close(together[1:, :4], alone)
    assert (together[1, 4:] == 0).all()


# Options -------------------------------------------------------------------------------------------------------------


def test_depth_and_unknown_options():
    subject = zoo.PICTURES["class token"]
    net, x = subject.build(), zoo.pictures(subject)
    with pytest.raises(BadTarget, match=r"depth from 1 to 4, .* got 5"):
        attribute(net, x, 0, depth=5)
    for depth in ("abc", 1.5, None):
        with pytest.raises(BadTarget, match=r"expected depth of gradtoken as int, got "):
            attribute(net, x, 0, depth=depth)
    with pytest.raises(UnknownName, match="no head integration 3; known: relu_mean, mean"):
        attribute(net, x, 0, heads=3)
    with pytest.raises(UnknownName, match=r"no propagation 'rolout_matmul'; did you mean 'rollout_matmul'"):
        attribute(net, x, 0, propagation="rolout_matmul")
    with pytest.raises(UnknownName, match=r"no head integration 'max'; did you mean 'mean'"):
        attribute(net, x, 0, heads="max")


def test_several_targets_are_the_single_ones():
    subject = zoo.PICTURES["class token"]
    net, x = subject.build(), zoo.pictures(subject, 3)
    targets = torch.tensor([[0, 1, 4], [2, 2, 3], [4, 0, 1]])
    together = attribute(net, x, targets, allow_blank=True)
    assert together.shape == (3, 3, 4, 4)
    for k in range(3):
        torch.testing.assert_close(attribute(net, x, targets[:, k], allow_blank=True), together[:, k])
