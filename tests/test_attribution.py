"""The full call: shapes, targets, the state of the model before and after, and everything that must be refused."""

import dataclasses
import random
import threading

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gradtoken.attribution import attribute
from gradtoken.errors import BadModel, BadRelevance, BadTarget, NoAttention, NoGrid, UnknownName
from gradtoken.methods import METHODS
from gradtoken.models.vit import VisionTransformer
from gradtoken.probe import Probe
from tests import zoo


@pytest.fixture
def vit() -> nn.Module:
    torch.manual_seed(0)
    return zoo.shaken(VisionTransformer(classes=5, size=16, patch=4, width=16, depth=3, heads=2, hidden=32))


@pytest.fixture
def x() -> Tensor:
    return torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def signed(net: nn.Module, inputs: Tensor, target=0, **options) -> Tensor:
    return attribute(net, inputs, target, heads="mean", **options)


# Shapes and targets --------------------------------------------------------------------------------------------------


def test_targets(vit, x):
    predicted = vit(x).argmax(dim=1)
    torch.testing.assert_close(signed(vit, x, None), signed(vit, x, predicted))
    torch.testing.assert_close(signed(vit, x, 2), signed(vit, x, [2, 2, 2]))
    torch.testing.assert_close(signed(vit, x, lambda logits: logits[:, 2]), signed(vit, x, 2))
    assert signed(vit, x, [[0, 1]] * 3).shape == (3, 2, 4, 4)
    assert signed(vit, x, lambda logits: logits[:, :2]).shape == (3, 2, 4, 4)


def test_batch_is_independent(vit, x):
    together = signed(vit, x, [0, 1, 2])
    alone = [signed(vit, x[i : i + 1], [i]) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (5, "class indices from 0 to 4, got 5"),
        (-1, "class indices from 0 to 4, got -1"),
        ([0, 1], r"shape \(3,\) or \(3, k\) for a batch of 3, got \(2,\)"),
        ([], r"got \(0,\)"),
        ([[[0]]] * 3, r"got \(3, 1, 1\)"),
        ("cat", "class indices, got 'cat'"),
        (0.5, "class indices, got values of type"),
        (True, "class indices, got values of type torch.bool"),
        (lambda logits: logits.sum(), r"scores of shape \(3,\) or \(3, k\), got \(\)"),
        (lambda logits: 1.0, "got float"),
    ],
)
def test_bad_targets(vit, x, target, message):
    with pytest.raises(BadTarget, match=message):
        attribute(vit, x, target)


def test_indices_of_any_integer_type(vit, x):
    for kind in (np.uint8, np.uint16, np.int64):
        torch.testing.assert_close(signed(vit, x, np.array([2, 1, 0], dtype=kind)), signed(vit, x, [2, 1, 0]))


def test_unknown_method(vit, x):
    with pytest.raises(UnknownName, match="no method 'gradtokn'; did you mean 'gradtoken'"):
        attribute(vit, x, method="gradtokn")


def test_a_message_lists_every_method_and_counts_names_that_are_too_many(vit, x):
    with pytest.raises(UnknownName, match=rf"no method '\?'; known: {', '.join(METHODS)}$"):
        attribute(vit, x, method="?")
    assert str(UnknownName.among("class", "?", map(str, range(50)))).endswith("38, 39 and 10 more")


def test_one_method_at_a_time(vit, x):
    with pytest.raises(BadTarget, match=r"one method, got \['gradtoken'\]; gradtoken.compare takes several"):
        attribute(vit, x, method=["gradtoken"])


def returning(shape):
    def method(probe):
        """Ones."""
        return torch.ones(shape)

    return dataclasses.replace(METHODS["gradtoken"], call=method)


@pytest.mark.parametrize("target", [0, [[0, 1]] * 3])
def test_maps_of_pixels(vit, x, target, monkeypatch):
    K = () if target == 0 else (2,)
    monkeypatch.setitem(METHODS, "pixels", returning((3, *(K or (1,)), 16, 16)))
    assert attribute(vit, x, target, "pixels").shape == (3, *K, 16, 16)
    monkeypatch.setitem(METHODS, "pixels", returning((3, *(K or (1,)), 4, 4)))
    with pytest.raises(BadRelevance, match=r"to return relevance of shape \(3, ., 16\) or \(3, ., 16, 16\), got"):
        attribute(vit, x, target, "pixels")


def test_blank_and_broken_maps_of_pixels_are_refused(vit, x, monkeypatch):
    for value, message in ((0.0, r"\(sample, target\) \[\[1, 0\]\]: every value is zero"), (torch.inf, "not finite")):
        maps = torch.ones(3, 1, 16, 16)
        maps[1] = value
        entry = dataclasses.replace(METHODS["gradtoken"], call=lambda probe, maps=maps: maps)
        monkeypatch.setitem(METHODS, "pixels", entry)
        with pytest.raises(BadRelevance, match=message):
            attribute(vit, x, 0, "pixels")


# The model stays as it was -------------------------------------------------------------------------------------------


def state(net: nn.Module) -> dict[str, object]:
    return {
        "weights": {k: v.clone() for k, v in net.state_dict().items()},
        "grads": [p.grad for p in net.parameters()],
        "flags": [p.requires_grad for p in net.parameters()],
        "training": [m.training for m in net.modules()],
        "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in net.modules()],
        "attributes": [set(vars(m)) for m in net.modules()],
        "grad mode": torch.is_grad_enabled(),
        "random": (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()),
    }


def assert_same(before: dict[str, object], after: dict[str, object]) -> None:
    torch.testing.assert_close(before.pop("weights"), after.pop("weights"), rtol=0, atol=0)
    one, two = before.pop("random"), after.pop("random")
    assert torch.equal(one[0], two[0])
    assert one[1:] == two[1:]
    assert before == after


@pytest.mark.parametrize("training", [False, True])
def test_the_model_is_left_as_it_was(vit, x, training):
    vit.train(training)
    vit.blocks[1].eval()
    before, output = state(vit), vit(x)
    attribute(vit, x, 0, allow_blank=True)
    assert_same(before, state(vit))
    assert torch.equal(vit(x), output)


def test_the_model_is_left_as_it_was_after_an_error(vit, x):
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.drop = vit, nn.Dropout(0.5)

        def forward(self, x: Tensor) -> Tensor:
            self.drop(self.net(x) + torch.rand(5))
            raise RuntimeError("broken on purpose")

    broken = Broken().train()
    before = state(broken)
    with pytest.raises(RuntimeError, match="broken on purpose"):
        attribute(broken, x, 0)
    assert_same(before, state(broken))


def test_output_with_us_is_the_output(vit, x):
    torch.testing.assert_close(Probe(vit, x, 0).logits, vit(x).detach(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_grad_modes(vit, x, mode):
    expected = signed(vit, x)
    with mode():
        torch.testing.assert_close(signed(vit, x.clone()), expected)
        assert torch.is_inference_mode_enabled() == (mode is torch.inference_mode)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_inputs_made_in_a_mode_without_gradients(vit, x, mode):
    with mode():
        ours = signed(vit, x.clone())  # the first run of this model, which builds the whole graph
    torch.testing.assert_close(ours, signed(vit, x))


def test_inputs_are_left_as_they_were(vit, x):
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = vit

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x.sub_(0.5).div_(0.5))

    given = x.clone().requires_grad_()
    for _ in range(2):
        torch.testing.assert_close(signed(Scaled(), given), signed(vit, (x - 0.5) / 0.5))
    assert torch.equal(given, x)
    assert given.grad is None


def test_frozen_weights(vit, x):
    expected = signed(vit, x)
    torch.testing.assert_close(signed(vit.requires_grad_(False), x), expected)


def test_weights_made_in_inference_mode(x):
    with torch.inference_mode():
        net = VisionTransformer(classes=5, size=16, patch=4, width=16, depth=2, heads=2, hidden=32)
    with pytest.raises(BadModel, match="inference mode"):
        attribute(net, x, 0)


@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiled_modules_explain_the_original(vit, x):
    expected = signed(vit, x)
    torch.testing.assert_close(signed(torch.compile(vit, backend="eager"), x), expected)
    vit.blocks[1] = torch.compile(vit.blocks[1], backend="eager")
    vit(x)
    torch.testing.assert_close(signed(vit, x), expected)
    vit.compile(backend="eager")
    vit(x)
    torch.testing.assert_close(signed(vit, x), expected)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 0.1), (torch.float16, 0.02), (torch.float64, 1e-4)])
def test_precisions(vit, x, dtype, bound):
    expected = signed(vit, x)
    ours = signed(vit.to(dtype), x.to(dtype))
    assert ours.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert (ours - expected).abs().max() < bound * expected.abs().max()


def test_autocast(vit, x):
    expected = signed(vit, x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = signed(vit, x)
    assert (ours - expected).abs().max() < 0.1 * expected.abs().max()


def test_threads_wait_for_each_other(vit, x):
    """A model that trains is in evaluation mode for each thread, and trains again at the end."""
    net = nn.Sequential(nn.Dropout(0.5), vit).train()
    expected, wrong = signed(vit.eval(), x), []
    net.train()

    def work() -> None:
        wrong.extend(1 for _ in range(8) if not torch.allclose(signed(net, x), expected, atol=1e-5))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for step in (threading.Thread.start, threading.Thread.join):
        for thread in threads:
            step(thread)
    assert not wrong
    assert all(module.training for module in net.modules())


def test_a_target_may_explain_too(vit, x):
    def target(logits: Tensor) -> Tensor:
        signed(vit, x, 1)
        return logits[:, 0]

    torch.testing.assert_close(signed(vit, x, target), signed(vit, x, 0))


def test_nothing_is_kept(vit, x):
    import gc
    import weakref

    probe = Probe(vit, x, 0)
    seen = [weakref.ref(probe), weakref.ref(probe.calls[0].q)]
    gc.disable()
    try:
        del probe
        assert [ref() for ref in seen] == [None, None]  # freed at once, not at the next collection
    finally:
        gc.enable()


def test_a_model_that_takes_another_path(x):
    class Moody(Attentive):
        twice = True

        def mix(self, x: Tensor) -> Tensor:
            return super().mix(super().mix(x)) if self.twice else super().mix(x)

    net = Moody()
    signed(net, x)
    net.twice = False
    once = Attentive()
    once.load_state_dict(net.state_dict())
    torch.testing.assert_close(signed(net, x), signed(once, x))


# What cannot be explained --------------------------------------------------------------------------------------------


class Patches(nn.Module):
    """4 x 4 patches of 4 pixels as tokens of width 16; subclasses say what is done with them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.head = nn.Conv2d(3, 16, 4, stride=4), nn.Linear(16, 5)

    def tokens(self, x: Tensor) -> Tensor:
        return self.embed(x).flatten(2).mT

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mix(self.tokens(x)).mean(dim=1))

    def mix(self, x: Tensor) -> Tensor:
        return x


class Attentive(Patches):
    def mix(self, x: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None])[:, 0]


class Unused(Attentive):
    def mix(self, x: Tensor) -> Tensor:
        super().mix(x)
        return x


class Shuffled(Attentive):
    def mix(self, x: Tensor) -> Tensor:
        return super().mix(x[:, torch.randperm(16, generator=torch.Generator().manual_seed(0))])


class Windows(Attentive):
    def mix(self, x: Tensor) -> Tensor:
        return super().mix(x.reshape(-1, 4, 16)).reshape(x.shape)


class Channels(Attentive):
    def mix(self, x: Tensor) -> Tensor:
        return super().mix(x.mT[:, :7]).mT.repeat(1, 1, 3)[..., :16]


@pytest.mark.parametrize(
    ("net", "error", "message"),
    [
        (Patches, NoAttention, "Patches computed no attention that can be seen"),
        (Unused, NoAttention, "the last of 1 attentions of Unused does not reach the explained score"),
        (Shuffled, NoGrid, "the tokens are not the patches row by row"),
        (Windows, NoAttention, r"works on \(12, 1, 4, 16\), not on the tokens of 3 inputs"),
        (Channels, NoGrid, "the tokens are not the patches row by row"),
    ],
)
def test_models_that_cannot_be_explained(net, error, message, x):
    with pytest.raises(error, match=message):
        attribute(net(), x, 0)


def test_a_model_without_classifier(x):
    class Features(Attentive):
        def forward(self, x: Tensor) -> Tensor:
            return self.mix(self.tokens(x))

    with pytest.raises(BadTarget, match=r"logits of shape \(batch, classes\), got \(3, 16, 16\); give a target"):
        attribute(Features(), x, 0)
    assert attribute(Features(), x, lambda tokens: tokens[:, :, 0].mean(dim=1), heads="mean").shape == (3, 4, 4)


def test_not_finite(vit, x):
    vit.norm.weight.data[3] = torch.nan
    with pytest.raises(BadModel, match="output is not finite; look for NaN in its weights"):
        attribute(vit, x, 0)


def test_a_map_of_zeros_is_an_error_unless_allowed(vit, x):
    biased = vit.requires_grad_(False)
    for block in biased.blocks:  # a large bias on every key gives every token of a head one sign
        block.attn.qkv.bias[16:32] = 100.0
    maps = [attribute(biased, x[:1], c, allow_blank=True) for c in range(5)]
    blank = [c for c, relevance in enumerate(maps) if not relevance.any()]
    assert blank
    with pytest.raises(BadRelevance, match=r"found no token that speaks for \(sample, target\) \[\[0, 0\]\]"):
        attribute(biased, x[:1], blank[0])


def test_pictures_of_another_size_are_learnt_anew(vit):
    class AnySize(Attentive):
        pass

    net = AnySize()
    for H, W in ((16, 16), (8, 24), (4, 4 * 9), (16, 16)):
        assert signed(net, torch.randn(2, 3, H, W)).shape == (2, H // 4, W // 4)


# Models that decide about gradients themselves ------------------------------------------------------------------------


@pytest.mark.parametrize("off", [torch.no_grad(), lambda f: f])
def test_models_without_gradients_or_with_checkpoints(vit, x, off):
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = vit

        def forward(self, x: Tensor) -> Tensor:
            return off(self.steps)(x)

        def steps(self, x: Tensor) -> Tensor:
            h = self.net.embed(x)
            for block in self.net.blocks:
                h = checkpoint(block, h, use_reentrant=False)
            return self.net.head(self.net.norm(h)[:, 0])

    net = Own()
    for _ in range(2):
        torch.testing.assert_close(signed(net, x), signed(vit, x))


def test_reentrant_checkpoints_are_refused(vit, x):
    vit.blocks.forward = lambda h: checkpoint(vit.blocks[2], vit.blocks[1](vit.blocks[0](h)), use_reentrant=True)
    with pytest.raises(NoAttention, match="reentrant checkpoints"):
        attribute(vit, x, 0)


def test_added_columns_of_scores_are_refused(x):
    class Sink(Attentive):
        def mix(self, x: Tensor) -> Tensor:
            x = super().mix(x)
            O = torch.cat([x @ x.mT, torch.zeros(len(x), 16, 1)], dim=-1)
            return O.softmax(dim=-1)[..., :-1] @ x

    with pytest.raises(NoAttention, match="uses it in another way"):
        attribute(Sink(), x, 0)


def test_pictures_of_bytes_are_refused(vit):
    with pytest.raises(BadTarget, match=r"bytes \(uint8\); give them as the floating numbers"):
        attribute(vit, torch.zeros(1, 3, 16, 16, dtype=torch.uint8), 0)


def test_attentions_over_the_same_keys_and_values_are_all_seen(x):
    class Twice(Attentive):
        def mix(self, x: Tensor) -> Tensor:
            k = v = x[:, None]
            once = nn.functional.scaled_dot_product_attention(k, k, v)
            return nn.functional.scaled_dot_product_attention(once, k, v)[:, 0]

    assert len(Probe(Twice(), x, 0).calls) == 2


def test_the_default_device_does_not_matter(vit, x):
    with torch.device("meta"):
        ours = signed(vit, x)
    torch.testing.assert_close(ours, signed(vit, x))
