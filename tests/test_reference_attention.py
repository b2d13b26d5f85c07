"""The naive references for the attention and gradient methods: the models they run on, and the identities they obey."""

import inspect

import pytest
import torch
from torch import Tensor

from tests.reference import attention as ref
from tests.reference import gradients, models
from tests.zoo import CLASSES, TEXT, bert, timm_model

PIXELS = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
CASES = {
    "class token": (timm_model, PIXELS),
    "no class token": (lambda: timm_model(class_token=False, global_pool="avg"), PIXELS),
    "layer scale": (lambda: timm_model(init_values=0.1), PIXELS),
    "text": (bert, TEXT),
}
MAPS = {**ref.REFERENCES, **gradients.REFERENCES}
OPTIONS = {
    "attribution_rollout": {"mode": "paper", "steps": 3},
    "beyond_intuition": {"mode": "token", "start": 1, "steps": 3},
    "class_embedding_projection": {"gradient": "logit"},
    "generic_attention": {"start": 2},
    "grad_eclip": {"official": True},
    "legrad": {"layers": "all"},
    "rollout": {"start": 2},
    "self_attention_attribution": {"steps": 3},
    "transition_attention_maps": {"start": 0, "integral": False},
}
CLASSLESS = ("raw_attention", "rollout")
SIGNED = ("attcat", "attribution_rollout", "class_embedding_projection", "self_attention_attribution")
TARGET = torch.tensor([[0, 3], [1, 4]])
L = 4


@pytest.fixture(params=CASES.values(), ids=CASES, scope="module")
def case(request):
    build, inputs = request.param
    return models.weights(build()), inputs


@pytest.fixture
def one(case):
    """The model and its second sample alone: a text without its padding."""
    return case[0], list(models.samples(case[1]))[1]


@pytest.fixture(params=[CASES["class token"], CASES["text"]], ids=["class token", "text"])
def shallow(request):
    """Two blocks and one sample, for the integrals of many steps."""
    build, inputs = request.param
    net = models.weights(build())
    del models.blocks(net)[2:]
    return net, next(models.samples(inputs))


def close(left, right, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(left, right, atol=tolerance, rtol=tolerance)


def derivative(f, eps: float = 1e-5) -> Tensor:
    """Central difference of f at 0."""
    return (f(eps) - f(-eps)).detach() / (2 * eps)


def assert_complete(attribution: Tensor, difference: Tensor) -> None:
    """The attributions sum to the difference but for 1 %, as a sum over steps is not the integral."""
    assert (attribution.sum() - difference).abs() < 0.01 * difference.abs()


def replaced(key, change):
    return lambda name, block, t: change(t) if (name, block) == key else t


# ---------------------------------------------------------------------------------------------- the models


def own_logits(net, inputs) -> Tensor:
    return net(**inputs).logits if isinstance(inputs, dict) else net(inputs.double())


def test_the_naive_forward_pass_is_the_model(case):
    net, inputs = case
    close(models.forward(net, inputs).logits, own_logits(net, inputs), 1e-12)


def test_the_head_makes_logits_of_the_end(case):
    net, inputs = case
    trace = models.forward(net, inputs)
    close(models.head(net, trace.at["end", -1]), trace.logits, 0)
    assert trace.at["end", -1] is trace.at["out", L - 1]


def test_every_named_intermediate_can_be_swapped(case):
    net, inputs = case
    seen = []
    same = models.forward(net, inputs, lambda name, block, t: seen.append((name, block)) or t)
    assert seen == list(same.at)
    for name, block in seen:
        other = models.forward(net, inputs, replaced((name, block), lambda t: t**2))
        assert not torch.allclose(other.logits, same.logits), (name, block)


def test_a_float32_model_is_copied_not_touched():
    net = timm_model()
    trace = models.forward(net, PIXELS)
    assert trace.logits.dtype == torch.float64
    assert trace.logits.shape == (2, CLASSES)
    assert next(net.parameters()).dtype == torch.float32


def test_padding_changes_nothing():
    net = models.weights(bert())
    together = models.forward(net, TEXT)
    for i, sample in enumerate(models.samples(TEXT)):
        n = sample["input_ids"].shape[1]
        alone = models.forward(net, sample)
        close(together.logits[i : i + 1], alone.logits, 1e-12)
        for b in range(L):
            close(together.at["A", b][i : i + 1, :, :n, :n], alone.at["A", b], 1e-12)
            assert not together.at["A", b][i, :, :, n:].any()


def test_the_gradient_of_attention_is_its_finite_difference(one):
    net, x = one
    trace = models.forward(net, x)
    for b, g in enumerate(models.gradient(trace.logits[0, 2], trace.all("A"))):
        E = torch.randn(g.shape, dtype=torch.float64)

        def y(t, b=b, E=E):
            return models.forward(net, x, replaced(("A", b), lambda A: A + t * E)).logits[0, 2]

        close(derivative(y), (g * E).sum(), 1e-6)


# ---------------------------------------------------------------------------------------------- every method


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("options", [False, True], ids=["default", "options"])
@pytest.mark.parametrize("case", ["class token", "no class token", "text"])
def test_a_map_has_a_value_for_each_content_token(case, name, options):
    build, inputs = CASES[case]
    net = build()
    R = MAPS[name](net, inputs, TARGET, **(OPTIONS.get(name, {}) if options else {}))
    text = isinstance(inputs, dict)
    assert R.shape == (2, 2, 5 if text else 16)
    assert R.dtype == torch.float64
    assert R.isfinite().all()
    assert not text or not R[1, :, 3:].any()
    assert name in SIGNED or (R >= 0).all()
    assert torch.equal(R[:, 0], R[:, 1]) == (name in CLASSLESS)


@pytest.mark.parametrize("name", MAPS)
def test_defaults_are_the_published_ones(name):
    defaults = {
        "attribution_rollout": {"mode": "code", "steps": 20},
        "beyond_intuition": {"mode": "head", "start": 3, "steps": 20},
        "class_embedding_projection": {"gradient": "cross_entropy"},
        "generic_attention": {"start": 0},
        "grad_eclip": {"official": False},
        "legrad": {"layers": 2},
        "self_attention_attribution": {"steps": 20},
        "transition_attention_maps": {"start": 4, "steps": 20, "integral": True, "first_state": False},
    }
    parameters = inspect.signature(MAPS[name]).parameters
    assert {key: parameters[key].default for key in defaults.get(name, {})} == defaults.get(name, {})


LINEAR = ("agcam", "attcat", "generic_attention", "grad_eclip", "gradcam", "gradcam_features", "legrad")


@pytest.mark.parametrize("name", [*LINEAR, "transition_attention_maps"])
def test_the_map_follows_the_scale_of_the_logit(name):
    """Twice the logit makes twice the map; generic attention over one block alone is linear."""
    net = models.weights(timm_model())
    options = {"start": L - 1} if name == "generic_attention" else {}
    before = MAPS[name](net, PIXELS, TARGET, **options)
    with torch.no_grad():
        net.head.weight.mul_(2)
    close(MAPS[name](net, PIXELS, TARGET, **options), 2 * before)
    with torch.no_grad():
        net.head.weight[3] = 0
    assert not MAPS[name](net, PIXELS, TARGET, **options)[0, 1].any()


# ---------------------------------------------------------------------------------------------- attention


def test_raw_attention_sums_to_what_the_class_token_leaves(one):
    net, x = one
    A = ref.attention(models.forward(net, x))
    close(A[-1].sum(dim=-1), torch.ones(A[-1].shape[:-1], dtype=torch.float64))
    if models.is_bert(net) or net.global_pool == "token":
        R = ref.raw_attention(net, x, TARGET[:1])[0, 0]
        close(R.sum(), 1 - A[-1].mean(dim=0)[0, 0])


def test_rollout_rows_sum_to_one(one):
    net, x = one
    A = [a.mean(dim=0) for a in ref.attention(models.forward(net, x))]
    J = ref.product([ref.normalised(a) for a in A])
    close(J.sum(dim=-1), torch.ones(len(J), dtype=torch.float64))
    assert (J >= 0).all()
    close(ref.normalised(A[0]), (A[0] + ref.eye(A[0])) / 2)


def test_rollout_skips_the_first_block_of_a_picture_only():
    for build, inputs, start in ((timm_model, PIXELS, 1), (bert, TEXT, 0)):
        net = build()
        close(ref.rollout(net, inputs, TARGET), ref.rollout(net, inputs, TARGET, start=start), 0)
        assert not torch.allclose(ref.rollout(net, inputs, TARGET), ref.rollout(net, inputs, TARGET, start=1 - start))


def test_generic_relevance_is_a_product_and_at_least_the_identity(one):
    net, x = one
    A, dA = ref.attention_and_gradient(net, x, 1)
    E = [ref.generic_update(a, d) for a, d in zip(A, dA, strict=True)]
    R = ref.product([ref.eye(e) + e for e in E])
    assert (R - ref.eye(R) >= 0).all()
    close(ref.generic_attention(net, x, torch.tensor([[1]]))[0, 0], models.read(net, R)[models.prefix(net) :])
    assert not ref.generic_update(A[0], -dA[0].abs()).any()


def test_the_rules_for_two_streams_are_those_for_one_when_the_streams_are_joined():
    """From the identity, attention of s to q then within s: R_sq = (I + E_ss) E_sq, and R_qs = 0 leaves R_ss alone."""
    E_sq, E_ss, I_s, I_q = torch.rand(3, 4), torch.rand(3, 3), torch.eye(3), torch.eye(4)
    R_ss, R_sq = ref.bimodal_cross(E_sq, I_s, I_q, torch.zeros(3, 4), torch.zeros(4, 3))
    torch.testing.assert_close(R_ss, I_s)
    torch.testing.assert_close(R_sq, E_sq)
    R_ss, R_sq = ref.bimodal_self(E_ss, R_ss, R_sq)
    torch.testing.assert_close(R_sq, (I_s + E_ss) @ E_sq)
    mixed, _ = ref.bimodal_cross(E_sq, R_ss, I_q, R_sq, torch.ones(4, 3))
    torch.testing.assert_close(mixed, R_ss + E_sq.sum(dim=1, keepdim=True).expand(3, 3))


def test_rbar_rows_of_the_cross_rule_sum_to_two():
    R_ss, R_qq, E = torch.eye(3) + torch.rand(3, 3), torch.eye(4) + torch.rand(4, 4), torch.eye(3, 4)
    _, R_sq = ref.bimodal_cross(E, R_ss, R_qq, torch.zeros(3, 4), torch.zeros(4, 3))
    torch.testing.assert_close(R_sq.sum(), torch.tensor(12.0))  # three 1s in E, twice 2


def test_agcam_differs_from_the_ordinary_gradient_below_the_last_block_only(one):
    net, x = one
    modified = ref.agcam_blocks(net, x, 2)
    ordinary = ref.agcam_blocks(net, x, 2, swap=None)
    close(modified[-1], ordinary[-1], 1e-14)
    for m, o in zip(modified[:-1], ordinary[:-1], strict=True):
        assert not torch.allclose(m, o, rtol=1e-2)


@pytest.mark.parametrize("start", [0, 1, 2, 3, 4, 9])
def test_a_transition_step_doubles_the_state(one, start):
    net, x = one
    s = ref.transition_state(net, ref.attention(models.forward(net, x)), start)
    close(s.sum(), torch.tensor(2.0 ** max(0, L - 1 - start), dtype=torch.float64))


def test_without_integral_and_transition_the_state_is_attention_and_the_gradient_that_of_the_input():
    net = models.weights(timm_model())
    R = ref.transition_attention_maps(net, PIXELS[:1], torch.tensor([[2]]), integral=False, first_state=True)
    A, dA = ref.attention_and_gradient(net, PIXELS[:1], 2)
    close(R[0, 0], (A[-1].mean(dim=0) * dA[-1].clamp(min=0).mean(dim=0))[0, 1:])


def test_attribution_rollout_as_published_is_half_of_attention_times_gradient(one):
    net, x = one
    trace = models.forward(net, x)
    for b in range(L):
        y = models.head(net, trace.at["out", b])[0, 3]
        (g,) = models.gradient(y, [trace.at["A", b]])
        close(ref.lens_attribution(net, x, 3, b), 0.5 * trace.at["A", b][0].detach() * g)
    rows = ref.normalised(ref.lens_attribution(net, x, 3, 0).amax(dim=0)).sum(dim=-1)
    close(rows, torch.ones_like(rows))


def test_the_lens_attribution_of_the_paper_is_complete(shallow):
    net, x = shallow
    for b in range(2):
        full, none = (ref.lens(net, x, 3, b, alpha)[0] for alpha in (1.0, 0.0))
        assert_complete(ref.lens_attribution(net, x, 3, b, mode="paper", steps=300), full - none)


def test_the_importance_of_heads_is_shared_out(one):
    net, x = one
    A, dA = ref.attention_and_gradient(net, x, 1)
    M = ref.head_weighted(A[-1], dA[-1])
    close(M.sum(dim=-1), torch.ones(len(M), dtype=torch.float64))
    assert (A[-1].amax(dim=0) - M >= -1e-15).all()


def test_the_weight_of_a_token_is_the_length_of_what_it_alone_would_write(shallow):
    """Where A = I each token writes W v_j plus the bias; the diagonal matrix weighs the columns of mean_h A."""
    net, x = shallow
    alone = models.forward(net, x, lambda name, b, t: ref.eye(t).expand_as(t) if name == "A" else t)
    block = models.blocks(net)[0]
    bias = (block.attention.output.dense if models.is_bert(net) else block.attn.proj).bias
    ratio = (alone.at["branch", 0][0] - bias).norm(dim=1) / alone.at["x", 0][0].norm(dim=1)
    trace = models.forward(net, x)
    close(ref.token_weighted(net, trace, 0), ref.attention(trace)[0].mean(dim=0) * ratio)


# ---------------------------------------------------------------------------------------------- gradients


def test_cat_is_the_derivative_along_the_state_and_received_attention_sums_to_one(one):
    net, x = one
    for b, (abar, cat) in enumerate(gradients.attcat_terms(net, x, 1)):
        close(abar.sum(), torch.tensor(1.0, dtype=torch.float64))

        def y(t, b=b):
            return models.forward(net, x, replaced(("x", b), lambda h: h * (1 + t))).logits[0, 1]

        close(derivative(y), cat.sum(), 1e-6)


def test_the_weights_of_gradcam_features_are_the_derivative_along_a_shift_of_all_patches():
    net, x = models.weights(timm_model()), PIXELS[:1]
    w = []
    for channel in torch.eye(16, dtype=torch.float64):
        shift = torch.cat([torch.zeros(1, 16), channel.expand(16, 16)])  # the class token stays

        def y(t, shift=shift):
            return models.forward(net, x, replaced(("norm", L - 1), lambda X: X + t * shift)).logits[0, 2]

        w.append(derivative(y) / 16)
    X = models.forward(net, x).at["norm", L - 1][0, 1:].detach()
    close(gradients.gradcam_features(net, x, torch.tensor([[2]]))[0, 0], (X @ torch.stack(w)).clamp(min=0), 1e-7)


def test_self_attention_attribution_is_complete(shallow):
    net, x = shallow
    for b in range(2):
        full, none = (gradients.probability(net, x, 3, b, alpha)[0].detach() for alpha in (1.0, 0.0))
        assert_complete(gradients.layer_attribution(net, x, 3, b, steps=300), full - none)


def test_the_projection_of_the_last_output_is_the_logits(one):
    net, x = one
    trace = models.forward(net, x)
    close(models.head(net, trace.at["out", L - 1]), trace.logits, 0)
    if models.is_bert(net) or net.global_pool == "token":
        ranks = gradients.class_identifiability(net, x, torch.arange(CLASSES)[None])
        assert ranks.shape[:3] == (1, CLASSES, L)
        order = trace.logits[0].argsort(descending=True)
        close(ranks[0, order, L - 1, 0], 1 - torch.arange(CLASSES, dtype=torch.float64) / CLASSES)
        close(ranks.sum(dim=1), torch.full(ranks.sum(dim=1).shape, 3.0, dtype=torch.float64))


def test_projection_importance_sums_to_the_derivative_along_a_shift_of_attention(one):
    net, x = one
    trace = models.forward(net, x)
    for b in range(L):
        e = models.head(net, trace.at["branch", b])[0, 3]
        (dA,) = models.gradient(e, [trace.at["A", b]])

        def shifted(t, b=b):
            shift = models.forward(net, x, replaced(("A", b), lambda A: A + t))
            return models.head(net, shift.at["branch", b])[0, 3]

        close(derivative(shifted), dA.sum(), 1e-6)


@pytest.mark.parametrize("kind", ["cross_entropy", "logit"])
def test_attention_moved_towards_what_is_important_favours_the_class(kind):
    """The map is the gradient of a gain: that of the logit, or of minus the loss, summed over blocks."""
    net, x = models.weights(timm_model()), PIXELS[:1]
    R = gradients.class_embedding_projection(net, x, torch.tensor([[2]]), gradient=kind)[0, 0]
    towards = torch.zeros(17, 17, dtype=torch.float64)
    towards[0, 1:] = R

    def gain(t):
        e = [
            models.head(net, models.forward(net, x, replaced(("A", b), lambda A: A + t * towards)).at["branch", b])
            for b in range(L)
        ]
        return sum(p[0, 2] if kind == "logit" else torch.log_softmax(p.softmax(dim=1), dim=1)[0, 2] for p in e)

    close(derivative(gain), (R * R).sum(), 1e-6)


def test_legrad_is_positive_and_adds_up_over_blocks(one):
    net, x = one
    E = [gradients.legrad_block(net, x, 1, b) for b in range(L)]
    assert all((e >= 0).all() for e in E)
    for layers, used in ((1, E[3:]), (2, E[2:]), ("all", E)):
        R = gradients.legrad(net, x, torch.tensor([[1]]), layers=layers)[0, 0]
        close(R, sum(used)[models.prefix(net) :])


@pytest.mark.parametrize("official", [False, True], ids=["heads", "official"])
def test_eclip_without_its_factors_is_the_output_along_its_gradient(one, official):
    """sum_i A_0i (w . v_i) = w . o, with the heads' own A for their own channels."""
    net, x = one
    p = gradients.eclip_parts(net, x, 2, official)
    heads = len(p["A"])
    assert heads == (1 if official else 2)
    parts = torch.einsum("hqi,ihd,hd->q", p["A"], p["v"].unflatten(1, (heads, -1)), p["w"].unflatten(0, (heads, -1)))
    close(parts, p["Z"] @ p["w"])


def test_eclip_similarity_spans_zero_to_one(one):
    net, x = one
    p = gradients.eclip_parts(net, x, 2, official=False)
    lam = gradients.key_similarity(net, p["q"], p["k"])[models.prefix(net) :]
    assert (lam.min(), lam.max()) == (0, 1)
