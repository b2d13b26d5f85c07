"""The references for relevance propagation alone: their rules against loops, and what the papers say is conserved."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.reference import abs_lrp, libra, lrp, surgery
from tests.reference.surgery import ATTN_LRP, CP_LRP, LIBRA, PLAIN, Surgery
from tests.zoo import CLASSES, TEXT, bert, timm_model

TARGET = torch.tensor([[0, 3], [1, 2]])
RULES = ("published", "conservative")


def close(actual: Tensor, expected: Tensor | float, tolerance: float = 1e-12) -> None:
    expected = torch.as_tensor(expected, dtype=actual.dtype).expand_as(actual)
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def picture_inputs() -> Tensor:
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def subject(kind: str) -> tuple[nn.Module, Tensor | dict[str, Tensor]]:
    return (timm_model(), picture_inputs()) if kind == "picture" else (bert(), TEXT)


def first_sample(kind: str) -> tuple[nn.Module, Tensor]:
    net, inputs = subject(kind)
    net = lrp.in_float64(net)
    return net, next(lrp.samples(net, inputs))[0]


def logits_of(net: nn.Module, inputs: Tensor | dict[str, Tensor]) -> Tensor:
    net = lrp.in_float64(net)
    return net(**inputs).logits if isinstance(inputs, dict) else net(inputs.double())


def without_biases(net: nn.Module) -> nn.Module:
    """Position embedding and class token count as biases."""
    with torch.no_grad():
        for name, p in net.named_parameters():
            if "embeddings" not in name and name.endswith(("bias", "pos_embed", "cls_token")):
                p.zero_()
    return net


kinds = pytest.mark.parametrize("kind", ["picture", "text"])
rules = pytest.mark.parametrize("rule", RULES)


def every() -> dict[str, partial]:
    """Every reference and option by name."""
    named = {
        "lrp": partial(lrp.lrp),
        "lrp, conservative": partial(lrp.lrp, rule="conservative"),
        "partial_lrp": partial(lrp.partial_lrp),
        "partial_lrp, gradient": partial(lrp.partial_lrp, gradient=True),
        "transattrib": partial(lrp.transattrib),
        "abs_lrp": partial(abs_lrp.abs_lrp),
        "abs_lrp, alone": partial(abs_lrp.abs_lrp, contrastive=False),
        "attn_lrp": partial(surgery.attn_lrp),
        "cp_lrp": partial(surgery.cp_lrp),
        "cp_lrp, gamma": partial(surgery.cp_lrp, gamma_linear=0.05, gamma_conv=0.25),
        "input_x_gradient": partial(surgery.input_x_gradient),
        "integrated_gradients": partial(surgery.integrated_gradients, steps=3),
    }
    scores = ("probability", "logit")
    return named | {f"libra, {m}, {s}": partial(libra.libra, of=m, score=s) for m in libra.MAPS for s in scores}


EVERY = every()


# ------------------------------------------------------------------------------------------ all of them


@pytest.mark.parametrize("name", EVERY)
@kinds
def test_shape_padding_and_samples_are_independent(name, kind):
    method, (net, inputs) = EVERY[name], subject(kind)
    maps = method(net, inputs, TARGET)
    pixels = kind == "picture" and method.func not in (lrp.partial_lrp, lrp.transattrib)
    if method.func is libra.libra:
        pixels = pixels and method.keywords["of"] in ("input_x_gradient", "integrated_gradients", "gradient_shap")
    assert maps.shape == ((2, 2, 16, 16) if pixels else (2, 2, 16) if kind == "picture" else (2, 2, 5))
    assert maps.dtype == torch.float64
    assert bool(maps.isfinite().all())
    assert not maps.requires_grad
    second = inputs[1:] if kind == "picture" else {"input_ids": TEXT["input_ids"][1:, :4]}
    alone = method(net, second, TARGET[1:, 1:])[0, 0]
    close(maps[1, 1, : len(alone)], alone, 0)
    assert kind == "picture" or bool((maps[1, :, 3:] == 0).all())
    assert not torch.allclose(maps[:, 0], maps[:, 1])


@kinds
def test_the_forward_passes_are_those_of_the_model(kind):
    net, inputs = subject(kind)
    expected = logits_of(net, inputs)
    double = lrp.in_float64(net)
    for (x, _), y in zip(lrp.samples(double, inputs), expected, strict=True):
        close((lrp.vit if kind == "picture" else lrp.bert)(double, x).logits, y)
        for how in (PLAIN, LIBRA, CP_LRP, ATTN_LRP, Surgery(gamma_linear=0.1, gamma_conv=0.25)):
            exact = how.activation != "secant"  # its 1e-10 changes the value
            close(surgery.forward(double, x, how).logits, y, 1e-12 if exact else 1e-6)
    if kind == "picture":
        t = lrp.vit_block(double.blocks[0], torch.randn(5, 16).double())
        close(abs_lrp.attend(double.blocks[0], t.x), t.attention)
        close(abs_lrp.mlp(double.blocks[0], t.x_mid), t.mlp)
    else:
        layer = double.bert.encoder.layer[0]
        t = lrp.bert_block(layer, torch.randn(5, 16).double())
        close(abs_lrp.bert_attend(layer, t.x), t.attention)
        close(abs_lrp.bert_mlp(layer, t.a), t.mlp)


# ------------------------------------------------------------------------------------------ LRP: rules


def test_safe_division_adds_whatever_the_sign_and_never_divides_by_zero():
    quotients = lrp.sd(torch.ones(4).double(), torch.tensor([2.0, -2.0, 0.0, -1e-9], dtype=torch.float64))
    close(quotients, torch.tensor([1 / (2 + 1e-9), 1 / (-2 + 1e-9), 0.0, 1e9], dtype=torch.float64))


@rules
def test_linear_rule_against_loops(rule):
    x, W, R = torch.randn(4).double(), torch.randn(3, 4).double(), torch.randn(3).double()
    expected = torch.zeros(4).double()
    for j in range(3):
        parts = [max(float(x[i]), 0) * max(float(W[j, i]), 0) for i in range(4)]
        others = [min(float(x[i]), 0) * min(float(W[j, i]), 0) for i in range(4)]
        below = (sum(parts), sum(others)) if rule == "published" else (sum(parts) + sum(others),) * 2
        for i in range(4):
            for part, z in ((parts[i], below[0]), (others[i], below[1])):
                expected[i] += part * float(R[j]) / (z + 1e-9) if z else 0
    close(lrp.linear(rule, x, W, R), expected)


@pytest.mark.parametrize(("rule", "handed_out"), [("published", 2), ("conservative", 1)])
def test_linear_rule_hands_out_twice_or_once(rule, handed_out):
    x, W, R = torch.randn(7, 99).double(), torch.randn(10, 99).double(), torch.randn(7, 10).double()
    close(lrp.linear(rule, x, W, R).sum(), handed_out * R.sum(), 1e-7)


def test_addition_shares_by_the_size_of_the_sums():
    x1, x2, R = torch.randn(3, 5, 4).double()
    a, b = lrp.add("published", x1, x2, R)
    close(a + b, R, 1e-6)
    close(a, x1 / (x1 + x2 + 1e-9) * R)
    a, b = a.sum().abs(), b.sum().abs()
    first, second = lrp.add("conservative", x1, x2, R)
    close(first.sum(), a / (a + b) * R.sum(), 1e-7)
    close(first.sum() + second.sum(), R.sum(), 1e-7)


def test_product_rule_is_half_of_operand_times_gradient():
    A, v, R = torch.rand(2, 3, 3).double(), torch.randn(2, 3, 4).double(), torch.randn(2, 3, 4).double()
    RA, Rv = lrp.matmul(A, v, R)
    S = R / (A @ v + 1e-9)
    for h in range(2):
        for i in range(3):
            for j in range(3):  # R^A_ij = A_ij (S_i . v_j) / 2
                close(RA[h, i, j], A[h, i, j] * torch.dot(S[h, i], v[h, j]) / 2)
    A, v = A.requires_grad_(), v.requires_grad_()
    dA, dv = torch.autograd.grad((A @ v * S).sum(), [A, v])
    close(RA, (A * dA / 2).detach())
    close(Rv, (v * dv / 2).detach())
    close(RA.sum(), R.sum() / 2, 1e-6)
    close(Rv.sum(), R.sum() / 2, 1e-6)


def test_box_rule_is_bounded_by_the_extremes_of_the_picture_and_keeps_the_sum():
    conv, X, R = nn.Conv2d(3, 4, 2, 2).double().requires_grad_(False), torch.randn(3, 2, 2).double(), torch.randn(1, 4)
    R = R.double()
    expected = torch.zeros(3, 2, 2).double()
    for o in range(4):
        W = conv.weight[o]
        z = X * W - X.min() * W.clamp(min=0) - X.max() * W.clamp(max=0)
        assert bool((z >= 0).all())
        expected += z / (z.sum() + 1e-9) * R[0, o]
    close(lrp.z_box(X, conv, R), expected)
    close(lrp.z_box(X, conv, R).sum(), R.sum(), 1e-7)


# ------------------------------------------------------------------------------------------ LRP: the pass


@pytest.mark.parametrize(("rule", "head"), [("published", 2), ("conservative", 1)])
@kinds
def test_relevance_below_the_head(rule, head, kind):
    net, x = first_sample(kind)
    linears = 1 if kind == "picture" else 2  # the pooler is one more
    out = lrp.relprop(net, x, 1, rule)
    close(out.head.sum(), float(head**linears), 1e-6)
    assert bool((out.at[0][1:] == 0).all())


@kinds
def test_conservative_relevance_is_one_between_blocks_and_published_is_not(kind):
    net, x = first_sample(kind)
    for c in range(CLASSES):
        sums = torch.stack([R.sum() for R in lrp.relprop(net, x, c, "conservative").at])
        assert len(sums) == 5
        close(sums, 1.0, 1e-5)
    assert abs(float(lrp.relprop(net, x, 0, "published").at[-1].sum()) - 1) > 0.1


def test_the_position_embedding_and_the_class_token_keep_a_share():
    net, x = first_sample("picture")
    out = lrp.relprop(net, x, 0, "conservative")
    t = lrp.vit(net, x)
    patches, position = lrp.add("conservative", t.embedded, t.position, out.at[-1])
    close(out.pixels.sum(), 1 - position.sum() - patches[0].sum(), 1e-5)


@rules
def test_relevance_of_the_last_attention_is_attention_times_a_factor_of_the_key(rule):
    """The factor S_0 . v_j / 2 is linear in the D = 8 entries of v_j: they fit R^A_0j / A_0j for all 17 keys j."""
    net, x = first_sample("picture")
    out = lrp.relprop(net, x, 2, rule)
    block = lrp.vit(net, x).blocks[-1]
    ratio = (out.RA[-1][:, 0] / block.A[:, 0])[..., None]
    fit = torch.linalg.lstsq(block.v, ratio).solution
    close(block.v @ fit, ratio, 1e-9)


@rules
@kinds
def test_no_query_but_the_class_token_is_read_in_the_last_block(rule, kind):
    net, x = first_sample(kind)
    out = lrp.relprop(net, x, 2, rule)
    assert bool((out.RA[-1][:, 1:] == 0).all())
    assert bool((out.RA[-1][:, 0] != 0).all())


def test_partial_lrp_is_the_clipped_row():
    net, inputs = subject("picture")
    out = lrp.relprop(lrp.in_float64(net), inputs[0].double(), 3)
    rows = [[max(float(out.RA[-1][h, 0, j]), 0) for j in range(1, 17)] for h in range(2)]
    expected = torch.tensor(rows, dtype=torch.float64).mean(dim=0)
    close(lrp.partial_lrp(net, inputs, TARGET)[0, 1], expected)


@rules
@kinds
@pytest.mark.parametrize("normalise", [False, True])
def test_the_product_over_blocks_is_not_negative_and_keeps_each_token(rule, kind, normalise):
    net, x = first_sample(kind)
    out = lrp.relprop(net, x, 1, rule)
    for start in range(5):
        C = lrp.product(out, start, normalise)
        assert bool((C >= 0).all())
        if normalise:
            close(C.sum(dim=-1), 1.0)
        else:
            assert bool((C.diagonal() >= 1).all())
    close(lrp.product(out, 4, normalise), torch.eye(len(C), dtype=torch.float64))


def test_transattrib_as_published_starts_at_the_second_block_or_at_the_last_layer():
    net, inputs = subject("picture")
    out = lrp.relprop(lrp.in_float64(net), inputs[0].double(), 3, "conservative")
    E = [(dA * RA).clamp(min=0).mean(dim=0) + torch.eye(17) for dA, RA in zip(out.dA, out.RA, strict=True)]
    close(lrp.transattrib(net, inputs, TARGET)[0, 1], (E[3] @ E[2] @ E[1])[0, 1:])
    close(lrp.transattrib(net, inputs, TARGET, start=0)[0, 1], (E[3] @ E[2] @ E[1] @ E[0])[0, 1:])
    net, inputs = subject("text")
    close(lrp.transattrib(net, inputs, TARGET), lrp.transattrib(net, inputs, TARGET, start=3, normalise=True))


@kinds
def test_the_gradient_of_the_logit_with_respect_to_attention(kind):
    """By central differences at one entry of every block."""
    net, x = first_sample(kind)
    out, step = lrp.relprop(net, x, 1), 1e-5

    for b in range(4):

        def logit(shift: float, b: int = b) -> Tensor:
            calls, softmax = [], torch.softmax

            def shifted(*args, **kwargs):
                A = softmax(*args, **kwargs)
                calls.append(A)
                return A + shift * F.one_hot(torch.tensor(2), A.shape[-1]) if len(calls) == b + 1 else A

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(torch, "softmax", shifted)
                return (lrp.vit if kind == "picture" else lrp.bert)(net, x).logits[1]

        close((logit(step) - logit(-step)) / (2 * step), out.dA[b][..., 2].sum(), 1e-7)


# ------------------------------------------------------------------------------------------ absLRP


def test_absolute_rule_of_a_linear_layer_takes_twice_the_positive_products():
    x, R = torch.randn(3, 6).double(), torch.randn(3, 4).double()
    m = nn.Linear(6, 4).double().requires_grad_(False)
    z = m(x)
    expected = torch.zeros(3, 6).double()
    for n in range(3):
        for i in range(6):
            for j in range(4):
                expected[n, i] += 2 * max(float(x[n, i] * m.weight[j, i]), 0) * R[n, j] / (abs(z[n, j]) + 1e-9)
    close(abs_lrp.affine(x, m, R), expected / (expected.abs().sum() + 1e-9))


def test_dropouts_and_the_selection_keep_twice_the_positive_entries():
    x, R = torch.randn(5, 6).double(), torch.randn(5, 6).double()
    kept = R * (x > 0)
    close(abs_lrp.dropout(x, R), kept / kept.abs().sum(), 1e-6)
    kept = torch.zeros(5, 6).double()
    kept[0] = R[0] * (x[0] > 0)
    close(abs_lrp.select(x, R[0]), kept / kept.abs().sum(), 1e-6)


def test_every_argument_of_every_module_gets_one():
    block = lrp.in_float64(timm_model()).blocks[0]
    x, R = torch.randn(5, 16).double(), torch.randn(5, 16).double()
    O, v = torch.randn(2, 5, 5).double(), torch.randn(2, 5, 8).double()
    A, RA = O.softmax(dim=-1), torch.randn(2, 5, 5).double()
    conv, picture = nn.Conv2d(3, 4, 2, 2).double(), torch.randn(1, 3, 4, 4).double()
    given = [
        abs_lrp.affine(x, block.attn.proj, R),
        abs_lrp.norm(x, block.norm1, R),
        abs_lrp.gelu(x, R),
        abs_lrp.dropout(x, R),
        abs_lrp.select(x, R[0]),
        abs_lrp.softmax(O, RA),
        *abs_lrp.matmul(A, v, torch.randn(2, 5, 8).double()),
        abs_lrp.position(x, x.flip(0), R),
        *abs_lrp.residual(lambda s: abs_lrp.mlp(block, s), x, R),
        *abs_lrp.residual(lambda s: abs_lrp.attend(block, s), x, R),
        abs_lrp.convolution(picture, conv.requires_grad_(False), torch.randn(1, 4, 2, 2).double()),
    ]
    close(torch.stack([r.abs().sum() for r in given]), 1.0, 1e-7)


def test_the_addition_takes_the_total_derivative():
    block = lrp.in_float64(timm_model()).blocks[0]
    s, R = torch.randn(3, 16).double(), torch.randn(3, 16).double()
    branch = partial(abs_lrp.mlp, block)
    b = branch(s)
    w = R / ((b + s).abs() + 1e-9)
    J = torch.autograd.functional.jacobian(branch, s)  # the statistics of the norm are constant in it too
    through = torch.einsum("ij,ijkl->kl", w * (1 + b.sign()), J)
    plain, total = s * w * (1 + s.sign()), s * (w * (1 + s.sign()) + through)
    Rb, Rs = abs_lrp.residual(branch, s, R)
    close(Rs, total / (total.abs().sum() + 1e-9))
    close(Rb, (e := b * w * (1 + b.sign())) / (e.abs().sum() + 1e-9))
    assert float((Rs - plain / plain.abs().sum()).abs().max()) > 1e-3


@kinds
def test_two_starts_exchanged_change_the_sign(kind):
    net, x = first_sample(kind)
    one, other = torch.rand(2, CLASSES).double()
    close(abs_lrp.between(net, x, one, other), -abs_lrp.between(net, x, other, one), 0)
    close(abs_lrp.between(net, x, one, 3 * one), 0.0, 1e-6)  # a start is scaled to sum 1; the rest is rounding
    if kind == "picture":
        close(abs_lrp.propagate(net, x, one).abs().sum(), 1.0, 1e-6)
    assert 0.9 < float(abs_lrp.between(net, x, one, other).abs().max()) <= 1


# ------------------------------------------------------------------------------------------ modified backward passes


@kinds
def test_plain_gradient_is_that_of_the_model_itself(kind):
    net, inputs = subject(kind)
    double, seen = lrp.in_float64(net), []
    if kind == "picture":
        x = inputs.double().requires_grad_()
        seen, logits = [x], double(x)
    else:
        double.requires_grad_(True).bert.embeddings.register_forward_hook(lambda m, i, out: seen.append(out))
        logits = double(**inputs).logits
    for k in range(2):
        (dx,) = torch.autograd.grad(logits.gather(1, TARGET)[:, k].sum(), seen, retain_graph=True)
        R = (seen[0] * dx).detach()
        R = R.sum(dim=1) if kind == "picture" else R.sum(dim=-1)[:, 1:]
        close(surgery.input_x_gradient(net, inputs, TARGET)[:, k], R)


@kinds
def test_libra_is_complete(kind):
    net, inputs = subject(kind)
    of_input, of_biases = libra.fullgrad_terms(net, inputs, TARGET)
    close(of_input + of_biases, logits_of(net, inputs).gather(1, TARGET))
    assert float(of_biases.abs().min()) > 1e-3


@kinds
def test_the_plain_gradient_and_attnlrp_are_not_complete(kind):
    net, x = first_sample(kind)
    for how in (PLAIN, ATTN_LRP):
        p = surgery.forward(net, x, how)
        (dx,) = torch.autograd.grad(p.logits[0], [p.input], retain_graph=True)
        total = (p.input * dx).sum() + libra.bias_terms(p, p.logits[0]).sum()
        assert abs(float((total - p.logits[0]).detach())) > 1e-2


@pytest.mark.parametrize("gammas", [(0.0, 0.0), (0.05, 0.25), (1.0, 100.0)])
@kinds
def test_without_biases_cp_lrp_and_libra_keep_the_logit(kind, gammas):
    net, x = first_sample(kind)
    net = without_biases(net)
    for how in (Surgery(True, "secant", "constant", *gammas), Surgery(True, "exact", "constant", *gammas)):
        p = surgery.forward(net, x, how)
        for c in range(CLASSES):
            (dx,) = torch.autograd.grad(p.logits[c], [p.input], retain_graph=True)
            close((p.input * dx).sum().detach(), p.logits[c].detach())


@kinds
def test_fullgrad_sums_to_the_logit_less_the_class_token(kind):
    net, x = first_sample(kind)
    of_input, biases = libra.fullgrad_parts(net, x, 0, "logit")
    class_token = biases[0] + (0 if kind == "picture" else of_input[0].sum())
    y = (lrp.vit if kind == "picture" else lrp.bert)(net, x).logits[0]
    close(libra.fullgrad(net, x, 0, "logit").sum() + class_token, y)


def test_fullgrad_pools_the_pixels_of_each_patch():
    net, x = first_sample("picture")
    of_input, biases = libra.fullgrad_parts(net, x, 0, "logit")
    for row in range(4):
        for column in range(4):
            patch = of_input[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4].sum()
            index = 4 * row + column
            close(libra.fullgrad(net, x, 0, "logit")[index], patch + biases[1 + index])


@pytest.mark.parametrize("method", ["input_x_gradient", "fullgrad", "attcat"])
@kinds
def test_the_probability_is_explained_by_the_logits(method, kind):
    """dp_c = sum_j p_c (delta_cj - p_j) dy_j."""
    net, inputs = subject(kind)
    p = logits_of(net, inputs)[0].softmax(dim=-1)
    one = {"input_ids": TEXT["input_ids"][:1]} if kind == "text" else inputs[:1]
    maps = libra.libra(net, one, torch.arange(CLASSES)[None], method, "logit")[0]
    for c in range(CLASSES):
        weights = p[c] * (torch.eye(CLASSES)[c] - p)
        expected = torch.einsum("k,k...->...", weights, maps)
        close(libra.libra(net, one, torch.tensor([[c]]), method)[0, 0], expected)


@kinds
def test_attcat_and_generic_attention_of_one_token(kind):
    net, x = first_sample(kind)
    p = surgery.forward(net, x, LIBRA)
    dx = torch.autograd.grad(p.logits[0], p.x, retain_graph=True)
    expected = sum(A[:, :, 2].mean() * (h[2] * g[2]).sum() for A, h, g in zip(p.A, p.x, dx, strict=True))
    close(libra.attcat(net, x, 0, "logit")[1], expected.detach())
    dA = torch.autograd.grad(p.logits[0], p.A)
    C = torch.eye(p.A[0].shape[-1]).double()
    for A, g in zip(p.A, dA, strict=True):
        C = (torch.eye(len(C)) + (A * g).clamp(min=0).mean(dim=0)) @ C
    close(libra.generic_attention(net, x, 0, "logit"), C[0, 1:].detach())
    assert bool((C >= 0).all())


def test_attnlrp_through_one_attention_against_its_rules():
    """R_A and R_v by the halved epsilon rule, R_O = O (R_A / O's softmax rule), R_q and R_k halved again."""
    q, k, v = (t.requires_grad_() for t in torch.randn(3, 2, 5, 4).double())
    R = torch.randn(5, 8).double()
    p = surgery.Pass(ATTN_LRP)
    Z = p.attention(q, k, v)
    dq, dk, dv = torch.autograd.grad((Z * (R / Z).detach()).sum(), [q, k, v])
    with torch.no_grad():
        O, A = q @ k.transpose(1, 2) / 2, p.A[0]
        S = lrp.split(R / Z, 2)
        RA, Rv = A * (S @ v.transpose(1, 2)) / 2, v * (A.transpose(1, 2) @ S) / 2
        RO = O * (RA - A * RA.sum(dim=-1, keepdim=True)) / O  # R_i / x_i of the softmax rule, then times k and q
        close(q * dq, q * (RO @ k) / 2 / 2)
        close(k * dk, k * (RO.transpose(1, 2) @ q) / 2 / 2)
        close(v * dv, Rv)


def test_activation_is_a_line_through_the_origin_and_the_norm_a_centred_scale():
    x = torch.randn(3, 8).double().requires_grad_()
    for f in (F.gelu, torch.tanh):
        for how in ("secant", "exact"):
            y = surgery.activate(f, x, how)
            (g,) = torch.autograd.grad(y.sum(), x)
            close((x * g).detach(), f(x).detach(), 1e-7)
    y = surgery.standardise(x, 1e-6, constant=True)
    (g,) = torch.autograd.grad((y * (w := torch.randn(3, 8).double())).sum(), x)
    std = (x.var(dim=-1, unbiased=False, keepdim=True) + 1e-6).sqrt()
    close(g, ((w - w.mean(dim=-1, keepdim=True)) / std).detach())
    close((x * g).sum().detach(), (y * w).sum().detach())


def test_gamma_rule_against_loops():
    x, W, b = torch.randn(5).double(), torch.randn(4, 5).double(), torch.randn(4).double()
    g, gamma = torch.randn(4).double(), 0.3
    leaf = x.clone().requires_grad_()
    z = surgery.gamma_rule(F.linear, leaf, W, b, gamma)
    (dx,) = torch.autograd.grad((z * g).sum(), leaf)
    z = z.detach()
    close(z, F.linear(x, W, b))
    expected = torch.zeros(5).double()
    for j in range(4):
        sign = 1 if z[j] > 0 else -1

        def favoured(t: float, sign: int = sign) -> float:
            return t + gamma * sign * max(sign * t, 0)

        below = sum(favoured(float(x[i] * W[j, i])) for i in range(5)) + favoured(float(b[j]))
        for i in range(5):
            expected[i] += favoured(float(x[i] * W[j, i])) / below * float(z[j] * g[j])
    close(x * dx, expected)


def test_a_small_gamma_is_almost_none():
    net, inputs = subject("picture")
    none = surgery.cp_lrp(net, inputs, TARGET)
    close(surgery.cp_lrp(net, inputs, TARGET, 1e-9, 1e-9), none, 1e-5)
    assert not torch.allclose(surgery.cp_lrp(net, inputs, TARGET, 0.1, 0.25), none, rtol=1e-2)


# ------------------------------------------------------------------------------------------ integrated gradients


@pytest.mark.parametrize(("kind", "baseline"), [("picture", "zero"), ("text", "zero"), ("text", "pad")])
def test_integrated_gradients_close_the_gap_with_more_steps(kind, baseline):
    net, inputs = subject(kind)
    few, many = (surgery.completeness_gap(net, inputs, TARGET, steps, baseline).abs().max() for steps in (3, 40))
    assert float(many) < 1e-2 < float(few)


def test_integrated_gradients_of_one_step_take_the_gradient_half_way():
    net, inputs = subject("picture")
    half = surgery.input_x_gradient(net, inputs.double() / 2, TARGET)
    close(surgery.integrated_gradients(net, inputs, TARGET, steps=1), 2 * half)
