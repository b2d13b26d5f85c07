"""Rules of relative absolute magnitudes against the formula, each Jacobian formed."""

import pytest
import torch
import torch.nn.functional as F
from torch.autograd.functional import jacobian

from gradtoken.lrp import ABS_LRP
from tests.lrp.backward import close, numbers, pulled

x, W, b = numbers(2, 3), numbers(4, 3, seed=1), numbers(4, seed=2)


def scaled(R):
    """Every sample to sum |R| = 1."""
    return torch.stack([r / (r.abs().sum() + 1e-9) for r in R])


def naive(f, twin, x, R):
    """X J' (R / (|f| + eps)) with J the Jacobian of f + f|.| at each sample: (x) -> relevance."""
    found = []
    for n in range(len(x)):
        at = x[n : n + 1]
        J = jacobian(lambda e: f(e) + twin(e), at).reshape(R[n].numel(), -1)
        S = (R[n] / (f(at)[0].abs() + 1e-9)).flatten()
        found.append((S @ J).reshape(x[n].shape) * x[n])
    return scaled(found)


def test_projection():
    """R_i = 2 sum_j (x_i W_ji)+ R_j / |z_j| before the scaling."""
    R = numbers(2, 4, seed=9)
    y, (found,) = pulled(ABS_LRP, lambda x: F.linear(x, W, b), x, R=R)
    z = x @ W.T + b
    close(y, z)
    terms = (x[:, None] * W).clamp(min=0)
    close(found, scaled(2 * (terms * (R / (z.abs() + 1e-9))[:, :, None]).sum(1)))
    close(found, naive(lambda x: x @ W.T + b, lambda x: x.abs() @ W.T.abs() + b.abs(), x, R))
    close(pulled(ABS_LRP, lambda x: F.linear(x, weight=W, bias=b), x, R=R)[1][0], found)


def test_convolution():
    pixels, K, R = numbers(2, 3, 4, 4), numbers(5, 3, 2, 2, seed=1), numbers(2, 5, 2, 2, seed=9)
    _, (found,) = pulled(ABS_LRP, lambda x: F.conv2d(x, K, stride=2), pixels, R=R)
    close(found, naive(lambda x: F.conv2d(x, K, stride=2), lambda x: F.conv2d(x.abs(), K.abs(), stride=2), pixels, R))


@pytest.mark.parametrize("f", [F.gelu, torch.tanh, F.silu, lambda x: x[:, 0], lambda x: x.mean(1)])
def test_one_operand(f):
    tokens = numbers(2, 3, 4)
    R = numbers(*f(tokens).shape, seed=9)
    _, (found,) = pulled(ABS_LRP, f, tokens, R=R)
    close(found, naive(f, lambda x: f(x.abs()), tokens, R), 1e-8)


def test_dropout_doubles_positive_values_and_blanks_negative_ones():
    R = numbers(2, 3, seed=9)
    _, (found,) = pulled(ABS_LRP, lambda x: F.dropout(x, 0.1, training=False), x, R=R)
    close(found, scaled(2 * (x > 0) * R * x.abs() / (x.abs() + 1e-9)))


def test_dropout_of_the_embeddings_changes_nothing():
    tokens, p, R = numbers(2, 3, 4), numbers(1, 3, 4, seed=1), numbers(2, 3, 4, seed=9)
    _, (found,) = pulled(ABS_LRP, lambda x: F.dropout(x + p, 0.1, training=False), tokens, R=R)
    expected = naive(lambda x: x + p, lambda x: x.abs() + p.abs(), tokens, R)
    close(found, expected)
    token = numbers(2, 1, 4, seed=3)
    _, (found,) = pulled(ABS_LRP, lambda x: F.dropout(torch.cat([token, x + p], 1), 0.1, False)[:, 1:], tokens, R=R)
    close(found, expected)


def test_softmax_has_a_constant_largest_score_and_sum():
    R = numbers(2, 3, seed=9)
    y, (found,) = pulled(ABS_LRP, lambda x: x.softmax(-1), x, R=R)
    close(y, x.softmax(-1))
    s, twin = x.softmax(-1), x.abs().softmax(-1)
    close(found, scaled(x * (s + x.sign() * twin) * R / (s + 1e-9)))


@pytest.mark.parametrize("hide", [-1e4, -torch.inf, torch.finfo(torch.float64).min])
def test_a_hidden_score_is_as_if_it_were_not_there(hide):
    R, mask = numbers(2, 3, seed=9), torch.tensor([0, 0, hide], dtype=torch.float64)
    _, (found,) = pulled(ABS_LRP, lambda x: (x + mask).softmax(-1), x, R=R)
    assert not found[:, 2].any()
    close(found[:, :2], pulled(ABS_LRP, lambda x: x.softmax(-1), x[:, :2], R=R[:, :2])[1][0])


def test_a_row_that_sees_nothing_is_finite():
    everything = torch.full((3,), torch.finfo(torch.float64).min, dtype=torch.float64)
    value, (found,) = pulled(ABS_LRP, lambda x: x.masked_fill(everything < 0, everything[0]).softmax(-1), x)
    close(value, torch.full((2, 3), 1 / 3, dtype=torch.float64))
    assert found.isfinite().all()


def test_layer_norm_has_constant_statistics():
    """Those of |x| in the twin."""
    R, w, c = numbers(2, 3, seed=9), numbers(3, seed=3), numbers(3, seed=4)
    y, (found,) = pulled(ABS_LRP, lambda x: F.layer_norm(x, (3,), w, c, 1e-6), x, R=R)
    close(y, F.layer_norm(x, (3,), w, c, 1e-6))
    slope = [e.var(-1, correction=0, keepdim=True).add(1e-6).rsqrt() for e in (x, x.abs())]
    close(found, scaled(x * (w * slope[0] + x.sign() * w.abs() * slope[1]) * R / (y.abs() + 1e-9)))


def test_each_operand_of_a_product_gets_the_same_total():
    q, k, R = numbers(2, 3, 4), numbers(2, 4, 5, seed=1), numbers(2, 3, 5, seed=9)
    Z, (Rq, Rk) = pulled(ABS_LRP, torch.matmul, q, k, R=R)
    S = R / (Z.abs() + 1e-9)
    close(Rq, scaled(q * (S @ k.mT) + q.abs() * (S @ k.abs().mT)))
    close(Rk, scaled(k * (q.mT @ S) + k.abs() * (q.abs().mT @ S)))
    close(torch.stack([Rq.abs().sum((1, 2)), Rk.abs().sum((1, 2))]), torch.ones(2, 2).double(), 1e-6)


def test_a_constant_factor_changes_nothing():
    R = numbers(2, 3, seed=9)
    for f in (lambda x: 3 * x, lambda x: x * W[0], lambda x: x / 2, lambda x: -x):
        close(pulled(ABS_LRP, f, x, R=R)[1][0], R)


def test_the_skip_of_a_sum_holds_what_reaches_it_through_the_branch():
    """R_s = s d< y + |b| + |s|, R / |y| >/ds with b = b(s), statistics of the norm constant, scales as gradients."""
    w, R = numbers(3, seed=3), numbers(2, 3, seed=9)
    V = numbers(3, 3, seed=4)

    def branch(s, mean, slope):
        return 2 * F.gelu(F.linear((s - mean) * slope * w, V))

    _, (found,) = pulled(ABS_LRP, lambda s: s + 2 * F.gelu(F.linear(F.layer_norm(s, (3,), w, None, 1e-6), V)), x, R=R)
    for n in range(2):
        mean, slope = x[n].mean(), (x[n].var(correction=0) + 1e-6).rsqrt()
        s = x[n].clone().requires_grad_()
        y = s + branch(s, mean, slope)
        S = (R[n] / (y.abs() + 1e-9)).detach()
        (total,) = torch.autograd.grad((S * (y + branch(s, mean, slope).abs() + s.abs())).sum(), s)
        R_skip = scaled((x[n] * total)[None])
        c = branch(x[n], mean, slope)
        R_branch = scaled((c * S * (1 + c.sign()))[None])
        inner = x[n : n + 1]
        _, (through,) = pulled(
            ABS_LRP, lambda s: 2 * F.gelu(F.linear(F.layer_norm(s, (3,), w, None, 1e-6), V)), inner, R=R_branch
        )
        close(found[n : n + 1], R_skip + through, 1e-8)


def test_samples_do_not_mix():
    R = numbers(2, 4, seed=9)

    def f(x):
        return F.gelu(F.linear(x, W, b)) + F.linear(x, W)

    together = pulled(ABS_LRP, f, x, R=R)[1][0]
    for n in range(2):
        close(together[n : n + 1], pulled(ABS_LRP, f, x[n : n + 1], R=R[n : n + 1])[1][0])
