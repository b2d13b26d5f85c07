"""Each rule that hands relevance back against the formula, written out naively."""

import pytest
import torch
import torch.nn.functional as F

from gradtoken.lrp import LRP_CONSERVATIVE, LRP_PUBLISHED, Rules
from gradtoken.lrp.relevance import sd
from tests.lrp.backward import close, numbers, pulled

SETS = {"published": LRP_PUBLISHED, "conservative": LRP_CONSERVATIVE}
x, W, b = numbers(2, 3), numbers(4, 3, seed=1), numbers(4, seed=2)
R = numbers(2, 4, seed=9)


@pytest.fixture(params=SETS.values(), ids=SETS)
def preset(request):
    return request.param


def test_safe_division():
    a, d, expected = torch.tensor(
        [[1, 1, 2, 1], [2, 0, -4, -1e-9], [1 / (2 + 1e-9), 0, 2 / (-4 + 1e-9), 1e9]], dtype=torch.float64
    )
    close(sd(a, d), expected, 1e-15)


def positive_terms(x, W):
    """x_i W_ji where both have the same sign, of x >= 0 and of x < 0: (B, out, in) each."""
    terms = x[:, None] * W
    return terms.where((x[:, None] > 0) & (W > 0), 0), terms.where((x[:, None] < 0) & (W < 0), 0)


def test_published_projection_hands_out_relevance_for_each_sign_of_the_input():
    y, (found,) = pulled(LRP_PUBLISHED, lambda x: F.linear(x, W, b), x, R=R)
    close(y, x @ W.T + b)
    halves = [sd(R[:, :, None], t.sum(2, keepdim=True)) * t for t in positive_terms(x, W)]
    close(found, (halves[0] + halves[1]).sum(1))


def test_conservative_projection_divides_by_the_common_sum():
    _, (found,) = pulled(LRP_CONSERVATIVE, lambda x: F.linear(x, W, b), x, R=R)
    terms = sum(positive_terms(x, W))
    close(found, (sd(R[:, :, None], terms.sum(2, keepdim=True)) * terms).sum(1))
    assert (found.sum(1) - R.sum(1)).abs().max() < 1e-7


def test_a_product_with_weights_is_a_projection(preset):
    expected = pulled(preset, lambda x: F.linear(x, W), x, R=R)[1][0]
    close(pulled(preset, lambda x: x @ W.T, x, R=R)[1][0], expected)
    close(pulled(preset, lambda x: torch.addmm(b, x, W.T), x, R=R)[1][0], expected)


def test_convolution_of_features_is_a_projection(preset):
    pixels, K = numbers(2, 4, 4, 4), numbers(5, 4, 2, 2, seed=1)
    S = numbers(2, 4, 5, seed=9)
    _, (found,) = pulled(preset, lambda x: F.conv2d(x, K, b[:1].expand(5), stride=2).flatten(2).mT, pixels, R=S)
    patches = F.unfold(pixels, 2, stride=2).mT
    _, (expected,) = pulled(preset, lambda x: F.linear(x, K.flatten(1)), patches, R=S)
    close(found, F.fold(expected.mT, 4, 2, stride=2))


def test_pixels_have_bounds(preset):
    """Z = sum_i (x_i w_i - l w_i+ - h w_i-), R_i = (x_i w_i - l w_i+ - h w_i-) R / Z, bounds of each picture."""
    pixels, K = numbers(2, 3, 4, 4), numbers(5, 3, 2, 2, seed=1)
    S = numbers(2, 4, 5, seed=9)
    _, (found,) = pulled(preset, lambda x: F.conv2d(x, K, b[:1].expand(5), stride=2).flatten(2).mT, pixels, R=S)
    for n in range(2):
        l, h = pixels[n].min(), pixels[n].max()
        patches, w = F.unfold(pixels[n : n + 1], 2, stride=2)[0].T, K.flatten(1)  # (4, 12), (5, 12)
        terms = patches[:, None] * w - l * w.clamp(min=0) - h * w.clamp(max=0)
        shares = (terms * (S[n] / (terms.sum(2) + 1e-9))[:, :, None]).sum(1)
        close(found[n], F.fold(shares.T[None], 4, 2, stride=2)[0])


def test_a_product_gives_half_to_each_operand(preset):
    A, v, S = numbers(2, 3, 4), numbers(2, 4, 5, seed=1), numbers(2, 3, 5, seed=9)
    Z, (RA, Rv) = pulled(preset, torch.matmul, A, v, R=S)
    close(RA, torch.einsum("bij,bjp,bip->bij", A, v, sd(S, Z)) / 2)
    close(Rv, torch.einsum("bij,bjp,bip->bjp", A, v, sd(S, Z)) / 2)


def test_a_product_with_a_constant_gives_it_all(preset):
    A, v, S = numbers(2, 3, 4), numbers(2, 4, 5, seed=1), numbers(2, 3, 5, seed=9)
    close(pulled(preset, lambda v: A @ v, v, R=S)[1][0], 2 * pulled(preset, torch.matmul, A, v, R=S)[1][1])


def test_the_scale_of_an_attention_may_come_before_or_after(preset):
    q, k, S = numbers(2, 3, 4) * 1e-4, numbers(2, 4, 5, seed=1) * 1e-4, numbers(2, 3, 5, seed=9)
    after = pulled(preset, lambda q, k: (q @ k) * 0.3, q, k, R=S)[1]
    for scaled in (lambda q, k: (q * 0.3) @ k, lambda q, k: q @ (k.mT / (1 / 0.3)).contiguous().mT):
        for found, expected in zip(pulled(preset, scaled, q, k, R=S)[1], after, strict=True):
            close(found, expected)


def test_published_sum():
    y, S = numbers(2, 3, seed=1), numbers(2, 3, seed=9)
    _, (Rx, Ry) = pulled(LRP_PUBLISHED, lambda x, y: x + y, x, y, R=S)
    close(Rx, x * sd(S, x + y))
    close(Ry, y * sd(S, x + y))


def test_conservative_sum_is_balanced_in_each_sample():
    y, S = numbers(2, 3, seed=1), numbers(2, 3, seed=9)
    _, (Rx, Ry) = pulled(LRP_CONSERVATIVE, lambda x, y: x + y, x, y, R=S)
    for n in range(2):
        a, c = x[n] * S[n] / (x[n] + y[n]), y[n] * S[n] / (x[n] + y[n])
        size = a.sum().abs() + c.sum().abs()
        close(Rx[n], a / a.sum() * a.sum().abs() / size * S[n].sum(), 1e-6)
        close(Ry[n], c / c.sum() * c.sum().abs() / size * S[n].sum(), 1e-6)


def test_a_constant_keeps_its_share_of_a_sum(preset):
    p, S = numbers(1, 3, seed=1), numbers(2, 3, seed=9)
    expected = pulled(preset, lambda x, p: x + p, x, p.expand(2, 3), R=S)[1][0]
    for sum_ in (lambda x: x + p, lambda x: p + x, lambda x: torch.add(x, p / 2, alpha=2)):
        close(pulled(preset, sum_, x, R=S)[1][0], expected)


def test_a_difference_is_a_sum_with_the_negative(preset):
    y, S = numbers(2, 3, seed=1), numbers(2, 3, seed=9)
    expected = pulled(preset, lambda x, y: x + y, x, -y, R=S)[1]
    for found, e in zip(pulled(preset, lambda x, y: x - y, x, y, R=S)[1], expected, strict=True):
        close(found, e)
    close(pulled(preset, lambda y: 1 - y, y, R=S)[1][0], pulled(preset, lambda y: y + 1, -y, R=S)[1][0])


def test_hidden_scores_take_no_relevance(preset):
    S = numbers(2, 3, seed=9)
    S[:, 2] = 0
    for hidden in (-torch.inf, torch.finfo(torch.float64).min, -1e4):
        mask = torch.tensor([0, 0, hidden], dtype=torch.float64)
        _, (found,) = pulled(preset, lambda x, m=mask: x + m, x, R=S)
        assert found.isfinite().all()
        close(found, S, 1e-6)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: F.gelu(x),
        lambda x: F.layer_norm(x, (3,)),
        lambda x: F.rms_norm(x, (3,)),
        lambda x: x.softmax(-1),
        lambda x: F.normalize(x, dim=-1),
        lambda x: -x,
        lambda x: x * 3,
        lambda x: x / 3,
        lambda x: x * W[0],
        lambda x: x.tanh(),
        lambda x: x.pow(2),
        lambda x: F.dropout(x, 0.5, training=False),
        lambda x: F.batch_norm(x, x.detach().mean(0), x.detach().var(0), None, None, False),
    ],
)
def test_norms_activations_and_constant_factors_change_nothing(preset, f):
    S = numbers(2, 3, seed=9)
    close(pulled(preset, f, x, R=S)[1][0], S)


def test_a_factor_takes_half(preset):
    y, S = numbers(2, 1, seed=1), numbers(2, 3, seed=9)
    _, (Rx, Ry) = pulled(preset, lambda x, y: x * y, x, y, R=S)
    close(Rx, S / 2)
    close(Ry, S.sum(1, keepdim=True) / 2)


def test_a_mean_is_shared_out_in_parts(preset):
    tokens, S = numbers(2, 5, 3), numbers(2, 3, seed=9)
    _, (found,) = pulled(preset, lambda x: x[:, 1:].mean(1), tokens, R=S)
    assert not found[:, 0].any()
    close(found[:, 1:], tokens[:, 1:] / 4 * sd(S, tokens[:, 1:].mean(1))[:, None])


def test_the_class_token_is_selected_with_an_epsilon(preset):
    tokens, S = numbers(2, 5, 3) * 1e-8, numbers(2, 3, seed=9)
    for select in (lambda x: x[:, 0], lambda x: x[:, 0, :]):
        _, (found,) = pulled(preset, select, tokens, R=S)
        assert not found[:, 1:].any()
        close(found[:, 0], tokens[:, 0] * sd(S, tokens[:, 0]))
    close(pulled(preset, lambda x: x[:, 0:1], tokens, R=S[:, None])[1][0][:, 0], S)


def test_a_tensor_read_twice_has_one_epsilon(preset):
    small = numbers(2, 3) * 1e-8
    factor = small / (small + 1e-9)
    S = numbers(2, 6, seed=9)
    _, (found,) = pulled(preset, lambda x: torch.cat([x.tanh(), x.relu()], 1), small, R=S)
    close(found, factor * (S[:, :3] + S[:, 3:]))
    _, (found,) = pulled(preset, lambda x: torch.cat([x.tanh(), x.relu(), -x], 1), small, R=torch.cat([S, S[:, :3]], 1))
    close(found, factor * (2 * S[:, :3] + S[:, 3:]))
    _, (found,) = pulled(preset, lambda x: x.tanh(), small, R=S[:, :3])
    close(found, S[:, :3])


def test_sizes_types_and_comparisons_read_nothing(preset):
    small = numbers(2, 3) * 1e-8

    def f(x):
        x = x.contiguous().to(x.dtype)
        assert x.shape == (2, 3)
        assert not (x > 1).any()
        x.detach()
        return F.dropout(x, 0.1, False).tanh()

    close(pulled(preset, f, small, R=numbers(2, 3, seed=9))[1][0], numbers(2, 3, seed=9))


def test_queries_keys_and_values_branch_before_the_skip(preset):
    """X (sum of the three shares / x) is one share, and joins that of the skip in another branch."""
    small = numbers(2, 3) * 1e-8
    factor = small / (small + 1e-9)
    S = numbers(2, 4, 4, seed=9)

    def project(x):
        return torch.cat([F.linear(x, W * s) for s in (1, 2, 3)], 1)

    def alone(s, R):
        return pulled(preset, lambda x: F.linear(x, W * s), small, R=R)[1][0]

    three = sum(alone(s, S[:, i]) for i, s in enumerate((1, 2, 3)))
    _, (found,) = pulled(preset, project, small, R=S[:, :3].flatten(1))
    close(found, factor * three)
    _, (found,) = pulled(preset, lambda x: torch.cat([project(x), x.tanh()], 1), small, R=S.flatten(1)[:, :15])
    close(found, factor * (factor * three + S[:, 3, :3]))


def test_slices_share_nothing(preset):
    small, S = numbers(3, 2, 4) * 1e-8, numbers(3, 2, 4, seed=9)
    close(pulled(preset, lambda x: torch.stack([x[2], x[0], x[1]]), small, R=S)[1][0], S[[1, 2, 0]])


def test_a_backward_pass_inside_the_mode_is_the_same(preset):
    leaf = x.clone().requires_grad_()
    with Rules(preset):
        y = F.gelu(F.linear(leaf, W, b)) + F.linear(leaf, W)
        (inside,) = torch.autograd.grad(y, leaf, R, retain_graph=True)
    close(inside, torch.autograd.grad(y, leaf, R)[0], 1e-14)
