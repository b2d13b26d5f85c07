"""The reference alone: its forward against torch's, the invariants of GradToken, and a model explained by hand."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.reference import gradtoken as oracle
from tests.reference.gradtoken import HEADS, PROPAGATIONS, capture, gradtoken, relevance

SCHEMES = list(itertools.product(PROPAGATIONS, HEADS))


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


# ------------------------------------------------------------------------------------------ tiny models, random weights


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def shaken(net: nn.Module) -> nn.Module:
    """Weights large enough that attention is far from uniform, zero-initialised biases included."""
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return net.double().eval()


def timm_vit(**options) -> nn.Module:
    timm = pytest.importorskip("timm")
    size = {"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 3, "num_heads": 2, "num_classes": 5}
    return shaken(timm.models.vision_transformer.VisionTransformer(**size, **options))


def timm_beit() -> nn.Module:
    timm = pytest.importorskip("timm")
    size = {"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 3, "num_heads": 2, "num_classes": 5}
    return shaken(timm.models.beit.Beit(**size, use_rel_pos_bias=True, init_values=0.1))


def torchvision_vit() -> nn.Module:
    models = pytest.importorskip("torchvision.models")
    return shaken(models.VisionTransformer(16, 4, num_layers=3, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=5))


def bert() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    size = {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
    config = transformers.BertConfig(**size, intermediate_size=32, max_position_embeddings=12, num_labels=3)
    return shaken(transformers.BertForSequenceClassification(config))


VISION = {
    "timm class token": (timm_vit, 1),
    "timm mean": (lambda: timm_vit(class_token=False, global_pool="avg"), 0),
    "timm probe": (lambda: timm_vit(class_token=False, global_pool="map"), 0),
    "timm registers": (lambda: timm_vit(reg_tokens=2, qk_norm=True), 3),
    "timm BEiT": (timm_beit, 1),
    "torchvision": (torchvision_vit, 1),
}
PADDED = {
    "input_ids": torch.tensor([[1, 5, 6, 7, 8, 2], [1, 9, 4, 2, 0, 0]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]]),
}
PAD = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 16, 16, dtype=torch.float64)


# ------------------------------------------------------------------------------------------ the explicit forward


@pytest.mark.parametrize("name", VISION)
def test_forward_of_a_vision_model_is_unchanged(name: str, images: Tensor) -> None:
    net = VISION[name][0]()
    record = capture(net, images, torch.tensor([1, 2]))
    close(record.logits, net(images).detach())
    assert len(record.attentions) == 3 + (name == "timm probe")
    assert all(bool((a.q.grad != 0).any()) for a in record.attentions)


def test_forward_of_a_padded_text_is_unchanged() -> None:
    net = bert()
    record = capture(net, PADDED, torch.tensor([1, 2]))
    close(record.logits, net(**PADDED).logits.detach())
    assert [a.blocked[1, 0, 0].tolist() for a in record.attentions] == [[False] * 4 + [True] * 2] * 3


def test_the_model_is_left_alone(images: Tensor) -> None:
    net = timm_vit().float().train().requires_grad_(False)
    functions = F.scaled_dot_product_attention, F.multi_head_attention_forward
    before = {name: p.clone() for name, p in net.state_dict().items()}
    gradtoken(net, images, torch.tensor([1, 2]), first=1, tokens=16)
    assert net.training
    assert all(p.grad is None and not p.requires_grad for p in net.parameters())
    assert all(torch.equal(p, before[name]) for name, p in net.state_dict().items())
    assert functions == (F.scaled_dot_product_attention, F.multi_head_attention_forward)


def test_forward_of_a_padded_encoder_is_unchanged() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    net = shaken(nn.TransformerEncoder(layer, 2))
    inputs = {"src": torch.randn(2, 5, 8, dtype=torch.float64), "src_key_padding_mask": PAD}
    record = capture(net, inputs, lambda x: x[:, 0, 3])
    close(record.logits, net(**inputs).detach())
    assert len(record.attentions) == 2
    assert relevance(record, first=1, tokens=4)[1, 2:].tolist() == [0, 0]


BLIND = torch.ones(2, 1, 5, 5, dtype=torch.bool).tril()
BLIND[1, 0, 3] = False  # a query that may see nothing
SDPA = {
    "plain": {},
    "causal": {"is_causal": True},
    "scale": {"scale": 0.7},
    "bool mask": {"attn_mask": BLIND},
    "key mask": {"attn_mask": torch.tensor([[[[1, 1, 1, 0, 0]]], [[[1, 1, 1, 1, 1]]]]).bool()},
    "float mask": {"attn_mask": torch.randn(1, 4, 5, 5, dtype=torch.float64)},
    "shared mask": {"attn_mask": torch.randn(5, 5, dtype=torch.float64)},
    "very negative mask": {"attn_mask": torch.zeros(5, 5).double().masked_fill(~BLIND[0, 0], -1e4)},
    "grouped heads": {"enable_gqa": True},
}


@pytest.mark.parametrize("name", SDPA)
def test_sdpa_equals_torch(name: str) -> None:
    heads = 2 if name == "grouped heads" else 4
    q, k, v = (torch.randn(2, h, 5, 3, dtype=torch.float64) for h in (4, heads, heads))
    attention, Z = oracle.sdpa(q, k, v, **SDPA[name])
    close(Z.detach(), F.scaled_dot_product_attention(q, k, v, **SDPA[name]))
    assert not bool(attention.A[attention.blocked].any())


MHA = {
    "plain": {},
    "padding": {"key_padding_mask": PAD},
    "float padding": {"key_padding_mask": torch.zeros(2, 5).double().masked_fill(PAD, -torch.inf)},
    "causal": {"attn_mask": torch.ones(5, 5, dtype=torch.bool).triu(1), "is_causal": True},
    "mask per head": {"attn_mask": torch.randn(8, 5, 5, dtype=torch.float64)},
    "both": {"attn_mask": torch.eye(5, dtype=torch.bool).flip(0), "key_padding_mask": PAD},
    "weights per head": {"average_attn_weights": False},
    "no weights": {"need_weights": False},
}


@pytest.mark.parametrize("kdim", [None, 6])
@pytest.mark.parametrize("name", MHA)
def test_multihead_attention_equals_torch(name: str, kdim: int | None) -> None:
    net = nn.MultiheadAttention(8, 4, kdim=kdim, vdim=kdim, batch_first=True, dtype=torch.float64)
    nn.init.normal_(net.in_proj_bias)
    q, k = torch.randn(2, 5, 8, dtype=torch.float64), torch.randn(2, 5, kdim or 8, dtype=torch.float64)
    expected = net(q, k, k, **MHA[name])
    with oracle.in_the_open() as seen:
        actual = net(q, k, k, **MHA[name])
    assert len(seen) == 1
    assert (actual[1] is None) == (expected[1] is None)
    for a, e in zip(actual, expected, strict=True):
        if e is not None:
            close(a.detach(), e.detach())


def test_multihead_attention_without_a_batch_equals_torch() -> None:
    net = nn.MultiheadAttention(8, 4, dtype=torch.float64)
    x = torch.randn(5, 8, dtype=torch.float64)
    expected = net(x, x, x, key_padding_mask=PAD[1])
    with oracle.in_the_open():
        actual = net(x, x, x, key_padding_mask=PAD[1])
    close(actual[0].detach(), expected[0].detach())
    close(actual[1].detach(), expected[1].detach())


# ------------------------------------------------------------------------------------------ invariants


@pytest.fixture
def record(images: Tensor) -> oracle.Record:
    return capture(timm_vit(), images, torch.tensor([1, 2]))


def test_only_the_class_token_query_is_read_in_the_last_layer(record: oracle.Record) -> None:
    *lower, last = record.attentions
    assert not bool(last.q.grad[:, :, 1:].any())
    for i in range(2):
        assert oracle.read_rows(last, i) == [0]
        assert all(oracle.read_rows(a, i) == list(range(17)) for a in lower)


def test_gradient_of_the_logits_of_attention_sums_to_zero(record: oracle.Record) -> None:
    gO = record.attentions[-1].O.grad[:, :, 0]  # (B, H, N)
    assert float(gO.abs().max()) > 1e-3
    close(gO.sum(dim=-1), torch.zeros(2, 2).double())


def test_M_is_the_gradient_smoothed_by_the_keys_gram_matrix(record: oracle.Record) -> None:
    """M = scale K_patches K^T gO."""
    last = record.attentions[-1]
    gO, K = last.O.grad[:, :, 0], last.k.detach()
    gram = last.scale * (K[:, :, 1:] @ K.transpose(-2, -1) @ gO[..., None])[..., 0]
    M = torch.stack([oracle.gradient_times_keys(last, i, list(range(1, 17))) for i in range(2)])
    close(M[:, :, 1:], gram)


def test_M_agrees_with_its_gradient_for_each_head(record: oracle.Record) -> None:
    """sum_j gO_j M_j = scale |K^T gO|^2 >= 0 over all N tokens."""
    last = record.attentions[-1]
    gO, K = last.O.grad[:, :, 0], last.k.detach()
    M = torch.stack([oracle.gradient_times_keys(last, i, list(range(17))) for i in range(2)])
    agreement = (gO * M).sum(dim=-1)
    close(agreement, last.scale * (gO[:, :, None] @ K).square().sum(dim=(-2, -1)))
    assert bool((agreement > 0).all())


def test_row_sums_of_the_smoothing_matrices(record: oracle.Record) -> None:
    A = [a.A[0].detach().mean(dim=0) for a in record.attentions[:-1]]
    one = torch.ones(17).double()
    close(oracle.average(A, L=3).sum(dim=-1), one * 2 / 3)
    close(oracle.rollout(A[:1], last_first=True).sum(dim=-1), one * 2)
    for last_first in (True, False):
        close(oracle.rollout(A, last_first).sum(dim=-1), one * 2**2)
    eye = torch.eye(17).double()
    close(oracle.rollout(A, last_first=True), (eye + A[1]) @ (eye + A[0]))
    close(oracle.rollout(A, last_first=False), (eye + A[0]) @ (eye + A[1]))


@pytest.mark.parametrize("propagation", PROPAGATIONS)
def test_without_relu_the_map_is_linear_in_the_score(propagation: str, images: Tensor) -> None:
    net = timm_vit()
    targets = torch.tensor([1, 2]), torch.tensor([4, 0]), lambda y: y[[0, 1], [1, 2]] - y[[0, 1], [4, 0]]
    one, two, difference = (
        gradtoken(net, images, target, first=1, tokens=16, propagation=propagation, heads="mean") for target in targets
    )
    assert float(difference.abs().max()) > 1e-3
    close(one - two, difference)


# ------------------------------------------------------------------------------------------ properties of every scheme


@pytest.mark.parametrize("name", VISION)
def test_batch_is_independent(name: str, images: Tensor) -> None:
    build, first = VISION[name]
    net, targets = build(), torch.tensor([1, 2])
    together = capture(net, images, targets)
    alone = [capture(net, x[None], t[None]) for x, t in zip(images, targets, strict=True)]
    for propagation, heads in SCHEMES:
        options = {"first": first, "tokens": 16, "propagation": propagation, "heads": heads}
        R = relevance(together, **options)
        assert R.shape == (2, 16)
        assert bool((R.abs().amax(dim=1) > 0).all())
        close(R, torch.cat([relevance(r, **options) for r in alone]))


def test_padding_changes_nothing() -> None:
    """A padded text gets the map of the same text alone, 0 for padding and for the class token."""
    net, targets = bert(), torch.tensor([1, 2])
    padded = capture(net, PADDED, targets)
    alone = capture(net, {"input_ids": PADDED["input_ids"][1:, :4]}, targets[1:])
    for propagation, heads in SCHEMES:
        R = relevance(padded, first=0, tokens=6, propagation=propagation, heads=heads)
        assert bool((R[:, 0] == 0).all())
        assert bool((R[1, 4:] == 0).all())
        assert bool((R[0, 1:] != 0).any())
        close(R[1:, :4], relevance(alone, first=0, tokens=4, propagation=propagation, heads=heads))
        prefixed = relevance(padded, first=1, tokens=5, propagation=propagation, heads=heads)
        close(R[:, 1:], prefixed)


def test_the_deepest_depth_propagates_nothing(record: oracle.Record) -> None:
    for propagation, heads in SCHEMES:
        last = relevance(record, first=1, tokens=16, propagation=propagation, heads=heads, depth=3)
        none = relevance(record, first=1, tokens=16, propagation="none", heads=heads)
        assert torch.equal(last, none)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 4}, "depth from 1 to 3, got 4"),
        ({"depth": 0}, "depth from 1 to 3, got 0"),
        ({"propagation": "rollout"}, "got 'rollout'"),
        ({"heads": "max"}, "and 'max'"),
        ({"tokens": 15}, "= 16 keys in the last attention, got 17"),
    ],
)
def test_refuses_what_is_not_defined(record: oracle.Record, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        relevance(record, **{"first": 1, "tokens": 16, **options})


def test_refuses_a_model_without_attention() -> None:
    with pytest.raises(ValueError, match="no attention"):
        gradtoken(nn.Linear(3, 2), torch.randn(1, 3), torch.tensor([0]), first=0, tokens=3)


# ------------------------------------------------------------------------------------------ by hand


class Toy(nn.Module):
    """Three residual attention layers without norm, MLP or output projection; y = w_c . sum_i r_i x_i.

    mask (B, 1, N, N) boolean; r (B, N) are the weights of the readout. With `probe`, the last layer has one query,
    no residual, and r is (B, 1). Two key heads for H = 4 query heads if `grouped`. Only the last layer masks if `late`.
    """

    def __init__(self, grouped: bool, probe: bool, late: bool) -> None:
        super().__init__()
        self.H, self.D, self.G, self.probe, self.late = 4, 3, 2 if grouped else 4, probe, late
        C = self.H * self.D
        self.q = nn.ParameterList([torch.randn(C, C) * 0.5 for _ in range(3)])
        self.kv = nn.ParameterList([torch.randn(2, self.G * self.D, C) * 0.5 for _ in range(3)])
        self.p = nn.Parameter(torch.randn(1, 1, C))
        self.w = nn.Parameter(torch.randn(5, C))
        self.double()

    def forward(self, x: Tensor, mask: Tensor | None, r: Tensor, causal: bool = False) -> Tensor:
        for b in range(3):
            asks = self.p.expand(len(x), -1, -1) if self.probe and b == 2 else x
            q, k, v = (
                F.linear(t, w).unflatten(-1, (-1, self.D)).transpose(1, 2)
                for t, w in ((asks, self.q[b]), (x, self.kv[b][0]), (x, self.kv[b][1]))
            )
            hide = None if self.late and b < 2 else mask
            Z = F.scaled_dot_product_attention(q, k, v, hide, is_causal=causal, scale=0.6, enable_gqa=self.G < self.H)
            Z = Z.transpose(1, 2).flatten(-2)
            x = Z if asks is not x else x + Z
        return (r[..., None] * x).sum(dim=1) @ self.w.T


def toy_layers(net: Toy, x: np.ndarray, visible: np.ndarray) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """A (H, Nq, N) of each layer, and k, v (H, N, D) of the last, entry by entry for one sample x (N, C)."""
    H, D, N = net.H, net.D, len(x)
    A = []
    for b in range(3):
        asks = net.p.detach().numpy()[0] if net.probe and b == 2 else x
        A_b, Z = np.zeros((H, len(asks), N)), np.zeros((len(asks), H * D))
        k, v = np.zeros((H, N, D)), np.zeros((H, N, D))
        for h in range(H):
            g = h * net.G // H
            Wq = net.q[b].detach().numpy()[h * D : h * D + D]
            Wk, Wv = net.kv[b].detach().numpy()[:, g * D : g * D + D]
            q, k[h], v[h] = asks @ Wq.T, x @ Wk.T, x @ Wv.T
            for i in range(len(asks)):
                sees = np.ones(N) if net.late and b < 2 else visible[i]
                e = [np.exp(0.6 * np.dot(q[i], k[h, j])) * sees[j] for j in range(N)]
                for j in range(N):
                    A_b[h, i, j] = e[j] / sum(e)
                    Z[i, h * D : h * D + D] += A_b[h, i, j] * v[h, j]
        A.append(A_b)
        x = Z if asks is not x else x + Z
    return A, k, v


def toy_M(A: np.ndarray, k: np.ndarray, v: np.ndarray, w: np.ndarray, r: np.ndarray) -> np.ndarray:
    """M (H, N) by the derivative of softmax: gO_ij = A_ij (dA_ij - sum_k A_ik dA_ik) with dA_ij = r_i w . v_j."""
    H, N, D = k.shape
    M = np.zeros((H, N))
    for h in range(H):
        G = np.zeros(D)
        for i in range(len(r)):
            dA = [r[i] * np.dot(w[h * D : h * D + D], v[h, j]) for j in range(N)]
            mean = sum(A[h, i, j] * dA[j] for j in range(N))
            for j in range(N):
                G += 0.6 * A[h, i, j] * (dA[j] - mean) * k[h, j]
        M[h] = [np.dot(k[h, j], G) for j in range(N)]
    return M


def toy_smoothing(propagation: str, A: list[np.ndarray]) -> np.ndarray:
    """The matrix (N, N) of the scheme, from the one or two head-averaged attentions that are left."""
    first, last = A[0], A[-1]
    eye = np.eye(len(first))
    if "average" in propagation:
        return (first + last) / 3 if len(A) == 2 else first / 3
    if len(A) == 1:
        return eye + first
    return (eye + last) @ (eye + first) if propagation == "rollout_elementwise" else (eye + first) @ (eye + last)


def toy_map(M: np.ndarray, T: np.ndarray | None, sources: list[int], rows: list[int], scheme: str) -> np.ndarray:
    """Per-head map (H, N): only `sources` give and receive; elementwise schemes read the mean of `rows`."""
    out = np.zeros_like(M)
    for h, s in itertools.product(range(len(M)), sources):
        if T is None:
            out[h, s] = M[h, s]
        elif scheme.endswith("elementwise"):
            out[h, s] = M[h, s] * sum(T[i, s] for i in rows) / len(rows)
        else:
            out[h, s] = sum(T[s, t] * M[h, t] for t in sources)
    return out


ALL, TAIL, SEEN = [0, 1, 2, 3, 4], [1, 2, 3, 4], [0, 1, 2]
TOY = {  # r of each sample; first; is_causal; sources and rows of each sample. In "pad" sample 1 ends after 3 tokens
    "class token": ([[1, 0, 0, 0, 0]] * 2, 1, False, [TAIL, TAIL], [[0], [0]]),
    "class token of a text": ([[1, 0, 0, 0, 0]] * 2, 0, False, [TAIL, TAIL], [[0], [0]]),
    "class token of a text, pad": ([[1, 0, 0, 0, 0]] * 2, 0, False, [TAIL, [1, 2]], [[0], [0]]),
    "two readouts": ([[0.5, 0.5, 0, 0, 0]] * 2, 2, False, [[2, 3, 4]] * 2, [[0, 1]] * 2),
    "mean": ([[0.2] * 5] * 2, 0, False, [ALL, ALL], [ALL, ALL]),
    "mean, pad": ([[0.2] * 5, [1 / 3] * 3 + [0, 0]], 0, False, [ALL, SEEN], [ALL, SEEN]),
    "mean of all, pad": ([[0.2] * 5] * 2, 0, False, [ALL, SEEN], [ALL, SEEN]),  # padding asks, but is no row
    "mean, grouped": ([[0.2] * 5] * 2, 0, False, [ALL, ALL], [ALL, ALL]),
    "last token, causal": ([[0, 0, 0, 0, 1]] * 2, 0, True, [ALL, ALL], [[4], [4]]),
    "middle token, causal, grouped": ([[0, 0, 1, 0, 0]] * 2, 0, True, [SEEN, SEEN], [[2], [2]]),
    "first token, causal": ([[1, 0, 0, 0, 0]] * 2, 0, True, [[0], [0]], [[0], [0]]),
    "probe": ([[1]] * 2, 0, False, [ALL, ALL], [ALL, ALL]),
    "probe after a prefix": ([[1]] * 2, 1, False, [TAIL, TAIL], [TAIL, TAIL]),
    "mean, late pad": ([[0.2] * 5, [1 / 3] * 3 + [0, 0]], 0, False, [ALL, SEEN], [ALL, SEEN]),  # last layer only
    "probe, pad": ([[1]] * 2, 0, False, [ALL, SEEN], [ALL, SEEN]),
}


def toy_case(name: str) -> tuple[nn.Module, dict[str, object], Tensor]:
    """The toy model of a name, the inputs it is called with, and a target for each of two samples."""
    torch.manual_seed(0)
    net, mask = Toy(grouped="grouped" in name, probe="probe" in name, late="late" in name).eval(), None
    if "pad" in name:
        mask = torch.ones(2, 1, 1, 5, dtype=torch.bool)
        mask[1, ..., 3:] = False
    x, r = torch.randn(2, 5, 12, dtype=torch.float64), torch.tensor(TOY[name][0], dtype=torch.float64)
    return net, {"x": x, "mask": mask, "r": r, "causal": TOY[name][2]}, torch.tensor([3, 1])


@pytest.mark.parametrize("name", TOY)
def test_a_toy_model_by_hand(name: str) -> None:
    r, first, causal, sources, rows = TOY[name]
    net = Toy(grouped="grouped" in name, probe="probe" in name, late="late" in name)
    x, target = torch.randn(2, 5, 12, dtype=torch.float64), torch.tensor([3, 1])
    visible = np.ones((2, 5, 5), dtype=bool)
    if "pad" in name:
        visible[1, :, 3:] = False
    mask = torch.tensor(visible[:, None, :1]) if "pad" in name else None  # broadcast over heads and queries
    visible = np.tril(visible) if causal else visible
    weights = torch.tensor(r, dtype=torch.float64)
    record = capture(net, {"x": x, "mask": mask, "r": weights, "causal": causal}, target)
    close(record.logits, net(x, mask, weights, causal).detach())
    for i in range(2):
        real = np.array([1, 1, 1, 0, 0] if "pad" in name and i else [1] * 5)
        A, k, v = toy_layers(net, x[i].numpy(), visible[i])
        M = toy_M(A[-1], k, v, net.w.detach().numpy()[target[i]], np.array(r[i]))
        for propagation, depth in itertools.product(PROPAGATIONS, (1, 2, 3)):
            left = [A_b.mean(axis=0) * np.outer(real, real) for A_b in A[depth - 1 : 2]]
            T = toy_smoothing(propagation, left) if left and propagation != "none" else None
            Mhat = toy_map(M, T, sources[i], rows[i], propagation)[:, first:]
            options = {"first": first, "tokens": 5 - first, "propagation": propagation, "depth": depth}
            close(relevance(record, **options)[i], torch.tensor(np.maximum(Mhat, 0).mean(axis=0)))
            close(relevance(record, **options, heads="mean")[i], torch.tensor(Mhat.mean(axis=0)))
