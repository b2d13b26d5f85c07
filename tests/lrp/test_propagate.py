"""The mode: what it passes, opens, counts and refuses."""

import gc
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gradtoken.errors import NoRule
from gradtoken.lrp import ABS_LRP, ATTN_LRP, CP_LRP, LIBRA, LRP_CONSERVATIVE, LRP_PUBLISHED, Rules
from gradtoken.lrp.propagate import plain
from gradtoken.record import Recorder
from tests import zoo
from tests.lrp.backward import close, numbers, pulled

PRESETS = {
    "attn_lrp": ATTN_LRP,
    "cp_lrp": CP_LRP,
    "libra": LIBRA,
    "published": LRP_PUBLISHED,
    "conservative": LRP_CONSERVATIVE,
    "abs_lrp": ABS_LRP,
}
x = numbers(2, 3, 4)


@pytest.fixture(params=PRESETS.values(), ids=PRESETS)
def preset(request):
    return request.param


@pytest.mark.parametrize(("op", "name"), [(torch.sin, "torch.sin"), (torch.Tensor.cumsum, "torch.Tensor.cumsum")])
def test_an_unknown_operation_is_refused_by_name(preset, op, name):
    with pytest.raises(NoRule, match=rf"no relevance rule for {name}; add a row .*{name}: rule"):
        pulled(preset, lambda x: op(x, *([1] if op is not torch.sin else [])), x)


def test_an_unknown_operation_may_be_added(preset):
    y, (dx,) = pulled({**preset, torch.sin: plain}, torch.sin, x)
    close(y, x.sin())
    close(dx, numbers(2, 3, 4, seed=9) * x.cos())


def test_an_unknown_operation_on_a_constant_is_passed(preset):
    with Rules(preset):
        assert (torch.sin(x) == x.sin()).all()
        assert torch.arange(3).cumsum(0).tolist() == [0, 1, 3]


def test_what_leaves_the_graph_is_passed(preset):
    with Rules(preset):
        e = x.clone().requires_grad_()
        assert e.shape == (2, 3, 4)
        assert e.argmax() == x.argmax()
        assert not e.detach().sin().requires_grad
        assert (e > 0).any()


def test_a_division_by_what_depends_on_the_input_is_refused(preset):
    with pytest.raises(NoRule, match="only norms may divide"):
        pulled(preset, lambda x: x / x.sum(), x)


def test_other_sums_of_products_are_refused(preset):
    with pytest.raises(NoRule, match=r"torch\.einsum\('bij,bij->b'\)"):
        pulled(preset, lambda x: torch.einsum("bij,bij->b", x, x), x)


def test_batch_norm_over_the_batch_is_refused():
    with pytest.raises(NoRule, match="mixes samples"):
        pulled(LIBRA, lambda x: F.batch_norm(x, x.mean((0, 2)), x.var((0, 2)), training=True), x)


# Attention ------------------------------------------------------------------------------------------------------------


def heads(seed, count=2, tokens=3):
    return numbers(2, count, tokens, 4, seed=seed)


MASKS = {
    "none": {},
    "causal": {"is_causal": True},
    "keeps": {"attn_mask": torch.tensor([[True, True, False], [True, True, True]])[:, None, None]},
    "added": {"attn_mask": numbers(2, 1, 3, 3, seed=5)},
    "hides": {"attn_mask": torch.tensor([[[[0.0, 0.0, -torch.inf]]]], dtype=torch.float64)},
    "scale": {"scale": 0.3},
}


@pytest.mark.parametrize("options", MASKS.values(), ids=MASKS)
def test_fused_attention_is_as_it_was(preset, options):
    q, k, v = heads(1), heads(2), heads(3)
    y, found = pulled(preset, lambda q, k, v: F.scaled_dot_product_attention(q, k, v, **options), q, k, v)
    close(y, F.scaled_dot_product_attention(q, k, v, **options))
    assert all(e.isfinite().all() for e in found)


def test_grouped_heads_are_repeated(preset):
    q, k, v = heads(1, 4), heads(2), heads(3)

    def grouped(q, k, v):
        return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)

    def repeated(q, k, v):
        return F.scaled_dot_product_attention(q, k.repeat_interleave(2, 1), v.repeat_interleave(2, 1))

    (y, found), (z, expected) = (pulled(preset, f, q, k, v) for f in (grouped, repeated))
    close(y, z)
    for a, b in zip(found, expected, strict=True):
        close(a, b)


@pytest.mark.parametrize(
    "equations", [("bhid,bhjd->bhij", "bhij,bhjd->bhid"), ("bhid, bhjd -> bhij", "bhij,bhjd->bihd")]
)
def test_einsum_is_a_matrix_product(preset, equations):
    q, k, v = heads(1), heads(2), heads(3)

    def summed(q, k, v):
        out = torch.einsum(equations[1], torch.einsum(equations[0], q, k).softmax(-1), v)
        return out if out.shape == v.shape else out.transpose(1, 2)

    found, expected = (pulled(preset, f, q, k, v) for f in (summed, lambda q, k, v: (q @ k.mT).softmax(-1) @ v))
    close(found[0], expected[0])
    for a, b in zip(found[1], expected[1], strict=True):
        close(a, b)


def test_multi_head_attention_is_opened(preset):
    net = nn.MultiheadAttention(4, 2, batch_first=True, dtype=torch.float64)
    y, (dx,) = pulled(preset, lambda x: net(x, x, x, need_weights=False)[0], x)
    close(y, net(x, x, x, need_weights=False)[0].detach())
    assert dx.any()


def test_a_recorder_inside_sees_the_operations_of_the_model(preset):
    net, pictures = zoo.timm_model().double(), zoo.pictures(zoo.PICTURES["class token"]).double()
    with Rules(preset), Recorder() as record:
        y = net(pictures.requires_grad_())
    assert len(record.calls) == 4
    close(y.detach(), net(pictures).detach())
    record.close()


def test_libra_calls_the_fused_operation_with_constant_queries_and_keys():
    seen = []

    class Outside(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, op, types, args=(), kwargs=None):
            if op is F.scaled_dot_product_attention:
                seen.append([e.requires_grad for e in args[:3]])
            return op(*args, **(kwargs or {}))

    leaf = x[:, None].clone().requires_grad_()
    with Outside(), Rules(LIBRA):
        F.scaled_dot_product_attention(leaf, leaf, leaf)
    assert seen == [[False, False, True]]


# Weights, state, memory -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [zoo.PICTURES["BEiT"].build, zoo.PICTURES["EVA, rotary"].build, zoo.torchvision_vit])
def test_weights_that_are_trained_are_still_constants(preset, build):
    """Layer scales, relative positions and latent queries are no operands that relevance is shared with."""
    net, pictures = build().double(), zoo.pictures(zoo.PICTURES["class token"], 1).double()

    def gradient():
        return pulled(preset, net, pictures, R=torch.eye(5, dtype=torch.float64)[:1])[1][0]

    trained = gradient()
    net.requires_grad_(False)
    close(trained, gradient())


def test_a_model_that_turns_gradients_off_is_not_asked(preset):
    def f(x):
        with torch.no_grad():
            return F.gelu(x)

    assert pulled(preset, f, x)[1][0].any()
    assert torch.is_grad_enabled()


def test_operations_in_place_give_the_same(preset):
    def in_place(x):
        y = F.linear(x, torch.eye(4).double())
        y += x
        y *= 2
        y -= 1
        return F.relu(y, inplace=True).add_(x)

    def outright(x):
        return F.relu((F.linear(x, torch.eye(4).double()) + x) * 2 - 1) + x

    (y, found), (z, expected) = (pulled(preset, f, x) for f in (in_place, outright))
    close(y, z)
    close(found[0], expected[0])


def test_nothing_is_kept_after_a_pass(preset):
    net, pictures = zoo.timm_model().double(), zoo.pictures(zoo.PICTURES["class token"], 1).double()
    seen = []

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, op, types, args=(), kwargs=None):
            out = op(*args, **(kwargs or {}))
            if op in (F.layer_norm, F.linear, F.gelu, torch.Tensor.add):
                seen.append(weakref.ref(out))
            return out

    def once():
        with Rules(preset), Watch():
            y = net(pictures.clone().requires_grad_())
        torch.autograd.grad(y.sum(), y, retain_graph=True)

    gc.collect()
    gc.disable()
    try:
        once()
    finally:
        gc.enable()
    assert len(seen) > 20
    assert not any(ref() is not None for ref in seen)
