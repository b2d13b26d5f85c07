"""Activation maximisation: the objective against its naive form, the steps, and the feature found in any model."""

import copy

import pytest
import torch
from torch import nn

from gradtoken.errors import BadModel, BadTarget
from gradtoken.maximising import Neurons, augmented, maximise_activation, total_variation
from gradtoken.progress import showing
from tests import zoo
from tests.methods.test_tis import Placed
from tests.reference import maximisation as oracle


def subject(name="class token", batch=8):
    found = zoo.PICTURES[name]
    return found.build().double(), zoo.pictures(found, batch).double()


@pytest.mark.parametrize("name", ["class token", "no prefix, mean", "not square"])
def test_the_feature_is_that_of_the_reference(name):
    net, x = subject(name)
    for block, feature in ((0, 3), (2, 63), (3, 0)):
        expected = oracle.feature_mean(net, x, block, feature)
        torch.testing.assert_close(Neurons(net, x[:1], block, feature).mean(x), expected)
    assert Neurons(net, x[:1], -1, 5).block == 3


def test_total_variation():
    x = torch.rand(2, 3, 8, 9, dtype=torch.float64)
    torch.testing.assert_close(total_variation(x), oracle.total_variation(x))
    assert total_variation(torch.full((2, 3, 8, 9), 0.4)) == 0


def test_augmentations():
    x = torch.rand(3, 50, 70, dtype=torch.float64)
    draw, one = torch.Generator().manual_seed(4), (8, 3, 1, 1)
    mu, log_sd = (2 * torch.rand(one, generator=draw) - 1 for _ in range(2))
    e, shift = torch.randn(one, generator=draw), torch.randint(-32, 33, (2,), generator=draw).tolist()
    expected = oracle.augmented(x[None], mu.double(), log_sd.double(), e.double(), 0.5 * 0.3, tuple(shift))
    found = augmented(x, 0.3, as_coded=True, source=torch.Generator().manual_seed(4))
    torch.testing.assert_close(found, expected)
    assert (augmented(x, 0.3, False, torch.Generator()) - augmented(x, 0.0, False, torch.Generator())).std() > 0.1


@pytest.mark.parametrize("as_coded", [False, True])
def test_steps(as_coded):
    """The same steps with the naive objective, the feature read by a hook, and a rate set by hand."""
    net, _ = subject()
    active, naive = [], copy.deepcopy(net)
    naive.blocks[1].mlp.act.register_forward_hook(lambda module, args, out: active.append(out[:, 1:, 7].mean()))
    source, steps, losses = torch.Generator().manual_seed(0), 4, []
    x = torch.rand(3, 16, 16, generator=source).double().requires_grad_()
    adam = torch.optim.Adam([x], betas=(0.5, 0.99))
    for step in range(steps):
        a = augmented(x, oracle.offset_level(step, steps) / 0.5, as_coded, source)
        naive(a)
        loss = 0.0005 * 0.3 * oracle.total_variation(a) - active[-1] / (8 if as_coded else 1)
        torch.testing.assert_close(loss.detach(), -oracle.objective(net, a.detach(), 1, 7, v=0.3, diag=as_coded))
        (x.grad,) = torch.autograd.grad(loss, x)
        adam.param_groups[0]["lr"] = oracle.learning_rate(step, steps)
        adam.step()
        x.data.clamp_(0, 1)
        losses.append(loss.detach())
    found = maximise_activation(net, 1, 7, size=16, steps=steps, tv=0.3, as_coded=as_coded)
    torch.testing.assert_close(found.losses, torch.stack(losses))
    torch.testing.assert_close(found.picture, x.detach())


def test_the_feature_becomes_active():
    net, _ = subject()
    found = maximise_activation(net, 1, 7, size=16, steps=60, tv=0.0)
    assert found.losses[-10:].mean() < found.losses[:10].mean()
    assert found.picture.shape == (3, 16, 16)
    assert 0 <= found.picture.min() < found.picture.max() <= 1
    start = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0)).double()
    neurons = Neurons(net, start[None], 1, 7)
    assert neurons.mean(found.picture[None]) > neurons.mean(start[None])


def test_a_large_weight_of_the_variation_leaves_a_plain_picture():
    net, _ = subject()
    found = maximise_activation(net, 1, 7, size=16, steps=60, tv=1e5)
    assert total_variation(found.picture[None]) < 0.05 * total_variation(torch.rand(1, 3, 16, 16))


def test_is_that_of_the_generator_and_leaves_the_model_alone():
    net, _ = subject()
    net.train()
    state = torch.random.get_rng_state()
    seeds = (0, 1, 1, None)
    sources = [None if seed is None else torch.Generator().manual_seed(seed) for seed in seeds]
    with torch.no_grad():
        zero, one, again, default = (
            maximise_activation(net, 0, 2, size=16, steps=3, generator=source).picture for source in sources
        )
    assert torch.equal(one, again)
    assert torch.equal(zero, default)
    assert not torch.equal(zero, one)
    assert all(module.training for module in net.modules())
    assert all(p.grad is None for p in net.parameters())
    assert torch.equal(state, torch.random.get_rng_state())


def test_shows_progress():
    shown = []

    def show(steps, what):
        shown.append((what, len(steps)))
        return steps

    net, _ = subject()
    with showing(show):
        maximise_activation(net, 0, 2, size=16, steps=3)
    assert ("steps", 3) in shown


# Models --------------------------------------------------------------------------------------------------------------


class QuickGELU(nn.Module):
    """An activation written by hand."""

    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


BUILDS = {
    **{name: zoo.PICTURES[name].build for name in ("distilled", "registers, mean", "attention pooling", "EVA, rotary")},
    "activation by hand": lambda: zoo.timm_model(act_layer=QuickGELU),
    "gated": lambda: zoo.timm_model("eva.Eva", swiglu_mlp=True, use_rot_pos_emb=True),
    "norm after the sum": lambda: zoo.timm_model(
        block_fn=pytest.importorskip("timm.models.vision_transformer").ResPostBlock
    ),
}


@pytest.mark.parametrize("block", [1, 3])
@pytest.mark.parametrize("name", BUILDS)
def test_the_feature_is_what_the_last_projection_of_the_mlp_reads(name, block):
    net, x = BUILDS[name]().double(), zoo.pictures(zoo.PICTURES["class token"], 2).double()
    read = []
    hook = net.blocks[block].mlp.fc2.register_forward_pre_hook(lambda module, args: read.append(args[0]))
    net(x)
    hook.remove()
    neurons = Neurons(net, x[:1], block, 0)
    assert torch.equal(neurons.values(x), read[0][:, neurons.probe.layout.first :])


@pytest.mark.parametrize("name", ["torchvision", "transformers"])
def test_other_models(name):
    net, x = subject(name)
    assert Neurons(net, x[:1], 2, 0).values(x).shape == (8, 16, 32)


def test_half_precision():
    net, x = subject()
    expected = Neurons(net, x[:1], 2, 5).mean(x)
    found = maximise_activation(net.bfloat16(), 2, 5, size=16, steps=2)
    assert found.picture.dtype == found.losses.dtype == torch.float32
    torch.testing.assert_close(Neurons(net, x[:1], 2, 5).mean(x), expected, rtol=0.1, atol=0.1)


def test_refusals():
    net, _ = subject()
    with pytest.raises(BadTarget, match="expected a block from 0 to 3, got 4"):
        maximise_activation(net, 4, 0, size=16)
    with pytest.raises(BadTarget, match="expected a feature from 0 to 63, got 64"):
        maximise_activation(net, 0, 64, size=16)
    with pytest.raises(BadTarget, match="at least 1 step, got 0"):
        maximise_activation(net, 0, 0, size=16, steps=0)
    with pytest.raises(BadModel, match="has 0 projections after its attention; expected an MLP"):
        maximise_activation(zoo.shaken(Placed("not at all")), 0, 0, size=16)
