"""Each rule that modifies a gradient against the formula, written out naively."""

import math

import pytest
import torch
import torch.nn.functional as F

from gradtoken.lrp import ATTN_LRP, CP_LRP, LIBRA, Rules
from gradtoken.lrp.presets import with_gamma
from tests.lrp.backward import close, numbers, pulled

GRADIENTS = {"attn_lrp": ATTN_LRP, "cp_lrp": CP_LRP, "libra": LIBRA}
x, w, b = numbers(2, 3, 4), numbers(4, seed=1), numbers(4, seed=2)
g = numbers(2, 3, 4, seed=9)


@pytest.fixture(params=GRADIENTS.values(), ids=GRADIENTS)
def preset(request):
    return request.param


def test_layer_norm_has_a_constant_deviation(preset):
    y, (dx,) = pulled(preset, lambda x: F.layer_norm(x, (4,), w, b, 1e-6), x)
    close(y, F.layer_norm(x, (4,), w, b, 1e-6))
    sigma = (x.var(-1, correction=0, keepdim=True) + 1e-6).sqrt()
    centre = torch.eye(4) - torch.ones(4, 4) / 4
    close(dx, (g * w / sigma) @ centre.double())


def test_rms_norm_has_a_constant_root_mean_square(preset):
    y, (dx,) = pulled(preset, lambda x: F.rms_norm(x, (4,), w, 1e-6), x)
    rms = (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    close(y, x / rms * w)
    close(dx, g * w / rms)


@pytest.mark.parametrize(
    "norm",
    [
        lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * w,
        lambda x: w * (x * (x.square().mean(-1, keepdim=True) + 1e-6).pow(-0.5)),
        lambda x: x / torch.sqrt((x**2).mean(-1, keepdim=True) + 1e-6) * w,
    ],
)
def test_a_norm_written_by_hand_is_one(preset, norm):
    close(pulled(preset, norm, x)[1][0], pulled(preset, lambda x: F.rms_norm(x, (4,), w, 1e-6), x)[1][0])


def test_a_unit_vector_has_a_constant_norm(preset):
    for unit in (lambda x: F.normalize(x, dim=-1), lambda x: x / x.norm(dim=-1, keepdim=True)):
        y, (dx,) = pulled(preset, unit, x)
        close(y, x / x.square().sum(-1, keepdim=True).sqrt())
        close(dx, g / x.square().sum(-1, keepdim=True).sqrt())


@pytest.mark.parametrize(
    "f", [F.gelu, F.silu, F.relu, torch.tanh, torch.sigmoid, F.softplus, F.leaky_relu, torch.square]
)
def test_an_activation_hands_relevance_on_unchanged(f):
    for preset in (ATTN_LRP, CP_LRP):
        y, (dx,) = pulled(preset, f, x)
        close(y, f(x))
        close(dx * x, g * y, 1e-8)


def test_the_secant_of_gelu_is_phi_and_that_of_silu_the_logistic_function():
    points = torch.tensor([-3.0, -1e-9, 0.0, 1e-12, 0.5, 4.0], dtype=torch.float64)
    for f, slope in (
        (F.gelu, lambda x: 0.5 * (1 + torch.erf(x / math.sqrt(2)))),
        (F.silu, torch.sigmoid),
        (torch.tanh, lambda x: (torch.tanh(x) / x).where(x != 0, 1)),
    ):
        y, (dx,) = pulled(LIBRA, f, points, R=torch.ones(6, dtype=torch.float64))
        close(y, f(points))
        close(dx, slope(points), 1e-5)


def test_a_product_gives_half_to_each_factor(preset):
    c = numbers(2, 3, 4, seed=3)
    for product in (lambda x, y: x * y, torch.mul, lambda x, y: x.mul(y)):
        _, (dx, dc) = pulled(preset, product, x, c)
        close(dx, g * c / 2)
        close(dc, g * x / 2)


def test_a_constant_factor_takes_none(preset):
    for scaled in (lambda x: x * w, lambda x: w * x, lambda x: x / (1 / w)):
        close(pulled(preset, scaled, x)[1][0], g * w)


def test_softmax_of_attn_lrp():
    """R_i = x_i (R_i - s_i sum_j R_j), with R the relevance of s (eq. 13 of AttnLRP)."""
    y, (dx,) = pulled(ATTN_LRP, lambda x: x.softmax(-1), x)
    R = g * y
    close(x * dx, x * (R - y * R.sum(-1, keepdim=True)))


def test_a_matrix_product_of_attn_lrp_is_split_evenly():
    """R_A[j, i] = sum_p A_ji v_ip R_jp / (2 O_jp), and R = activation times gradient."""
    A, v = numbers(1, 3, 4), numbers(1, 4, 2, seed=1)
    Z, (dA, dv) = pulled(ATTN_LRP, torch.matmul, A, v)
    R = numbers(1, 3, 2, seed=9) * Z
    close(A * dA, torch.einsum("bji,bip,bjp->bji", A, v, R / (2 * Z)))
    close(v * dv, torch.einsum("bji,bip,bjp->bip", A, v, R / (2 * Z)))


def heads(seed):
    return numbers(2, 2, 3, 4, seed=seed)


def by_hand(q, k, v):
    return ((q @ k.transpose(-1, -2)) / 2).softmax(-1) @ v


@pytest.mark.parametrize("attend", [F.scaled_dot_product_attention, by_hand])
def test_attention_of_attn_lrp_is_two_nested_halves(attend):
    q, k, v = heads(1), heads(2), heads(3)
    y, (dq, dk, dv) = pulled(ATTN_LRP, attend, q, k, v)
    x = [e.requires_grad_() for e in (q, k, v)]
    plain = torch.autograd.grad(by_hand(*x), x, numbers(2, 2, 3, 4, seed=9))
    close(y, by_hand(q, k, v).detach())
    for found, expected, share in zip((dq, dk, dv), plain, (0.25, 0.25, 0.5), strict=True):
        close(found, share * expected)


@pytest.mark.parametrize("attend", [F.scaled_dot_product_attention, by_hand])
def test_a_constant_query_takes_no_share_of_attn_lrp(attend):
    """A pooling query that is a weight: v keeps its half, k the other."""
    q, k, v = heads(1), heads(2), heads(3)
    _, found = pulled(ATTN_LRP, lambda k, v: attend(q, k, v), k, v)
    x = [e.requires_grad_() for e in (k, v)]
    for found_, plain in zip(found, torch.autograd.grad(by_hand(q, *x), x, numbers(2, 2, 3, 4, seed=9)), strict=True):
        close(found_, plain / 2)


@pytest.mark.parametrize("preset", [CP_LRP, LIBRA])
@pytest.mark.parametrize("attend", [F.scaled_dot_product_attention, by_hand])
def test_constant_attention_reaches_values_alone(preset, attend):
    q, k, v = heads(1), heads(2), heads(3)
    _, (dq, dk, dv) = pulled(preset, attend, q, k, v)
    A = ((q @ k.mT) / 2).softmax(-1)
    assert not dq.any()
    assert not dk.any()
    close(dv, A.mT @ numbers(2, 2, 3, 4, seed=9))


@pytest.mark.parametrize("bias", [None, b])
def test_gamma_rule(bias):
    """R_i = x_i sum_j w'_ij R_j / z'_j, with w' = w + gamma w of the sign that helps the sign of z_j."""
    x, W, gamma = numbers(5, 3), numbers(4, 3, seed=1), 0.7
    _, (dx,) = pulled(with_gamma(gamma, 0), lambda x: F.linear(x, W, bias), x, R=numbers(5, 4, seed=9))
    g = numbers(5, 4, seed=9)
    for n in range(5):
        R = torch.zeros(3, dtype=torch.float64)
        for j in range(4):
            z = x[n] @ W[j] + (0 if bias is None else bias[j])
            terms = x[n] * W[j]
            terms = torch.where(terms * z > 0, (1 + gamma) * terms, terms)
            offset = 0 if bias is None else bias[j] * (1 + gamma if bias[j] * z > 0 else 1)
            R += terms * g[n, j] * z / (terms.sum() + offset)
        close(x[n] * dx[n], R)


def test_gamma_rule_of_a_convolution_is_that_of_a_projection():
    pixels, W = numbers(2, 3, 4, 4), numbers(5, 3, 2, 2, seed=1)
    _, (dx,) = pulled(with_gamma(0, 0.3), lambda x: F.conv2d(x, W, b[:1].expand(5), stride=2).flatten(2).mT, pixels)
    patches = F.unfold(pixels, 2, stride=2).mT
    _, (dp,) = pulled(with_gamma(0.3, 0), lambda x: F.linear(x, W.flatten(1), b[:1].expand(5)), patches)
    close(dx, F.fold(dp.mT, 4, 2, stride=2))


def test_no_gamma_is_the_gradient():
    W = numbers(4, 4, seed=1)
    assert with_gamma(0, 0) == CP_LRP
    close(pulled(with_gamma(1e-13, 0), lambda x: F.linear(x, W, b), x)[1][0], g @ W)


def test_softmax_is_not_made_less_precise(preset):
    with Rules(preset):
        exact, wide = (F.softmax(e.requires_grad_(), dim=-1, dtype=torch.float32) for e in (x.clone(), x.half()))
    assert (exact.dtype, wide.dtype) == (torch.float64, torch.float32)
