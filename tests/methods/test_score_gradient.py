"""GradToken's relatives without a free offset: the naive reference, and what they do not depend on."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from gradtoken.attribution import attribute
from gradtoken.errors import NoAttention
from gradtoken.methods import METHODS
from gradtoken.probe import Probe
from tests import zoo
from tests.methods.test_gradtoken import worst
from tests.reference import gradtoken as oracle
from tests.reference.score_gradient import MAPS, relevance
from tests.test_reference import TOY, toy_case

VARIANTS = list(itertools.product(oracle.PROPAGATIONS, oracle.HEADS, (1, 3)))


@pytest.mark.parametrize("method", MAPS)
@pytest.mark.parametrize("name", zoo.PICTURES)
def test_equals_the_reference(method, name, monkeypatch):
    subject = zoo.PICTURES[name]
    net, x, target = subject.build(), zoo.pictures(subject, 2), torch.tensor([3, 0])
    record = oracle.capture(net, x, target)
    at = {"first": subject.first, "tokens": subject.grid[0] * subject.grid[1]}
    for propagation, heads, depth in VARIANTS:
        options = {"propagation": propagation, "heads": heads, "depth": depth}
        expected = relevance(record, method, monkeypatch, **at, **options)
        ours = attribute(net, x, target, method, allow_blank=True, **options)
        assert worst(ours.flatten(1), expected) < 2e-5, options


@pytest.mark.parametrize("method", MAPS)
@pytest.mark.parametrize("build", [zoo.bert, zoo.llama])
def test_text_with_padding_equals_the_reference(method, build, monkeypatch):
    net, target = build().double(), torch.tensor([3, 0])
    record = oracle.capture(net, zoo.TEXT, target)
    expected = relevance(record, method, monkeypatch, first=0, tokens=6, heads="mean")
    ours = attribute(net, zoo.TEXT, target, method, heads="mean", allow_blank=True)
    assert worst(ours, expected) < 1e-8
    assert (ours[1, 4:] == 0).all()


@pytest.mark.parametrize("method", MAPS)
def test_attention_by_hand_equals_the_fused_kernel(method):
    net, other = zoo.bert().double(), zoo.bert("eager").double()
    other.load_state_dict(net.state_dict())
    one, two = (attribute(n, zoo.TEXT, 0, method, heads="mean", allow_blank=True) for n in (net, other))
    torch.testing.assert_close(two, one, rtol=1e-7, atol=1e-15)


@pytest.mark.parametrize("method", MAPS)
@pytest.mark.parametrize("name", [name for name in TOY if name != "first token, causal"])  # which sees itself alone
def test_readouts_and_masks_of_a_toy_model_equal_the_reference(method, name, monkeypatch):
    net, inputs, target = toy_case(name)
    record, probe = oracle.capture(net, inputs, target), Probe(net, inputs, target)
    at = {"first": probe.layout.first, "tokens": probe.layout.count}
    expected = relevance(record, method, monkeypatch, **at, heads="mean")
    assert worst(METHODS[method].bind({"heads": "mean"})(probe)[:, 0], expected) < 1e-10


@pytest.mark.parametrize("method", MAPS)
def test_a_whole_pass_that_was_made_before_gives_the_same(method):
    subject = zoo.PICTURES["class token"]
    net, x = subject.build().double(), zoo.pictures(subject).double()
    Probe(net, x, 0).plain  # noqa: B018  the layout and the blocks are learnt
    fresh, used = Probe(net, x, torch.tensor([[0, 1], [2, 3]])), Probe(net, x, torch.tensor([[0, 1], [2, 3]]))
    used.plain  # noqa: B018  which becomes the first pass
    assert used.first.tail is None
    torch.testing.assert_close(METHODS[method].bind({})(used), METHODS[method].bind({})(fresh), rtol=1e-9, atol=1e-15)


# Invariances ---------------------------------------------------------------------------------------------------------


def signed(method: str, net: nn.Module, x: Tensor) -> Tensor:
    return attribute(net, x, torch.tensor([3, 0]), method, heads="mean", propagation="none")


@pytest.fixture
def x() -> Tensor:
    return zoo.pictures(zoo.PICTURES["class token"]).double()


@pytest.fixture
def net() -> nn.Module:
    return zoo.PICTURES["class token"].build().double()


def changed(net: nn.Module, change) -> nn.Module:
    """The model after a change of its last qkv projection, in parts (q, k, v), and of the projection that follows."""
    attention = net.blocks[-1].attn
    with torch.no_grad():
        change(attention.qkv.weight.view(3, 2, 8, 16), attention.qkv.bias.view(3, 2, 8), attention.proj)
    return net


def offset_keys(_w: Tensor, b: Tensor, _out: nn.Linear) -> None:
    b[1] += torch.randn(2, 8, generator=torch.Generator().manual_seed(0)).double()


def rescale_heads(w: Tensor, b: Tensor, _out: nn.Linear) -> None:
    for part, factor in ((0, 4.0), (1, 0.25)):
        w[part, 0] *= factor
        b[part, 0] *= factor


def offset_values(_w: Tensor, b: Tensor, out: nn.Linear) -> None:
    step = torch.randn(2, 8, generator=torch.Generator().manual_seed(0)).double()
    b[2] += step
    out.bias -= out.weight @ step.flatten()


def rescale_values(w: Tensor, b: Tensor, out: nn.Linear) -> None:
    w[2, 0] *= 4
    b[2, 0] *= 4
    out.weight[:, :8] /= 4


CHANGES = {
    "key offset": offset_keys,
    "head scale": rescale_heads,
    "value offset": offset_values,
    "value scale": rescale_values,
}
VALUES = {"value offset", "value scale"}
INVARIANT = {
    "gradtoken": VALUES,
    "centred_gradtoken": {"key offset", *VALUES},
    "attention_shift": {"key offset", *VALUES},
    "score_gradient": {*CHANGES},
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("method", INVARIANT)
def test_changes_that_leave_the_model_as_it_is(method, change, net, x):
    """The logits stay; which maps do is a fact of each method. The published GradToken depends on the key offset."""
    logits, before = net(x), signed(method, net, x)
    changed(net, CHANGES[change])
    torch.testing.assert_close(net(x), logits, rtol=1e-10, atol=1e-10)
    apart = ((signed(method, net, x) - before).abs().max() / before.abs().max()).item()
    assert (apart < 1e-6) == (change in INVARIANT[method]), apart
    assert apart < 1e-6 or apart > 0.01


@pytest.mark.parametrize("method", ["attention_shift", "score_gradient"])
def test_all_tokens_sum_to_zero(method, net, x):
    from gradtoken.softmax import gained

    probe = Probe(net, x, torch.tensor([3, 0]))
    given = (probe.last.k, probe.dq) if method == "attention_shift" else probe.end
    M = gained(probe.last, *given)
    assert M.sum(dim=-1).abs().max() < 1e-12 * M.abs().max()


@pytest.mark.parametrize("method", MAPS)
def test_a_single_key_is_refused(method):
    net, text = (
        zoo.bert(),
        {"input_ids": torch.tensor([[1, 5], [3, 0]]), "attention_mask": torch.tensor([[1, 1], [1, 0]])},
    )
    with pytest.raises(NoAttention, match=r"a single key in samples \[1\]"):
        attribute(net, text, 0, method)
