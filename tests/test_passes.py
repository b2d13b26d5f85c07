"""Whole passes: where blocks are found, what a run reads, edits, and restarts from the middle."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gradtoken.attribution import attribute
from gradtoken.errors import BadModel, NoBlocks
from gradtoken.probe import Probe
from tests import zoo
from tests.reference.gradtoken import capture
from tests.test_record import SPELLINGS, Tiny

PLACES = ("x", "features", "branch", "middle", "out")
TEXTS = {"BERT": zoo.bert, "BERT by hand": lambda: zoo.bert("eager"), "Llama": zoo.llama}
NETS = {**{name: subject.build for name, subject in zoo.PICTURES.items()}, **TEXTS}


def inputs_for(name: str, batch: int = 3):
    return zoo.TEXT if name in TEXTS else zoo.pictures(zoo.PICTURES[name], batch).double()


@pytest.fixture(params=NETS)
def probe(request) -> Probe:
    net = NETS[request.param]().double()
    inputs = inputs_for(request.param)
    batch = len(next(iter(inputs.values()))) if isinstance(inputs, dict) else len(inputs)
    return Probe(net, inputs, torch.arange(2 * batch).reshape(batch, 2) % zoo.CLASSES)


def test_a_whole_pass_gives_the_same_scores(probe):
    torch.testing.assert_close(probe.plain.scores.detach(), probe.scores)
    for how in ({"graph": False}, {"cut": True}):
        torch.testing.assert_close(probe.run(**how).scores.detach(), probe.scores)


def test_attention_and_its_gradient_are_those_of_a_backward_pass_in_the_open(probe):
    run = probe.plain
    target = probe.chosen.known[:, 0]
    net = probe.net
    if getattr(getattr(net, "config", None), "_attn_implementation", "") == "eager":
        net = zoo.bert().double()
        net.load_state_dict(probe.net.state_dict())
    expected = capture(net, probe.inputs, target)
    for block, number in enumerate(probe.blocks):
        reference = expected.attentions[number]
        torch.testing.assert_close(run.A(block), reference.A.detach())
        torch.testing.assert_close(run.dA(block)[:, 0], reference.A.grad, atol=1e-12, rtol=1e-9)
        torch.testing.assert_close(run.dA(block, 1, 3)[:, 1], run.dA(block)[:, 1, :, 1:3])


def test_blocks_add_up(probe):
    run = probe.plain
    for block in probe.stream:
        x, branch = run.value("x", block), run.value("branch", block)
        torch.testing.assert_close(x + branch, run.value("middle", block))
        if block != probe.stream[-1]:
            torch.testing.assert_close(run.value("out", block), run.value("x", block + 1))


def test_every_restart_gives_the_same_scores(probe):
    run = probe.plain
    for name in ("x", "middle", "out"):
        for block in (0, -1):
            kept = run.value(name, probe.stream[block])
            scores = probe.score(edits={(name, block): lambda _, kept=kept: kept}, start=(name, block))
            torch.testing.assert_close(scores, probe.scores, msg=lambda m, name=name: f"{name}: {m}")


def test_a_restart_has_a_gradient(probe):
    x = probe.plain.value("out", probe.stream[-1]).requires_grad_()
    run = probe.run(edits={("out", -1): lambda _: x}, start=("out", -1))
    (g,) = torch.autograd.grad(run.scores[:, 0].sum(), x)
    torch.testing.assert_close(g, probe.plain.gradient("out", probe.stream[-1])[:, 0])


def test_edits_are_made_where_they_were_asked(probe):
    block = probe.stream[-1]
    doubled = probe.score(edits={("Z", block): lambda Z: 2 * Z})
    run = probe.run(edits={("Z", block): lambda Z: 2 * Z})
    torch.testing.assert_close(run.value("Z", block), 2 * probe.plain.value("Z", block))
    assert not torch.allclose(doubled, probe.scores)
    moved = probe.score(edits={("x", 0): lambda x: x + torch.linspace(0, 1, x.shape[-1])})
    assert not torch.allclose(moved, probe.scores)


def test_gradients_are_those_of_autograd(probe):
    run = probe.plain
    run.differentiate("x", probe.stream)
    for k in range(2):
        (g,) = torch.autograd.grad(run.scores[:, k].sum(), [run.node("x", 0).raw], retain_graph=True)
        torch.testing.assert_close(run.gradient("x", 0)[:, k], run.node("x", 0).read(g))
    seed = torch.randn_like(run.value("out", 0))
    pulled = run.pull(("out", 0), seed, ("Z", 0))
    assert pulled.shape == run.value("Z", 0).shape
    assert pulled.abs().sum() > 0


def test_gradients_past_the_attention_differ_in_all_but_the_last_block(probe):
    cut = probe.run(cut=True)
    last = probe.stream[-1]
    if last == cut.blocks[-1]:
        torch.testing.assert_close(cut.gradient("Z", last), probe.plain.gradient("Z", last))
    assert not torch.allclose(cut.gradient("Z", 0), probe.plain.gradient("Z", 0))


def test_repeats_of_the_batch_stand_one_after_the_other():
    net = zoo.timm_model()
    x = zoo.pictures(zoo.PICTURES["class token"], 2)
    probe = Probe(net, x, torch.tensor([[0, 1], [2, 3]]))
    twice = probe.score(inputs=probe.pictured(torch.cat([x, 0 * x])))
    torch.testing.assert_close(twice[:2], probe.scores)
    torch.testing.assert_close(twice[2:], Probe(net, 0 * x, torch.tensor([[0, 1], [2, 3]])).scores)


def test_fewer_tokens_may_go_on():
    net = zoo.timm_model()
    probe = Probe(net, zoo.pictures(zoo.PICTURES["class token"], 2), 0)
    kept = [0, 3, 5, 7]
    scores = probe.score(edits={("x", 0): lambda x: x[:, kept]})
    x = probe.plain.value("x", 0)[:, kept]
    torch.testing.assert_close(scores[:, 0], net.forward_head(net.norm(net.blocks(x)))[:, 0])


def test_probabilities():
    probe = Probe(zoo.timm_model(), zoo.pictures(zoo.PICTURES["class token"], 2), torch.tensor([[0, 1], [2, 3]]))
    expected = probe.logits.softmax(dim=1).gather(1, torch.tensor([[0, 1], [2, 3]]))
    torch.testing.assert_close(probe.score(probability=True), expected)


@pytest.mark.parametrize("spelling", SPELLINGS, ids=lambda f: f.__name__)
def test_every_spelling_of_attention_has_the_same_gradient(spelling):
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    ours, expected = (Probe(net, x, 0).plain for net in (Tiny(spelling), Tiny()))
    for block in (0, 1):
        if ours.A(block).shape == expected.A(block).shape:
            torch.testing.assert_close(ours.A(block), expected.A(block), rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(ours.dA(block), expected.dA(block), rtol=1e-4, atol=1e-6)


# Blocks of other kinds ------------------------------------------------------------------------------------------------


class Blocks(nn.Module):
    """Two blocks over 4 x 4 patches, whose residual connections are written by `block`."""

    def __init__(self, block) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.head, self.block = nn.Conv2d(3, 8, 4, stride=4), nn.Linear(8, 5), block
        self.norms = nn.ModuleList([nn.LayerNorm(8) for _ in range(5)])
        self.qkv = nn.ModuleList([nn.Linear(8, 24) for _ in range(2)])
        self.mlp = nn.ModuleList([nn.Linear(8, 8) for _ in range(2)])

    def attend(self, x: Tensor, i: int) -> Tensor:
        q, k, v = self.qkv[i](x).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).mT
        for i in range(2):
            x = self.block(self, x, i)
        return self.head(self.norms[4](x).mean(dim=1))


def in_place(net, x, i):
    x += net.attend(net.norms[2 * i](x), i)
    x += net.mlp[i](net.norms[2 * i + 1](x)).relu()
    return x


def scaled_branch(net, x, i):
    x = x + 0.1 * net.attend(net.norms[2 * i](x), i)
    return x + 0.1 * net.mlp[i](net.norms[2 * i + 1](x)).relu()


def parallel(net, x, i):
    y = net.norms[2 * i](x)
    return net.attend(y, i) + net.mlp[i](y).relu() + x


def norm_of_the_branch(net, x, i):
    x = x + net.norms[2 * i](net.attend(x, i))
    return x + net.norms[2 * i + 1](net.mlp[i](x).relu())


def norm_of_the_sum(net, x, i):
    x = net.norms[2 * i](x + net.attend(x, i))
    return net.norms[2 * i + 1](x + net.mlp[i](x).relu())


def attention_alone(net, x, i):
    return x + net.attend(net.norms[2 * i](x), i)


@pytest.mark.parametrize(
    "block", [in_place, scaled_branch, parallel, norm_of_the_branch, norm_of_the_sum, attention_alone]
)
def test_blocks_of_every_kind_are_found(block):
    net = Blocks(block)
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    before = copy.deepcopy(net)
    probe = Probe(net, x, 0)
    stream, states = net.embed(x).flatten(2).mT, []
    for i in range(2):
        states.append(stream.clone())
        stream = block(net, stream.clone(), i)
    run = probe.plain
    for i in range(2):
        torch.testing.assert_close(run.value("x", i), states[i])
    torch.testing.assert_close(run.value("out", 1), stream)
    assert all(map(torch.equal, net.state_dict().values(), before.state_dict().values()))


class TwoStreams(Blocks):
    """The head reads the patches too."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).mT
        return self.head(torch.cat([x, scaled_branch(self, scaled_branch(self, x, 0), 1)], dim=1).mean(dim=1))


def test_a_restart_that_misses_another_stream_is_refused():
    probe = Probe(TwoStreams(scaled_branch), torch.randn(2, 3, 16, 16), 0)
    x = probe.plain.value("x", 1)
    with pytest.raises(NoBlocks, match="something else goes past that block"):
        probe.score(edits={("x", -1): lambda _: x}, start=("x", -1))


@pytest.mark.parametrize("norm_first", [True, False])
def test_as_many_samples_as_tokens(norm_first):
    """Multi-head attention is given (N, B, C), which has the shape of (B, N, C) here."""
    torch.manual_seed(0)
    layers = [
        nn.TransformerEncoderLayer(16, 2, 32, batch_first=first, norm_first=norm_first) for first in (True, False)
    ]
    layers[1].load_state_dict(layers[0].state_dict())

    class Net(nn.Module):
        def __init__(self, layer: nn.Module) -> None:
            super().__init__()
            self.layer, self.head = layer, nn.Linear(16, 5)
            nn.init.constant_(self.head.weight, 0.1)

        def forward(self, x: Tensor) -> Tensor:
            batch_first = self.layer.self_attn.batch_first
            y = self.layer(x + 0) if batch_first else self.layer((x + 0).transpose(0, 1).contiguous()).transpose(0, 1)
            return self.head(y)[:, 0]

    x = torch.randn(6, 6, 16)
    two = [Probe(Net(layer).eval(), x, 0) for layer in layers]
    for name in PLACES:
        torch.testing.assert_close(two[1].plain.value(name, 0), two[0].plain.value(name, 0), msg=name)
    torch.testing.assert_close(two[0].plain.value("x", 0), x)


def test_a_model_without_residual_connections_is_refused_with_the_count():
    net = Blocks(lambda net, x, i: net.attend(x, i))
    probe = Probe(net, torch.randn(2, 3, 16, 16), 0)
    with pytest.raises(NoBlocks, match=r"2 attentions .* past 0 of them"):
        probe.stream  # noqa: B018
    assert probe.plain.dA(0).shape == (2, 1, 2, 16, 16)


def test_a_mask_of_numbers_is_not_what_is_explained():
    net = zoo.bert().double()
    mask = zoo.TEXT["attention_mask"]
    expected = Probe(net, zoo.TEXT, 0).plain.gradient("input", 0)
    swapped = {"attention_mask": mask.double(), "input_ids": zoo.TEXT["input_ids"]}
    torch.testing.assert_close(Probe(net, swapped, 0).plain.gradient("input", 0), expected)


@pytest.mark.parametrize("name", TEXTS)
def test_blocks_are_found_anew_where_a_mask_begins_to_hide_something(name):
    """Libraries leave out a mask that hides nothing, and what is made of it."""
    net = TEXTS[name]().double()
    full, padded = ({key: x[i : i + 1] for key, x in zoo.TEXT.items()} for i in range(2))
    expected = Probe(copy.deepcopy(net), padded, 0).plain
    assert Probe(net, full, 0).stream
    found = Probe(net, padded, 0).plain
    for place in PLACES:
        torch.testing.assert_close(found.value(place, 1), expected.value(place, 1), msg=place)


def test_the_picture_is_what_is_explained_wherever_it_stands():
    vit = zoo.timm_model()

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vit = vit

        def forward(self, scale: Tensor, x: Tensor) -> Tensor:
            return self.vit(scale[:, None, None, None] * x)

    x = zoo.pictures(zoo.PICTURES["class token"], 2)
    ours = Probe(Scaled(), (torch.full((2,), 2.0), x), 0).plain.gradient("input", 0)
    torch.testing.assert_close(ours, 2 * Probe(vit, 2 * x, 0).plain.gradient("input", 0))


class Wavering(nn.Module):
    """A ViT that makes one operation more before its blocks where a picture is bright."""

    def __init__(self):
        super().__init__()
        self.net = zoo.timm_model()

    def forward(self, x):
        return self.net(x * 1.5 if x.mean() > 0 else x)


@pytest.mark.parametrize("method", ["attcat", "agcam", "attn_lrp"])
def test_blocks_are_found_anew_where_the_model_goes_another_way(method):
    """Its blocks, and so the places that are read, have other numbers then."""
    net, dark = Wavering(), -torch.rand(2, 3, 16, 16)
    for x, scale in ((dark, 1), (-dark, 1.5), (dark, 1)):
        alone = attribute(net.net, x * scale, 0, method, allow_blank=True)
        torch.testing.assert_close(attribute(net, x, 0, method, allow_blank=True), alone, rtol=1e-4, atol=1e-6)


def test_changed_inputs_that_go_another_way_are_refused():
    net, dark = Wavering(), -torch.rand(1, 3, 16, 16)
    probe = Probe(net, dark, 0)
    with pytest.raises(BadModel, match="operations on a changed input"):
        probe.run(inputs=-dark)
