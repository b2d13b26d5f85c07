"""The methods on whole models: what is conserved, what is equal, what is refused."""

import copy
import functools

import pytest
import torch
from torch import nn

from gradtoken.errors import BadModel, BadTarget, UnknownName
from gradtoken.lrp import LIBRA, LRP_CONSERVATIVE, LRP_PUBLISHED, Rules
from gradtoken.lrp.passes import propagate
from gradtoken.methods.abs_lrp import abs_lrp
from gradtoken.methods.attn_lrp import attn_lrp
from gradtoken.methods.cp_lrp import cp_lrp
from gradtoken.methods.lrp import lrp
from gradtoken.methods.partial_lrp import partial_lrp
from gradtoken.methods.transattrib import transattrib
from gradtoken.probe import Probe
from tests import zoo
from tests.lrp.backward import close

METHODS = [lrp, partial_lrp, transattrib, abs_lrp, attn_lrp, cp_lrp]
TARGETS = torch.tensor([[0, 3], [1, 4], [2, 0]])
TOLERANCE = {lrp: 1e-6, abs_lrp: 1e-5}  # sums of either sign divide; the scale comes before an epsilon or after it


def named(method):
    return method.__name__


@pytest.fixture(scope="module")
def net():
    return zoo.timm_model().double()


@pytest.fixture(scope="module")
def x():
    return zoo.pictures(zoo.PICTURES["class token"], 3).double()


@pytest.fixture(scope="module")
def probe(net, x):
    return Probe(net, x, TARGETS)


# What is conserved ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [zoo.timm_model, zoo.torchvision_vit, zoo.transformers_vit])
def test_conservative_relevance_sums_to_one_at_every_block(build, x):
    run = propagate(Probe(build().double(), x, TARGETS), LRP_CONSERVATIVE)
    for place in (*(("x", b) for b in run.blocks), *(("middle", b) for b in run.blocks), ("out", run.blocks[-1])):
        sums = run.gradient(*place).sum(dim=(2, 3))
        close(sums, torch.ones_like(sums), 1e-5)


def test_conservative_relevance_of_a_text_sums_to_one():
    run = propagate(Probe(zoo.bert().double(), zoo.TEXT, TARGETS[:2]), LRP_CONSERVATIVE)
    for block in run.blocks:
        sums = run.gradient("x", block).sum(dim=(2, 3))
        close(sums, torch.ones_like(sums), 1e-5)


def test_published_head_hands_out_twice_the_relevance(probe):
    run = propagate(probe, LRP_PUBLISHED)
    sums = run.gradient("out", run.blocks[-1]).sum(dim=(2, 3))
    close(sums, torch.full_like(sums, 2), 1e-5)


def unbiased():
    """Nothing is added that does not come from the picture."""
    net = zoo.timm_model(no_embed_class=True).double()
    with torch.no_grad():
        for name, p in net.named_parameters():
            if name.endswith("bias") or name in ("pos_embed", "cls_token"):
                p.zero_()
    return net


def test_without_biases_cp_lrp_sums_to_the_score(x):
    probe = Probe(unbiased(), x, TARGETS)
    close(cp_lrp(probe).sum(dim=(2, 3)), probe.scores, 1e-6)
    close(cp_lrp(probe, gamma_linear=0.25, gamma_conv=0.5).sum(dim=(2, 3)), probe.scores, 1e-6)


@pytest.mark.parametrize("build", [zoo.timm_model, zoo.transformers_vit, lambda: zoo.timm_model(qk_norm=True)])
def test_input_and_biases_under_libra_sum_to_the_score(build, x):
    """FullGrad completeness: x dy/dx + sum over what is added of b dy/db = y."""
    net, leaf = build().double(), x.clone().requires_grad_()
    with Rules(LIBRA):
        output = net(leaf)
    y = getattr(output, "logits", output)[:, 2].sum()
    offsets = [p for name, p in net.named_parameters() if "bias" in name or "token" in name or "pos" in name]
    terms = [leaf, *(p for p in offsets if p.requires_grad)]
    found = torch.autograd.grad(y, terms, materialize_grads=True)
    total = sum((a * b).sum() for a, b in zip(terms, found, strict=True))
    close(total, y.detach(), 1e-6)


def test_two_classes_against_each_other_are_opposite(x):
    probe = Probe(zoo.timm_model(num_classes=2).double(), x, torch.tensor([[0, 1]] * 3))
    R = abs_lrp(probe)
    close(R[:, 0], -R[:, 1])
    assert not torch.equal(*abs_lrp(probe, contrastive=False).unbind(1))


def test_the_largest_relevance_of_abs_lrp_is_one_for_a_number_of_the_input(probe):
    assert (abs_lrp(probe).abs().amax(dim=(2, 3)) < 3).all()


def test_partial_lrp_is_attention_times_the_values_relevance(probe):
    run = propagate(probe, LRP_PUBLISHED)
    last = run.blocks[-1]
    S = (run.gradient("Z", last) / (run.value("Z", last)[:, None] + 1e-9))[..., :1, :]  # (B, K, H, 1, D)
    R = run.A(last, 0, 1)[:, None] * (S @ run.value("v", last)[:, None].mT) / 2
    close(partial_lrp(probe), R.clamp(min=0).mean(2)[:, :, 0, 1:])


# What is equal --------------------------------------------------------------------------------------------------------


@functools.cache
def of_same_weights(build_one, build_other, text):
    one, other = build_one(), build_other()
    other.load_state_dict(one.state_dict())
    x = zoo.TEXT if text else zoo.pictures(zoo.PICTURES["class token"]).double()
    return [Probe(net.double(), x, TARGETS[:2]) for net in (one, other)]


def llama_by_hand():
    config = copy.deepcopy(zoo.llama().config)
    config._attn_implementation = "eager"
    return type(zoo.llama())(config).eval()


def torchvision_weights(state):
    """Names of timm for the weights of a torchvision ViT."""
    names = {
        "conv_proj": "patch_embed.proj",
        "class_token": "cls_token",
        "encoder.pos_embedding": "pos_embed",
        "encoder.layers.encoder_layer_": "blocks.",
        "self_attention.in_proj_": "attn.qkv.",
        "self_attention.out_proj": "attn.proj",
        "ln_1": "norm1",
        "ln_2": "norm2",
        "mlp.0": "mlp.fc1",
        "mlp.3": "mlp.fc2",
        "encoder.ln": "norm",
        "heads.head": "head",
    }
    for old, new in names.items():
        state = {name.replace(old, new): p for name, p in state.items()}
    return state


@pytest.mark.parametrize("method", METHODS, ids=named)
@pytest.mark.parametrize(
    ("build", "by_hand", "text"),
    [
        (zoo.timm_model, lambda: zoo.by_hand(zoo.timm_model), False),
        (zoo.transformers_vit, lambda: zoo.transformers_vit("eager"), False),
        (zoo.bert, lambda: zoo.bert("eager"), True),
        (zoo.llama, lambda: llama_by_hand(), True),
    ],
    ids=["timm", "transformers", "BERT", "Llama"],
)
def test_attention_by_hand_gives_the_same(method, build, by_hand, text):
    one, other = map(method, of_same_weights(build, by_hand, text))
    close(one, other, TOLERANCE.get(method, 1e-7))


@pytest.mark.parametrize("method", [m for m in METHODS if m is not abs_lrp], ids=named)
def test_multi_head_attention_gives_the_same(method, x):
    """Relative magnitudes differ: torchvision has no dropout after its projection."""
    vit = zoo.torchvision_vit()
    other = zoo.timm_model(mlp_ratio=2)
    other.load_state_dict(torchvision_weights(vit.state_dict()))
    one, two = (method(Probe(net.double(), x, TARGETS)) for net in (vit, other))
    close(one, two, TOLERANCE.get(method, 1e-7))


PICTURES = [
    "class token",
    "torchvision",
    "distilled",
    "registers, mean",
    "attention pooling",
    "BEiT",
    "EVA, rotary",
    "transformers",
]


@functools.cache
def of_two(name):
    """A probe of two pictures, and one of the second alone, with one target of two."""
    subject = zoo.PICTURES[name]
    net, x = subject.build().double(), zoo.pictures(subject).double()
    return Probe(net, x, TARGETS[:2]), Probe(net, x[1:], TARGETS[1:2, 1:])


@pytest.mark.parametrize("method", METHODS, ids=named)
@pytest.mark.parametrize("name", PICTURES)
def test_samples_and_targets_do_not_mix(method, name):
    together, alone = map(method, of_two(name))
    assert together.shape[:2] == (2, 2)
    close(together[1:, 1:], alone, 1e-7)


@pytest.mark.parametrize("method", METHODS, ids=named)
def test_padding_has_no_relevance_and_no_effect(method):
    net = zoo.bert().double()
    together = method(Probe(net, zoo.TEXT, TARGETS[:2]))
    assert together.shape == (2, 2, 5)
    assert not together[1, :, 3:].any()
    alone = {name: e[1:, :4] for name, e in zoo.TEXT.items()}
    close(together[1:, :, :3], method(Probe(net, alone, TARGETS[1:2])), 1e-6)


@pytest.mark.parametrize("method", METHODS, ids=named)
def test_the_model_is_left_as_it_was(method, x):
    net = zoo.timm_model().double().train()
    before = copy.deepcopy(net.state_dict())
    method(Probe(net, x, TARGETS))
    assert all(torch.equal(p, before[name]) for name, p in net.state_dict().items())
    assert all(isinstance(p, nn.Parameter) and p.requires_grad and p.grad is None for p in net.parameters())
    assert all(module.training for module in net.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in net.modules())


@pytest.mark.parametrize("method", [lrp, partial_lrp, transattrib], ids=named)
def test_relevance_is_computed_in_double_precision_where_asked(method, x):
    net = zoo.timm_model()
    options = {} if method is lrp else {"precise": True}
    found = method(Probe(net, x.float(), TARGETS), **options)
    assert found.dtype == torch.float32
    close(found.double(), method(Probe(net.double(), x.float().double(), TARGETS)), 1e-4)


@pytest.mark.parametrize("method", METHODS, ids=named)
def test_half_precision_runs_in_single(method, x):
    net = zoo.timm_model().bfloat16()
    R = method(Probe(net, x.bfloat16(), TARGETS))
    assert R.dtype == torch.float32
    expected = method(Probe(net.float(), x.bfloat16().float(), TARGETS))
    close(R, expected, 5e-2 if method is transattrib else 1e-5)


def test_gradients_tell_classes_apart_in_partial_lrp(probe):
    plain, classes = partial_lrp(probe), partial_lrp(probe, gradient=True)
    assert (plain >= 0).all()
    assert (classes >= 0).all()

    def likeness(R):
        return torch.corrcoef(torch.stack([R[:, 0].flatten(), R[:, 1].flatten()]))[0, 1]

    assert likeness(classes) < likeness(plain)


def test_options_of_transattrib(probe):
    close(transattrib(probe), transattrib(probe, start=1, normalise=False))
    one = transattrib(probe, start=3, normalise=True)
    assert (one.sum(2) < 1).all()
    text = Probe(zoo.bert().double(), zoo.TEXT, TARGETS[:2])
    close(transattrib(text), transattrib(text, start=3, normalise=True))


# What is refused ------------------------------------------------------------------------------------------------------


def test_wrong_options_are_refused(probe, net, x):
    with pytest.raises(UnknownName, match="no rule set 'epsilon'; known: published, conservative"):
        lrp(probe, rule="epsilon")
    with pytest.raises(BadTarget, match="expected start from 0 to 3"):
        transattrib(probe, start=4)
    with pytest.raises(BadTarget, match="a callable target names no class"):
        abs_lrp(Probe(net, x, lambda output: output.square().sum(1)))


def test_a_callable_may_be_explained_otherwise(net, x):
    close(lrp(Probe(net, x, lambda output: output[:, 2])), lrp(Probe(net, x, 2)))


class Overwriting(nn.Module):
    """Writes into a tensor without taking the result."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        y = x * 1
        y.mul_(2)
        return self.net(y)


def test_a_model_that_rules_would_change_is_refused(x):
    probe = Probe(Overwriting(zoo.timm_model().double()), x, TARGETS)
    with pytest.raises(BadModel, match="relevance rules change the scores of Overwriting by"):
        attn_lrp(probe)
