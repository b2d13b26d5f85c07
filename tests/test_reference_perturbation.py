"""What the naive perturbation, decomposition and maximisation formulas must satisfy by themselves."""

import math

import pytest
import torch
from torch.testing import assert_close

from tests.reference import decomposition, maximisation, models, perturbation
from tests.zoo import CLASSES, TEXT, bert, timm_model

TARGET = torch.tensor([[0, 3], [2, 1]])
ALONE = {name: t[1:, :4] for name, t in TEXT.items()}  # the second text without its padding


def pictures(batch=2):
    return torch.randn(batch, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def one(net):
    """A float64 net and its input of one sample, without padding."""
    return models.weights(net), pictures()[:1].double() if not models.is_bert(net) else ALONE


@pytest.fixture(params=[timm_model, bert, lambda: timm_model(init_values=0.5)], ids=["ViT", "BERT", "layer scale"])
def subject(request):
    return one(request.param())


REFERENCES = {**perturbation.REFERENCES, **decomposition.REFERENCES}
TEXTUAL = ["tis", *decomposition.REFERENCES]


@pytest.mark.parametrize("name", REFERENCES)
def test_shapes_of_pictures(name):
    net = timm_model(depth=2)
    R = REFERENCES[name](net, pictures(), TARGET)
    assert R.shape == ((2, 2, 16, 16) if name == "vit_cx" else (2, 2, 16))
    assert R.dtype == torch.float64
    assert R.isfinite().all()
    assert next(net.parameters()).dtype == torch.float32
    agnostic = name in ("alti", "globenc")
    assert torch.equal(R[:, 0], R[:, 1]) == agnostic


@pytest.mark.parametrize("name", TEXTUAL)
def test_a_padded_text_is_explained_without_its_padding(name):
    net = bert()
    R = REFERENCES[name](net, TEXT, TARGET)
    assert R.shape == (2, 2, 5)
    assert_close(R[1:, :, :3], REFERENCES[name](net, ALONE, TARGET[1:]))
    assert (R[1, :, 3:] == 0).all()
    assert (R[1, :, :3] != 0).all()


@pytest.mark.parametrize("options", [{"qk_norm": True}, {"class_token": False, "global_pool": "avg"}])
def test_other_architectures_are_refused(options):
    with pytest.raises(NotImplementedError):
        decomposition.decompx(timm_model(**options), pictures(), TARGET)


# ------------------------------------------------------------------------------------------ ViT-CX


@torch.no_grad()
def test_vit_cx_with_one_full_mask_is_the_probability():
    net, x = one(timm_model())
    M, Z = torch.ones(1, 16, 16, dtype=x.dtype), torch.zeros(1, 3, 16, 16, dtype=x.dtype)
    R = perturbation.covered(perturbation.causal_scores(net, x, 3, M, Z), M)
    assert_close(R, net(x).softmax(dim=-1)[0, 3].expand(16, 16))


@torch.no_grad()
def test_vit_cx_lies_between_its_scores():
    net, x = one(timm_model())
    M = perturbation.cluster_masks(perturbation.feature_maps(net, x))
    assert len(M) > 1
    assert_close(M.amin(dim=(1, 2)), torch.zeros(len(M), dtype=M.dtype))
    assert_close(M.amax(dim=(1, 2)), torch.ones(len(M), dtype=M.dtype))
    assert_close(perturbation.covered(torch.ones(len(M), dtype=M.dtype), M), torch.ones(16, 16, dtype=M.dtype))
    s = perturbation.causal_scores(net, x, 3, M, torch.zeros(len(M), 3, 16, 16, dtype=x.dtype))
    R = perturbation.vit_cx(net, x, torch.tensor([[3]]))[0, 0]
    assert s.min() / len(M) - 1e-12 <= R.min()
    assert R.max() <= s.max() / len(M) + 1e-12


def test_vit_cx_leaves_out_constant_maps_and_uncovered_places():
    maps = torch.rand(3, 4, 4, dtype=torch.float64)
    maps[1] = 0.7
    assert_close(perturbation.minmax(maps), perturbation.minmax(maps[[0, 2]]))
    assert len(perturbation.minmax(maps[1:2])) == 0
    M = torch.tensor([[[0.0, 1.0]]])
    assert_close(perturbation.covered(torch.tensor([2.0]), M), torch.tensor([[0.0, 2.0]]))


@torch.no_grad()
@pytest.mark.parametrize("threshold", [0.1, 0.15, 0.3])
def test_vit_cx_clusters_by_complete_linkage(threshold):
    hierarchy = pytest.importorskip("scipy.cluster.hierarchy")
    distance = pytest.importorskip("scipy.spatial.distance")
    net, x = one(timm_model())
    maps = perturbation.feature_maps(net, x)
    tree = hierarchy.linkage(distance.pdist(maps.flatten(1).numpy(), "cosine"), method="complete")
    expected = torch.tensor(hierarchy.fcluster(tree, threshold, criterion="distance"))
    labels = torch.tensor(perturbation.clusters(maps, threshold))
    assert len(labels.unique()) < len(maps)
    assert torch.equal(labels[:, None] == labels, expected[:, None] == expected)


def test_vit_cx_clusters_of_few_maps():
    maps = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]], [[1.0, 0.1]]])
    assert perturbation.clusters(maps) == [0, 1, 0]
    assert perturbation.clusters(maps, threshold=2) == [0, 0, 0]
    assert perturbation.clusters(maps[:1]) == [0]
    assert perturbation.clusters(maps[:0]) == []


@torch.no_grad()
def test_vit_cx_enlarges_as_torchvision():
    transforms = pytest.importorskip("torchvision.transforms")
    net, x = one(timm_model())
    seen = []
    handle = net.blocks[-1].norm1.register_forward_hook(lambda m, args, out: seen.append(out[0, 1:]))
    net(x)
    handle.remove()
    f = transforms.Resize((16, 16))(seen[0].T.reshape(16, 4, 4))
    assert_close(perturbation.feature_maps(net, x), perturbation.minmax(f))


def test_vit_cx_noise_lies_where_the_mask_does_not():
    normal, M = torch.randn(2, 3, 1, 2), torch.tensor([[[0.0, 1.0]], [[0.5, 0.0]]])
    Z = perturbation.background(normal, M, noise=0.1)
    assert_close(Z[0], 0.1 * normal[0] * torch.tensor([[1.0, 0.0]]))
    assert_close(Z[1], 0.1 * normal[1] * torch.tensor([[0.5, 1.0]]))


@torch.no_grad()
def test_vit_cx_is_its_pieces_together():
    net, x = one(timm_model(depth=2))
    M = perturbation.cluster_masks(perturbation.feature_maps(net, x))
    generator = torch.Generator().manual_seed(0)
    Z = perturbation.background(torch.stack([torch.randn(3, 16, 16, generator=generator, dtype=x.dtype) for _ in M]), M)
    s = perturbation.causal_scores(net, x, 3, M, Z)
    R = perturbation.vit_cx(net, x, torch.tensor([[3]]), noise=0.1, generator=torch.Generator().manual_seed(0))
    assert_close(R[0, 0], (s[:, None, None] * M).sum(dim=0) / M.sum(dim=0) / len(M))


def test_vit_cx_noise_is_drawn_from_the_generator():
    net, x, target = timm_model(depth=2), pictures()[:1], TARGET[:1]

    def R(noise, seed):
        return perturbation.vit_cx(net, x, target, noise=noise, generator=torch.Generator().manual_seed(seed))

    assert torch.equal(R(0.1, 0), R(0.1, 0))
    assert not torch.allclose(R(0.1, 0), R(0.1, 1), atol=1e-9)
    assert torch.equal(R(0.0, 0), R(0.0, 1))


# ------------------------------------------------------------------------------------------ TIS


@pytest.mark.parametrize(("ratio", "kept"), [(0.5, 8), (0.3, 4), (1.0, 16)])
def test_tis_masks_keep_the_largest(ratio, kept):
    centroids = torch.randn(20, 16, dtype=torch.float64)
    M = perturbation.token_masks(centroids, ratio)
    assert (M.sum(dim=1) == kept).all()
    assert ((M == 0) | (M == 1)).all()
    lowest_kept = centroids.where(M == 1, torch.inf).amin(dim=1)
    assert (lowest_kept > centroids.where(M == 0, -torch.inf).amax(dim=1)).all()


@torch.no_grad()
def test_tis_scores(subject):
    net, x = subject
    S = len(decomposition.steps(net, x)[0][0].x) - 1
    p = (net(**x).logits if isinstance(x, dict) else net(x)).softmax(dim=-1)[0]
    assert_close(perturbation.sampled(net, x, list(range(S))).softmax(dim=-1), p)
    assert not torch.allclose(perturbation.sampled(net, x, list(range(S - 1))).softmax(dim=-1), p, atol=1e-6)
    centroids = torch.randn(6, S, dtype=torch.float64)
    scores = perturbation.sampled_scores(net, x, 1, perturbation.token_masks(centroids))
    R = perturbation.tis(net, x, torch.tensor([[1]]), centroids=[centroids])[0, 0]
    selected = perturbation.token_masks(centroids).sum(dim=0) > 0
    assert (R[~selected] == 0).all()
    assert scores.min() - 1e-12 <= R[selected].min()
    assert R.max() <= scores.max() + 1e-12


def test_tis_of_a_token_never_kept_is_zero():
    centroids = torch.arange(16.0).expand(3, 16)
    R = perturbation.tis(timm_model(depth=2), pictures()[:1], TARGET[:1], centroids=[centroids])
    assert (R[..., :8] == 0).all()
    assert (R[..., 8:] > 0).all()
    assert_close(R[0, 0, 8:], R[0, 0, 8].expand(8))


@torch.no_grad()
def test_tis_dropping_a_token_is_blocking_its_key():
    net, x = one(timm_model())
    kept = [0, 3, 4, 9]
    dropped = [1 + j for j in range(16) if j not in kept]

    def swap(name, block, value):
        return value.index_fill(-1, torch.tensor(dropped), -torch.inf) if name == "O" else value

    assert_close(perturbation.sampled(net, x, kept), models.forward(net, x, swap).logits[0])


@torch.no_grad()
def test_tis_vectors_are_the_block_outputs():
    net, x = one(timm_model())
    seen = []
    for block in net.blocks:
        block.register_forward_hook(lambda m, args, out: seen.append(out))
    net(x)
    vectors = perturbation.channel_vectors(models.forward(net, x), 1)
    assert vectors.shape == (4 * 16, 16)
    assert_close(vectors[2 * 16 + 5], seen[2][0, 1:, 5])


def test_tis_k_means_finds_separate_groups():
    centres = 10 * torch.eye(3, 8, dtype=torch.float64)
    vectors = centres.repeat_interleave(5, dim=0) + 0.1 * torch.randn(15, 8, dtype=torch.float64)
    assert_close(perturbation.k_means(vectors, 15), vectors)
    runs = [perturbation.k_means(vectors, 3, torch.Generator().manual_seed(seed)) for seed in range(10)]
    cost = [torch.cdist(vectors, c).amin(dim=1).square().sum() for c in runs]
    best = runs[int(torch.stack(cost).argmin())]
    means = vectors.reshape(3, 5, 8).mean(dim=1)
    assert_close(best[torch.cdist(means, best).argmin(dim=1)], means)


# ------------------------------------------------------------------------------------------ ViT-ReciproCAM


def test_reciprocam_kernel():
    G = perturbation.grid_masks(4, 5).reshape(20, 4, 5)
    kernel = torch.tensor([[1, 2, 1], [2, 4, 2], [1, 2, 1]], dtype=torch.float64) / 16
    assert_close(G[1 * 5 + 2, 0:3, 1:4], kernel)
    assert_close(G[6:9].sum(dim=(1, 2)), torch.ones(3, dtype=torch.float64))
    assert_close(G[0, :2, :2], kernel[1:, 1:])  # cut, not renormalised
    assert G[0].sum() == 9 / 16
    assert torch.equal(perturbation.grid_masks(4, 5, gaussian=False), torch.eye(20, dtype=torch.float64))


@torch.no_grad()
def test_reciprocam_unmasked_is_the_logit():
    net, x = one(timm_model())
    assert_close(perturbation.masked_logits(net, x, torch.ones(17, dtype=x.dtype)), net(x)[0])


@torch.no_grad()
@pytest.mark.parametrize("gaussian", [True, False])
@pytest.mark.parametrize("class_token", [True, False])
def test_reciprocam_through_the_model_s_own_last_block(gaussian, class_token):
    net, x = one(timm_model())
    X = net._pos_embed(net.patch_embed(x))
    for block in net.blocks[:-1]:
        X = block(X)
    R = perturbation.reciprocam(net, x, TARGET[:1], gaussian, class_token)
    last = net.blocks[-1]
    for p, G_p in enumerate(perturbation.grid_masks(4, 4, gaussian)):
        m = torch.cat([torch.tensor([float(class_token)]), G_p])[:, None]
        mid = m * X + last.attn(m * last.norm1(X))
        y = net.forward_head(net.norm(mid + last.mlp(last.norm2(mid))))
        assert_close(R[0, :, p], y[0, TARGET[0]])


# ------------------------------------------------------------------------------------------ ALTI, GlobEnc


@torch.no_grad()
def test_attention_parts_sum_to_the_sublayer(subject):
    net, x = subject
    for s in decomposition.steps(net, x)[0]:
        assert_close(decomposition.attention_parts(s).sum(dim=1) + s.block.out[1], s.true.mid)


@torch.no_grad()
@pytest.mark.parametrize("p", [1, 2])
def test_alti_rows_are_shares(subject, p):
    C = decomposition.matrices(*subject, decomposition.alti_matrix, p=p)
    for M in [*C, decomposition.rolled_out(C)]:
        assert (M >= 0).all()
        assert_close(M.sum(dim=1), torch.ones(len(M), dtype=M.dtype))


@torch.no_grad()
@pytest.mark.parametrize("build", [timm_model, bert], ids=["pre-LN", "post-LN"])
def test_alti_of_a_block_by_hand(build):
    net, x = one(build())
    s = decomposition.steps(net, x)[0][1]
    T, y = decomposition.attention_parts(s), s.true.mid
    if models.is_bert(net):
        norm = net.bert.encoder.layer[1].attention.output.LayerNorm
        T = norm.weight * (T - T.mean(-1, keepdim=True)) / (y.var(-1, correction=0) + norm.eps).sqrt()[:, None, None]
        y = norm(y)
    c = (y.abs().sum(-1)[:, None] - (y[:, None] - T).abs().sum(-1)).clamp(min=0)
    assert_close(decomposition.alti_matrix(s), c / c.sum(dim=1, keepdim=True))


@torch.no_grad()
def test_alti_of_one_token_is_its_whole_share():
    net, _ = one(bert())
    C = decomposition.matrices(net, {"input_ids": torch.tensor([[1]])}, decomposition.alti_matrix)
    assert_close(decomposition.rolled_out(C), torch.ones(1, 1, dtype=torch.float64))


def test_rollout_multiplies_later_blocks_from_the_left():
    first, second = torch.rand(2, 3, 3)
    assert_close(decomposition.rolled_out([first, second]), second @ first)


@torch.no_grad()
def test_norm_linearised_sums_to_the_norm(subject):
    net, x = subject
    for s in decomposition.steps(net, x)[0]:
        parts = decomposition.attention_parts(s) + s.block.out[1] / len(s.x)
        whole = decomposition.norm_linearised(parts, s.block.norm1, s.true.mid).sum(dim=1) + s.block.norm1.bias
        assert_close(whole, s.block.norm1(s.true.mid))


@torch.no_grad()
def test_globenc_norms_of_a_block_by_hand():
    net, x = one(bert())
    s = decomposition.steps(net, x)[0][1]
    layer, N = net.bert.encoder.layer[1], len(s.x)
    W, D = layer.attention.output.dense.weight, 8
    v = layer.attention.self.value(s.x)
    for i in range(N):
        for j in range(N):
            E = sum(s.A[h, i, j] * W[:, h * D : (h + 1) * D] @ v[j, h * D : (h + 1) * D] for h in range(2))
            E = E + (i == j) * s.x[i]
            for norm, true in ((layer.attention.output.LayerNorm, s.true.mid), (layer.output.LayerNorm, s.true.total)):
                E = norm.weight * (E - E.mean()) / (true[i].var(correction=0) + norm.eps).sqrt()
            assert_close(decomposition.globenc_matrix(s)[i, j], E.square().sum().sqrt())


@torch.no_grad()
def test_globenc_of_a_picture_ignores_the_ffn():
    net, x = one(timm_model(depth=1))
    before = decomposition.globenc(net, x, TARGET[:1])
    net.blocks[0].mlp.fc2.weight.mul_(3)
    assert torch.equal(decomposition.globenc(net, x, TARGET[:1]), before)
    assert not torch.equal(decomposition.globenc(net, x, TARGET[:1], value_bias=False), before)


# ------------------------------------------------------------------------------------------ DecompX


READINGS = [decomposition.Reading(b, f) for b in ("after_residual", "where_added") for f in (True, False)]


@torch.no_grad()
@pytest.mark.parametrize("reading", READINGS, ids=str)
def test_decompx_parts_sum_to_the_truth_everywhere(subject, reading):
    parts, whole, share, logits = decomposition.decomposed(*subject, reading)
    for p, t in zip(parts, whole, strict=True):
        gaps = decomposition.gaps(p, t)
        assert max(gaps.values()) < 1e-10, gaps
    assert share.shape == (len(whole[0].y), CLASSES)
    assert_close(share.sum(dim=0), logits, rtol=0, atol=1e-10)
    assert (share < 0).any()


@torch.no_grad()
@pytest.mark.parametrize("reading", READINGS, ids=str)
def test_decompx_parts_lack_nothing_but_the_value_bias(subject, reading):
    whole = decomposition.decomposed(*subject, reading)[1]
    for b, (w, s) in enumerate(zip(whole, decomposition.steps(*subject)[0], strict=True)):
        later = reading.biases == "after_residual" and b > 0
        for name in vars(w):
            lacking = s.block.value[1] if later and name in ("v", "Z") else torch.zeros(())
            assert_close(getattr(w, name) + lacking, getattr(s.true, name))


@torch.no_grad()
def test_decompx_shares_out_the_biases_of_attention_after_the_residual(subject):
    net, _ = subject
    reading = decomposition.Reading()
    parts = decomposition.decomposed(*subject, reading)[0]
    for b, s in enumerate(decomposition.steps(*subject)[0]):
        X, (W_V, b_V), (W_O, b_O) = (parts[b - 1].y if b else decomposition.own(s.x)), s.block.value, s.block.out
        u = decomposition.norm_parts(X, s.block.norm1, s.x) if not models.is_bert(net) else X
        T = torch.zeros_like(X)
        for i in range(len(X)):
            for k in range(len(X)):
                A_ik = s.A[:, i, k].repeat_interleave(len(W_V) // len(s.A))
                for j in range(len(X)):
                    T[i, j] += W_O @ (A_ik * (W_V @ u[k, j] + (b_V if b == 0 and j == k else 0)))
        T, bias = T + X, b_O if b == 0 else W_O @ b_V + b_O
        for i in range(len(X)):
            weight = (T[i] @ bias).abs()
            assert_close(parts[b].mid[i], T[i] + weight[:, None] / weight.sum() * bias, rtol=0, atol=1e-10)


@torch.no_grad()
def test_decompx_in_every_reading_is_one_without_biases(subject):
    net, x = subject
    for name, p in net.named_parameters():
        if name.endswith("bias"):
            p.zero_()
    shares = [decomposition.decomposed(net, x, reading)[2] for reading in READINGS]
    for share in shares[1:]:
        assert_close(share, shares[0])


@torch.no_grad()
def test_decompx_of_a_scaled_branch_is_that_of_the_scale_folded_in():
    net, x = one(timm_model(init_values=0.5))
    folded, apart = (decomposition.decomposed(net, x, decomposition.Reading(folded=f))[2] for f in (True, False))
    for block in net.blocks:
        for layer, scale in ((block.attn.proj, block.ls1), (block.mlp.fc2, block.ls2)):
            layer.weight.mul_(scale.gamma[:, None])
            layer.bias.mul_(scale.gamma)
            scale.gamma.fill_(1)
    for f in (True, False):
        assert_close(decomposition.decomposed(net, x, decomposition.Reading(folded=f))[2], folded)
    assert not torch.allclose(folded, apart, rtol=1e-3)


def test_decompx_refuses_an_unknown_reading():
    with pytest.raises(ValueError, match="'where_added', got 'nowhere'"):
        decomposition.decompx(timm_model(), pictures(), TARGET, biases="nowhere")


@torch.no_grad()
def test_decompx_true_values_are_the_model_s(subject):
    net, x = subject
    seen = {}
    for b, layer in enumerate(models.blocks(net)):
        gelu = layer.intermediate.intermediate_act_fn if models.is_bert(net) else layer.mlp.act
        gelu.register_forward_hook(lambda m, args, out, b=b: seen.update({("z", b): args[0][0], ("g", b): out[0]}))
        layer.register_forward_hook(lambda m, args, out, b=b: seen.update({("y", b): out[0]}))
    steps = decomposition.steps(net, x)[0]
    for b, s in enumerate(steps):
        for name in ("z", "g", "y"):
            assert_close(getattr(s.true, name), seen[name, b])


@torch.no_grad()
def test_decompx_of_one_token_is_the_logit():
    net, _ = one(bert())
    _, _, share, logits = decomposition.decomposed(net, {"input_ids": torch.tensor([[1]])}, decomposition.Reading())
    assert_close(share[0], logits, rtol=0, atol=1e-10)


def test_absdot_spreads_a_bias_by_projection():
    X, b = torch.tensor([[3.0, 0.0], [-1.0, 5.0]], dtype=torch.float64), torch.tensor([2.0, 0.0], dtype=torch.float64)
    assert_close(decomposition.absdot(X, b), X + torch.tensor([[1.5, 0.0], [0.5, 0.0]], dtype=torch.float64))
    assert decomposition.absdot(X, None) is X


# ------------------------------------------------------------------------------------------ activation maximisation


def test_total_variation():
    assert maximisation.total_variation(torch.full((2, 3, 4, 4), 0.3)) == 0
    x = torch.tensor([[1.0, 2.0], [4.0, 8.0]])[None, None]
    expected = math.hypot(1, 4) + math.hypot(3, 6) + 7 + 2  # along x, along y, both diagonals
    assert_close(maximisation.total_variation(x), torch.tensor(expected))
    assert_close(maximisation.total_variation(x.repeat(5, 3, 1, 1)), torch.tensor(expected))


@torch.no_grad()
def test_activations_are_what_the_model_computes():
    net, x = models.weights(timm_model()), pictures().double()
    seen = []
    net.blocks[2].mlp.act.register_forward_hook(lambda m, args, out: seen.append(out))
    net(x)
    expected = seen[0]
    assert_close(maximisation.activations(net, x, 2), expected)
    mean = expected[:, 1:, 7].mean()
    assert_close(maximisation.objective(net, x, 2, 7, v=0), mean)
    TV = maximisation.total_variation(x)
    assert_close(maximisation.objective(net, x, 2, 7, v=0.1), mean - 0.00005 * TV)
    assert_close(maximisation.objective(net, x, 2, 7, v=0.1, diag=True), mean / 2 - 0.00005 * TV)
    flat = torch.zeros(1, 3, 16, 16)
    assert_close(maximisation.objective(net, x, 2, 7, picture=flat), mean)


def test_augmentations():
    x = torch.rand(1, 3, 6, 5)
    assert_close(maximisation.shifted(x, 2, -3), torch.roll(x, (2, -3), dims=(2, 3)))
    assert maximisation.tiled(x, 2).shape == (1, 3, 12, 10)
    mu, log_sd, normal = torch.rand(3, 8, 3, 1, 1)
    y = maximisation.augmented(x, mu, log_sd, normal, 0.25, (1, 1))
    assert y.shape == (8, 3, 6, 5)
    back = (torch.roll(y, (-1, -1), dims=(2, 3)) - 0.25 * normal) * torch.exp(log_sd) + mu
    assert_close(back, x.expand(8, -1, -1, -1))
    assert_close(maximisation.clipped(torch.tensor([-0.1, 0.4, 1.2])), torch.tensor([0.0, 0.4, 1.0]))


def test_schedules():
    assert [maximisation.offset_level(step) for step in (0, 200, 400)] == [0.5, 0.25, 0.0]
    assert [maximisation.learning_rate(step) for step in (0, 200, 400)] == pytest.approx([0.1, 0.05, 0.0])
