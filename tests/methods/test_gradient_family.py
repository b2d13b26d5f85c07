"""What must hold for methods made of gradients by tokens and features, and for Libra."""

from itertools import pairwise
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gradtoken import readout
from gradtoken.errors import BadTarget, UnknownName
from gradtoken.lrp.presets import LIBRA
from gradtoken.lrp.propagate import Rules
from gradtoken.methods import METHODS, attcat, grad_eclip, libra
from gradtoken.methods.class_embedding_projection import class_identifiability
from gradtoken.probe import Probe
from gradtoken.readout import visible
from tests import zoo

TARGET = torch.tensor([[0, 3], [1, 4]])
CLASS_TOKEN, POOLED = zoo.PICTURES["class token"], zoo.PICTURES["no prefix, mean"]
ATTENTION_POOLING = zoo.PICTURES["attention pooling"]
LAYER_SCALE = zoo.Subject(lambda: zoo.timm_model(init_values=0.1), 1, (4, 4))


def probe_of(subject: zoo.Subject, target=TARGET) -> Probe:
    torch.manual_seed(0)
    return Probe(subject.build().double(), zoo.pictures(subject).double(), target)


def text_of(build, target=TARGET) -> Probe:
    torch.manual_seed(0)
    return Probe(build().double(), zoo.TEXT, target)


def run(name: str, probe: Probe, **options) -> Tensor:
    return METHODS[name].bind(options)(probe)


def close(a: Tensor, b: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(a, b, atol=tolerance * max(b.abs().max().item(), 1e-30), rtol=0)


# AttCAT ---------------------------------------------------------------------------------------------------------------


def test_attcat_weighs_directional_derivatives_with_attention_that_is_received(monkeypatch):
    probe, eps = probe_of(POOLED), 1e-5
    for block in (0, 2):
        up, down = (probe.score(edits={("x", block): lambda x, s=s: (1 + s * eps) * x}) for s in (1, -1))
        received = attcat.average_rows(probe.attention[block], readout.present(probe, 16))
        close(received.sum(dim=1), torch.ones(2, dtype=torch.float64))
        with monkeypatch.context() as patch:
            patch.setattr(attcat, "average_rows", lambda _, row: torch.ones_like(row))
            close(attcat.block_map(probe, block).sum(dim=2), (up - down) / (2 * eps), 1e-5)


# Class-embedding projection -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gradient", ["cross_entropy", "logit"])
def test_the_projection_of_branches_is_what_the_head_makes_of_them(gradient):
    probe = probe_of(CLASS_TOKEN)
    net, total = probe.net, 0
    for block in range(4):
        node = probe.plain.node("branch", block).raw
        logits = net.head(net.norm(node))[:, 0]
        logits = logits.softmax(dim=1).log_softmax(dim=1) if gradient == "cross_entropy" else logits
        for_each = []
        for k in range(2):
            y = logits.gather(1, TARGET[:, k : k + 1]).sum()
            (dZ,) = torch.autograd.grad(y, probe.plain.node("Z", block).raw, retain_graph=True)
            for_each.append((dZ[:, :, :1] @ probe.plain.value("v", block).mT).sum(dim=1)[:, 0, 1:])
        total = total + torch.stack(for_each, dim=1)
    close(run("class_embedding_projection", probe, gradient=gradient), total)


def test_options_of_the_projection_are_checked():
    with pytest.raises(UnknownName, match="no gradient 'logits'; did you mean 'logit'"):
        run("class_embedding_projection", probe_of(CLASS_TOKEN), gradient="logits")
    with pytest.raises(BadTarget, match="reads class probabilities"):
        run("class_embedding_projection", probe_of(CLASS_TOKEN, lambda logits: logits[:, 0]))


@pytest.mark.parametrize("name", ["no prefix, mean", "registers, mean", "distilled", "torchvision"])
def test_what_is_read_from_the_last_token_alone_is_read_as_the_head_would(name):
    """A token in every place is read alone: where all tokens are equal the rank is that of the model's own logits."""
    subject = zoo.PICTURES[name]
    torch.manual_seed(0)
    net, x = subject.build().double(), zoo.pictures(subject).double()
    probe = Probe(net, x, TARGET)
    found = class_identifiability(net, x, TARGET)
    assert found.shape == (2, 2, 4, probe.last.shape[2])
    token = probe.plain.value("out", 3)[:, 5:6]
    scores = probe.run(edits={("out", -1): lambda like: token.expand(-1, like.shape[1], -1)}).logits
    rank = (scores[:, None] > scores.gather(1, TARGET)[..., None]).sum(dim=2)
    assert torch.equal(found[:, :, 3, 5], 1 - rank / 5.0)


# LeGrad ---------------------------------------------------------------------------------------------------------------


def test_legrad_adds_blocks_up_and_scales_with_the_score():
    probe, triple = probe_of(CLASS_TOKEN), probe_of(CLASS_TOKEN, lambda logits: 3 * logits.gather(1, TARGET))
    maps = [run("legrad", probe, layers=layers) for layers in (1, 2, 3, 4)]
    assert all((later >= earlier).all() for earlier, later in pairwise(maps))
    assert torch.equal(maps[1], run("legrad", probe))
    assert torch.equal(maps[3], run("legrad", probe, layers="all"))
    assert torch.equal(maps[3], run("legrad", probe, layers=9))
    close(run("legrad", triple), 3 * maps[1])
    for layers in (0, -1, 1.5, "some"):
        with pytest.raises(BadTarget, match="expected layers as a number of blocks from 1 on, or 'all', got"):
            run("legrad", probe, layers=layers)


def test_legrad_under_an_attention_pooling_reads_each_block_with_it():
    probe = probe_of(ATTENTION_POOLING)
    pool, total = probe.net.attn_pool, 0
    for block in (2, 3):
        out = probe.plain.value("out", block)
        again = probe.run(edits={("out", -1): lambda _, out=out: out})
        close(again.logits.detach(), probe.net.head(probe.net.fc_norm(pool(probe.net.norm(out)))).detach())
        total = total + again.dA(4).clamp(min=0).mean(dim=(2, 3))
    close(run("legrad", probe), total)


def test_what_a_causal_model_cannot_see_is_no_part_of_the_mean():
    probe = text_of(zoo.llama)
    seen = visible(probe.last, 0, 6)
    assert torch.equal(seen, probe.plain.A(2) > 0)
    assert not seen[0, 0].triu(1).any()


# Grad-ECLIP -----------------------------------------------------------------------------------------------------------


def test_grad_eclip_without_clip_and_loose_attention_adds_up_over_the_attention():
    """Sum over all tokens of A_0i (w . v_i) = w . o, with one head."""
    probe = probe_of(CLASS_TOKEN)
    one = grad_eclip.one_head(probe)
    w, o = one.gradient("Z", 3)[:, :, :, 0], one.value("Z", 3)[:, None, :, 0]
    q, k, v = (x.transpose(1, 2).flatten(2) for x in (probe.last.q, probe.last.k, probe.plain.value("v", 3)))
    A = (q[:, :1] @ k.mT * 8**-0.5).softmax(dim=-1)
    close((A @ v)[:, 0], o[:, 0].flatten(1))
    R = torch.einsum("bkhd,bhid->bki", w, probe.plain.value("v", 3))
    close((A * R).sum(dim=2), (w * o).sum(dim=(2, 3)))
    close(run("grad_eclip", probe, official=True, similarity=False), R[..., 1:].clamp(min=0))


def test_grad_eclip_with_one_head_is_the_official_form():
    probe = probe_of(zoo.Subject(lambda: zoo.timm_model(num_heads=1), 1, (4, 4)))
    close(run("grad_eclip", probe, official=True), run("grad_eclip", probe))
    text = text_of(lambda: zoo.bert())
    lam = grad_eclip.loose_attention(text)
    assert (lam[1, 1:4].min(), lam[1, 1:4].max()) == (0, 1)  # over tokens that are neither padding nor the class token


def test_grad_eclip_has_an_official_form_under_an_attention_pooling():
    probe = probe_of(ATTENTION_POOLING)
    one = grad_eclip.one_head(probe)
    assert one.value("Z", 4).shape == (2, 2, 1, 8)
    assert run("grad_eclip", probe, official=True).shape == (2, 2, 16)


# GradCAM on features --------------------------------------------------------------------------------------------------


def test_features_that_one_tensor_gives_to_q_k_and_v_have_the_gradient_by_all_three():
    probe = probe_of(zoo.PICTURES["torchvision"])
    kept = []
    hook = probe.net.encoder.layers[-1].ln_1.register_forward_hook(lambda *args: kept.append(args[2]))
    logits = probe.net(probe.grid).gather(1, TARGET)
    hook.remove()
    X = kept[0].detach()[:, 1:].mT
    for k in range(2):
        (dX,) = torch.autograd.grad(logits[:, k].sum(), kept, retain_graph=True)
        w = dX[:, 1:].mean(dim=1, keepdim=True)
        close(run("gradcam_features", probe)[:, k], (w @ X)[:, 0].clamp(min=0))


# Input x gradient -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subject", [CLASS_TOKEN, POOLED, LAYER_SCALE, ATTENTION_POOLING])
def test_input_x_gradient_is_that_of_autograd(subject):
    probe = probe_of(subject)
    x = probe.grid.clone().requires_grad_()
    logits = probe.net(x).gather(1, TARGET)
    for k in range(2):
        (g,) = torch.autograd.grad(logits[:, k].sum(), x, retain_graph=True)
        close(run("input_x_gradient", probe)[:, k], (x * g).sum(dim=1).detach())


# Libra ----------------------------------------------------------------------------------------------------------------


class Biases(TorchFunctionMode):
    """Keeps (output, bias) of every operation with a bias; weights of norms are no biases."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = []

    def __torch_function__(self, op, types, args=(), kwargs=None):
        out = op(*args, **(kwargs or {}))
        place = {F.linear: 2, F.layer_norm: 3}.get(op)
        bias = None if place is None else (kwargs or {}).get("bias", args[place] if len(args) > place else None)
        if bias is not None:
            self.kept.append((out, bias.detach()))
        return out


@pytest.mark.parametrize("subject", [CLASS_TOKEN, POOLED, LAYER_SCALE], ids=["class token", "mean", "layer scale"])
def test_fullgrad_is_input_and_biases_times_their_gradients(subject):
    """Summed at each token of all blocks; with the biases of the head that is the logit."""
    probe = probe_of(subject)
    net, x = probe.net, probe.plain.value("x", 0).requires_grad_()
    biases = Biases()
    with Rules(LIBRA), biases:
        logits = net.forward_head(net.norm(net.blocks(x))).gather(1, TARGET)
    ours = run("libra", probe, of="fullgrad", score="logit")
    of_blocks = 4 * 6  # two norms, qkv, proj, fc1, fc2
    for k in range(2):
        outs = [x, *(out for out, _ in biases.kept)]
        gx, *grads = torch.autograd.grad(logits[:, k].sum(), outs, retain_graph=True)
        shares = [(g * bias).sum(dim=-1) for g, (_, bias) in zip(grads, biases.kept, strict=True)]
        tokens = (x * gx).sum(dim=-1) + sum(shares[:of_blocks])
        close(ours[:, k], tokens[:, subject.first :].detach())
        total = tokens.sum(dim=1) + sum(share.reshape(2, -1).sum(dim=1) for share in shares[of_blocks:-1]) + shares[-1]
        close(total, logits[:, k])


def test_without_biases_fullgrad_is_input_x_gradient_and_sums_to_the_logit():
    probe = text_of(zoo.llama)
    R = run("libra", probe, of="fullgrad", score="logit")
    close(run("libra", probe, score="logit"), R, 1e-5)  # the model's norms compute in float32
    close(R.sum(dim=2), probe.scores, 1e-5)


@pytest.mark.parametrize("method", [name for name in get_args(libra.Method) if name != "fullgrad"])
def test_libra_is_the_method_on_a_balanced_pass(method):
    probe = probe_of(CLASS_TOKEN)
    before = run(method, probe)
    balanced = run("libra", probe, of=method)
    assert not torch.allclose(balanced, before)
    assert torch.equal(run(method, probe), before)  # the plain pass is untouched
    close(balanced, run(method, probe.under(Rules(LIBRA), probability=True)))


def test_options_of_libra_are_checked():
    probe = probe_of(CLASS_TOKEN)
    with pytest.raises(UnknownName, match="no gradient method 'agcam'; did you mean 'gradcam'"):
        run("libra", probe, of="agcam")
    with pytest.raises(UnknownName, match="no score 'logits'; did you mean 'logit'"):
        run("libra", probe, score="logits")
    with pytest.raises(BadTarget, match="reads class probabilities"):
        run("libra", probe_of(CLASS_TOKEN, lambda logits: logits[:, 0]))
