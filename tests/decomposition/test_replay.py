"""Vectors as sums of parts: they sum to the true value at every point, and what has no parts is refused."""

import pytest
import torch
from torch import Tensor, nn

from gradtoken.decomposition import replay as module
from gradtoken.decomposition.journal import Journal
from gradtoken.decomposition.parts import of_constant, of_tokens, shared, with_bias
from gradtoken.decomposition.replay import decompose, replay
from gradtoken.errors import BadModel, NoRule
from gradtoken.probe import Probe
from tests import zoo


def timm_block(name: str) -> nn.Module:
    blocks = pytest.importorskip("timm").models.vision_transformer
    return zoo.timm_model(block_fn=getattr(blocks, name))


PICTURES = {
    **{name: subject.build for name, subject in zoo.PICTURES.items() if name not in ("not square", "one row")},
    "by hand": lambda: zoo.by_hand(zoo.timm_model),
    "transformers by hand": lambda: zoo.transformers_vit("eager"),
    "layer scale, more norms": lambda: zoo.timm_model(init_values=0.1, pre_norm=True, qk_norm=True),
    "parallel": lambda: timm_block("ParallelScalingBlock"),
    "norm after each branch": lambda: timm_block("ResPostBlock"),
    "class token last": lambda: zoo.timm_model("cait.Cait"),
    "norm of heads": lambda: zoo.timm_model("eva.Eva", scale_attn_inner=True, qkv_fused=False),
}
TEXTS = {"BERT": zoo.bert, "BERT by hand": lambda: zoo.bert("eager")}


def recorded(net: nn.Module, inputs) -> tuple[Journal, Tensor]:
    """A pass from the first block's input to two logits of one sample."""
    journal = Journal()

    def score(output):
        with journal:
            return getattr(output, "logits", output)[:, 1:3]

    run = Probe(net, inputs, score).run(rules=journal, edits={("x", 0): journal.begin}, graph=False)
    return journal, run.scores


@pytest.mark.parametrize("name", [*PICTURES, *TEXTS])
def test_parts_sum_to_the_true_value_wherever_they_are(name):
    net = {**PICTURES, **TEXTS}[name]().double()
    alone = {key: x[1:] for key, x in zoo.TEXT.items()}  # with padding
    inputs = alone if name in TEXTS else zoo.pictures(zoo.PICTURES["class token"], 1).double()
    journal, goal = recorded(net, inputs)
    sums = 0
    for value, parts in replay(journal, goal):
        assert parts.shape[1:] == value.shape
        torch.testing.assert_close(parts.sum(dim=0), value, rtol=1e-10, atol=1e-10)
        sums += value.shape == journal.source.shape and not parts[-1].any()
    assert sums >= 8, "nothing of the biases is left on the residual stream"
    torch.testing.assert_close(decompose(journal, goal).sum(dim=0), goal, rtol=1e-10, atol=1e-10)


def test_tokens_that_are_the_inputs_themselves_have_parts():
    journal, goal = recorded(zoo.shaken(zoo.Encoder()).double(), torch.randn(1, 6, 16).double())
    torch.testing.assert_close(decompose(journal, goal).sum(dim=0), goal, rtol=1e-10, atol=1e-10)


# Biases ---------------------------------------------------------------------------------------------------------------


def test_biases_are_shared_out_by_their_dot_product():
    x = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [-3.0, 1.0]]])
    parts = of_tokens(x).sum(dim=2)[:, None]  # three sources of one token: (4, 1, 1, 2)
    parts = shared(with_bias(parts, torch.tensor([4.0, 0.0])))
    assert torch.equal(parts[:, 0, 0], torch.tensor([[2.0, 0.0], [0.0, 2.0], [0.0, 1.0], [0.0, 0.0]]))  # 1 : 0 : 3


def test_what_no_source_has_a_part_of_is_kept():
    parts = of_constant(torch.ones(1, 1, 2), like=torch.zeros(4, 1, 1, 2))
    assert torch.equal(shared(parts), parts)
    assert torch.equal(parts.sum(dim=0), torch.ones(1, 1, 2))


# Operations -----------------------------------------------------------------------------------------------------------


class Odd(nn.Module):
    """A small network that does `change` to its tokens before the head."""

    def __init__(self, change) -> None:
        super().__init__()
        self.encoder, self.change = zoo.timm_model(num_classes=0, global_pool=""), change
        self.head = zoo.shaken(nn.Linear(16, zoo.CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.change(self.encoder(x))[:, 0])


def in_place(x: Tensor) -> Tensor:
    x = x.clone()
    x += x.flip(1)
    x *= 2
    x -= 1
    return x


SUMS = {
    "in place": in_place,
    "with numbers": lambda x: (1.5 + x) / 3 - 0.5,
    "joined with constants": lambda x: (
        torch.stack([x, torch.ones_like(x)]).mean(0) + torch.cat([x[:, 1:], x[:, :1]], 1)
    ),
    "tokens mixed by a constant": lambda x: x + torch.eye(17).to(x).flip(0) @ x,
    "an activation by hand": lambda x: x * torch.sigmoid(1.702 * x),
    "root mean square": lambda x: nn.functional.rms_norm(x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True)), (16,)),
    "biased by hand": lambda x: torch.addmm(torch.ones(16).to(x), x[0], torch.eye(16).to(x))[None],
    "a norm without weights": lambda x: nn.functional.layer_norm(x, (16,)),
}


@pytest.mark.parametrize("name", SUMS)
def test_other_operations_have_parts_too(name):
    journal, goal = recorded(Odd(SUMS[name]).double(), zoo.pictures(zoo.PICTURES["class token"], 1).double())
    for value, parts in replay(journal, goal):
        torch.testing.assert_close(parts.sum(dim=0), value, rtol=1e-10, atol=1e-10)


REFUSED = {
    r"torch.Tensor.cumsum of \(1, 17, 16\) has no rule .*RULES\[torch.Tensor.cumsum\] = rule": lambda x: x.cumsum(1),
    r"torch.Tensor.mul takes tensors \(1, 17, 16\) and \(1, 17, 16\), .* no sum of parts": lambda x: x * x.flip(1),
    r"no operation that has parts .* before any softmax": lambda x: x.softmax(-1),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_has_no_parts_is_refused(message):
    journal, goal = recorded(Odd(REFUSED[message]), zoo.pictures(zoo.PICTURES["class token"], 1))
    with pytest.raises(NoRule, match=message):
        decompose(journal, goal)


def test_what_does_not_fit_into_memory_is_refused(monkeypatch):
    journal, goal = recorded(zoo.timm_model(), zoo.pictures(zoo.PICTURES["class token"], 1))
    size = 18 * 17 * 64 * 4  # sources, tokens, hidden width, bytes
    monkeypatch.setattr(module, "BUDGET", size)
    decompose(journal, goal)
    monkeypatch.setattr(module, "BUDGET", size - 1)
    with pytest.raises(BadModel, match=r"parts of 17 tokens would take 0.0 GiB for one tensor of 1088 numbers"):
        decompose(journal, goal)
