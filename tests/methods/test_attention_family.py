"""What must hold for methods made of attention matrices."""

import pytest
import torch
from torch import Tensor

from gradtoken import along
from gradtoken.errors import BadTarget, NoAttention, NoBlocks, UnknownName
from gradtoken.methods import METHODS
from gradtoken.methods import beyond_intuition as beyond
from gradtoken.methods import transition_attention_maps as transition
from gradtoken.methods.generic_attention import BiModal, cross_attended, residual_normalised, self_attended
from gradtoken.probe import Probe
from gradtoken.readout import content, readout
from gradtoken.run import Run
from tests import zoo

TARGET = torch.tensor([[0, 3], [1, 4]])
CLASS_TOKEN, POOLED = zoo.PICTURES["class token"], zoo.PICTURES["no prefix, mean"]
ATTENTION_POOLING = zoo.PICTURES["attention pooling"]


def probe_of(subject: zoo.Subject, target=TARGET) -> Probe:
    torch.manual_seed(0)
    return Probe(subject.build().double(), zoo.pictures(subject).double(), target)


def run(name: str, probe: Probe, **options) -> Tensor:
    return METHODS[name].bind(options)(probe)


def close(a: Tensor, b: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(a, b, atol=tolerance * max(b.abs().max().item(), 1e-30), rtol=0)


# Rollout --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subject", [POOLED, ATTENTION_POOLING])
@pytest.mark.parametrize("start", [0, 1, 3])
def test_rollout_shares_out_one(subject, start):
    R = run("rollout", probe_of(subject), start=start)
    assert (R >= 0).all()
    close(R.sum(dim=2), torch.ones(2, 2, dtype=torch.float64))


def test_rollout_starts_at_block_1_for_pictures_and_0_for_texts():
    picture, text = probe_of(CLASS_TOKEN), Probe(zoo.bert().double(), zoo.TEXT, 0)
    assert torch.equal(run("rollout", picture), run("rollout", picture, start=1))
    assert torch.equal(run("rollout", text), run("rollout", text, start=0))


@pytest.mark.parametrize("name", ["rollout", "generic_attention", "transition_attention_maps", "beyond_intuition"])
@pytest.mark.parametrize("start", [4, -1])
def test_a_start_out_of_range_is_refused(name, start):
    with pytest.raises(BadTarget, match=r"start from 0 to 3, the last of the blocks over its tokens, got "):
        run(name, probe_of(CLASS_TOKEN), start=start)


def test_defaults_that_a_shallow_model_does_not_have_are_its_last_block():
    subject = zoo.Subject(lambda: zoo.timm_model(depth=2), 1, (4, 4))
    probe = probe_of(subject)
    assert torch.equal(run("beyond_intuition", probe, steps=2), run("beyond_intuition", probe, steps=2, start=1))
    assert torch.equal(
        run("transition_attention_maps", probe, steps=2), run("transition_attention_maps", probe, steps=2, start=1)
    )


# Generic attention ----------------------------------------------------------------------------------------------------


def test_generic_attention_is_the_product_of_open_matrices():
    probe = probe_of(CLASS_TOKEN)
    R = torch.eye(17, dtype=torch.float64)
    for block in probe.plain.blocks:
        E = (probe.plain.dA(block) * probe.plain.A(block)[:, None]).clamp(min=0).mean(dim=2)
        R = R + E @ R
        assert (torch.eye(17) <= R).all()
    close(run("generic_attention", probe), R[:, :, 0, 1:])


def test_attention_without_positive_gradient_has_no_relevance(monkeypatch):
    dA = Run.dA
    monkeypatch.setattr(Run, "dA", lambda *where: -dA(*where).abs())
    assert not run("generic_attention", probe_of(CLASS_TOKEN)).any()


def naive_residual_normalised(R: Tensor) -> Tensor:
    n = len(R)
    hat = [[R[i, j].item() - (i == j) for j in range(n)] for i in range(n)]
    return torch.tensor(
        [[(hat[i][j] / sum(hat[i]) if sum(hat[i]) else 0.0) + (i == j) for j in range(n)] for i in range(n)],
        dtype=torch.float64,
    )


def test_bi_modal_rules_are_those_of_the_paper():
    s, q = 3, 4
    E_ss, E_sq, E_qq, E_qs = (torch.rand(*n, dtype=torch.float64) for n in ((s, s), (s, q), (q, q), (q, s)))
    R_s = BiModal(torch.eye(s, dtype=torch.float64), torch.zeros(s, q, dtype=torch.float64))
    R_q = BiModal(torch.eye(q, dtype=torch.float64), torch.zeros(q, s, dtype=torch.float64))
    R_s, R_q = self_attended(E_ss, R_s), self_attended(E_qq, R_q)
    close(R_s.ss, torch.eye(s).double() + E_ss)
    assert not R_s.sq.any()
    first = cross_attended(E_sq, R_s, R_q)
    expected = naive_residual_normalised(R_s.ss).T @ E_sq @ naive_residual_normalised(R_q.ss)
    close(first.sq, expected)
    assert torch.equal(first.ss, R_s.ss)  # R_qs is still 0
    back = cross_attended(E_qs, R_q, first)
    close(back.ss, R_q.ss + E_qs @ expected)
    then = self_attended(E_ss, first)
    close(then.sq, first.sq + E_ss @ first.sq)


def test_a_row_that_collected_nothing_stays_that_of_the_identity():
    R = torch.eye(3, dtype=torch.float64)
    R[0, 1] = 2.0
    assert residual_normalised(R).tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]


# Transition attention maps, Beyond Intuition --------------------------------------------------------------------------


@pytest.mark.parametrize("start", [0, 1, 3])
def test_states_double_in_each_block(start):
    s = transition.states(probe_of(POOLED), start)
    close(s.sum(dim=2), torch.full((2, 1), 2.0 ** (3 - start), dtype=torch.float64))


def test_the_gradient_of_pooled_rows_is_clipped_row_by_row():
    """The mean over the rows of mean_h relu(mean of dA), each run in the open."""
    probe, W = probe_of(POOLED), []
    for factor in (0.0, 0.5, 1.0):
        W.append(Probe(probe.net, factor * probe.grid, TARGET).plain.dA(3))
    expected = torch.stack(W).mean(dim=0).clamp(min=0).mean(dim=(2, 3))
    close(along.positive_gradient(probe, 3), expected)
    close(run("transition_attention_maps", probe, steps=3), transition.states(probe, 3) * expected)


def test_the_gradient_is_averaged_before_it_is_clipped_and_one_step_is_the_input_itself():
    probe = probe_of(CLASS_TOKEN)
    both = [probe.run(inputs=probe.pictured(factor * probe.grid)).dA(3, 0, 1) for factor in (0, 1)]
    expected = (sum(both) / 2).clamp(min=0).mean(dim=(2, 3))
    close(along.positive_gradient(probe, 2), expected)
    close(along.positive_gradient(probe, None), both[1].clamp(min=0).mean(dim=(2, 3)))


def test_head_weights_are_those_of_the_open_product_and_sum_to_one():
    probe = probe_of(CLASS_TOKEN)
    for block in (0, 3):
        I = (probe.plain.A(block).mT[:, None] @ probe.plain.dA(block)).abs().mean(dim=(3, 4))
        close(beyond.head_weights(probe, block), I / I.sum(dim=2, keepdim=True))
    perceived = run("beyond_intuition", probe, steps=2)
    assert (perceived >= 0).all()


def test_token_weights_need_blocks_of_their_own():
    with pytest.raises(NoBlocks, match="the last attention has none of its own"):
        run("beyond_intuition", probe_of(ATTENTION_POOLING), mode="token")
    with pytest.raises(UnknownName, match="no mode 'tokens'; did you mean 'token'"):
        run("beyond_intuition", probe_of(CLASS_TOKEN), mode="tokens")


# Attribution rollout, self-attention attribution ----------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"mode": "paper", "steps": 3}])
def test_attribution_rollout_shares_out_one(options):
    R = run("attribution_rollout", probe_of(POOLED), **options)
    close(R.sum(dim=2), torch.ones(2, 2, dtype=torch.float64))


def test_attribution_rollout_of_one_block_is_half_of_attention_times_gradient():
    subject = zoo.Subject(lambda: zoo.timm_model(depth=1), 1, (4, 4))
    probe = probe_of(subject)
    E = (0.5 * probe.plain.A(0)[:, None] * probe.plain.dA(0)).amax(dim=2) + torch.eye(17)
    close(run("attribution_rollout", probe), (E / E.sum(dim=-1, keepdim=True))[:, :, 0, 1:])


def test_attribution_along_attention_sums_to_the_change_of_the_probability():
    """Completeness, block by block, with the middles of 300 steps; the last block's own head is the model's."""
    probe = probe_of(CLASS_TOKEN)
    middles = (torch.arange(300, dtype=torch.float64) + 0.5) / 300
    full = probe.score(probability=True)
    for block in probe.plain.blocks:
        dZ = along.mean_gradient(probe, block, middles, probability=True)
        total = (dZ * probe.plain.value("Z", block)[:, None]).sum(dim=(2, 3, 4))  # = sum of A * dA
        gap = full - probe.score(edits={("Z", block): lambda Z: 0 * Z}, probability=True)
        close(total, gap, 1e-4)
    own = along.mean_gradient(probe, 3, middles[:2], own_head=True)
    close(own, along.mean_gradient(probe, 3, middles[:2]))


def test_self_attention_attribution_reads_probabilities():
    with pytest.raises(BadTarget, match="reads class probabilities"):
        run("self_attention_attribution", probe_of(CLASS_TOKEN, lambda logits: logits[:, 0]), steps=2)


@pytest.mark.parametrize(
    "name", ["transition_attention_maps", "beyond_intuition", "self_attention_attribution", "attribution_rollout"]
)
def test_no_steps_are_refused(name):
    options = {"mode": "paper"} if name == "attribution_rollout" else {}
    with pytest.raises(BadTarget, match="expected at least 1 step, got 0"):
        run(name, probe_of(CLASS_TOKEN), steps=0, **options)


# AGCAM, GradCAM -------------------------------------------------------------------------------------------------------


def test_agcam_of_the_last_block_needs_no_cut():
    probe = probe_of(zoo.Subject(lambda: zoo.timm_model(depth=1), 1, (4, 4)))
    last = probe.last
    O = last.q[:, :, :1] @ last.k.mT * last.scale
    expected = (O.sigmoid()[:, None] * probe.plain.dA(0, 0, 1).clamp(min=0)).sum(dim=(2, 3))
    close(run("agcam", probe), expected[..., 1:])


def test_agcam_refuses_attention_that_is_no_softmax_of_its_scores():
    timm = pytest.importorskip("timm")
    size = {"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": zoo.CLASSES}
    net = zoo.shaken(timm.models.cait.Cait(**size)).double()
    with pytest.raises(NoAttention, match="mixed among heads after its softmax"):
        run("agcam", Probe(net, zoo.pictures(CLASS_TOKEN).double(), 0))
    R = run("libra", Probe(net, zoo.pictures(CLASS_TOKEN).double(), 0), of="fullgrad")
    assert R.std() > 0


@pytest.mark.parametrize("name", ["gradcam", "gradcam_features"])
def test_gradcam_scales_with_the_logit_and_is_never_negative(name):
    one = run(name, probe_of(CLASS_TOKEN, lambda logits: logits[:, :3]))
    three = run(name, probe_of(CLASS_TOKEN, lambda logits: 3 * logits[:, :3]))
    assert (one >= 0).all()
    close(three, 3 * one)


def test_gradcam_is_the_clipped_mean_of_weighted_heads():
    probe = probe_of(CLASS_TOKEN)
    a, g = probe.plain.A(3)[:, None, :, 0, 1:], probe.plain.dA(3)[:, :, :, 0, 1:]
    close(run("gradcam", probe), (g.mean(dim=-1, keepdim=True) * a).mean(dim=2).clamp(min=0))


def test_the_readout_is_the_class_token_the_pooled_tokens_or_the_mean_patch():
    close(readout(probe_of(CLASS_TOKEN), 0)[0, 0], torch.eye(17, dtype=torch.float64)[0])
    close(readout(probe_of(POOLED), 0)[0, 0], torch.full((16,), 1 / 16, dtype=torch.float64))
    pooling = probe_of(ATTENTION_POOLING)
    assert readout(pooling).tolist() == [[[1.0]], [[1.0]]]
    close(readout(pooling, 0)[0, 0], torch.full((16,), 1 / 16, dtype=torch.float64))
    assert content(pooling, readout(pooling)).sum() == 0  # a pooling query is no patch
