"""ALTI, GlobEnc and DecompX written out naively: float64, one sample and one block at a time, every vector formed.

Sources: ALTI arXiv:2203.04212; GlobEnc arXiv:2205.03286; DecompX arXiv:2306.02873; T[i, j] after arXiv:2004.10102.

Letters: N tokens of one sample, the class token first, S of them in the map; C width, H heads, K classes; A (H, N, N),
rows = queries; x (N, C) tokens entering a block; T[i, j] (N, N, C) what the attention of token i takes from token j.
Two orders of a block: post-LN (BERT), LN2(a + FFN(a)) with a = LN1(x + Att(x)); pre-LN (ViT),
mid + FFN(LN2(mid)) with mid = x + Att(LN1(x)).

Choices where the papers leave it open, each the most literal reading:
- the map of a text has all tokens but [CLS], that is S = N - 1, [SEP] included;
- padding stands on the right and is cut off before the forward pass, so positions keep their numbers;
- v carries its bias in T (v is what A multiplies); the output bias b_O and beta belong to no token in ALTI and GlobEnc;
- ALTI of a post-LN block: T goes through LN1 linearised (gamma, each part's own mean, true deviation) and y is the
  true output of LN1, beta and biases included; pre-LN: no LayerNorm, y = mid. A row without contribution stays zero;
- GlobEnc of a pre-LN block: ||T + diag(x)||, that is mid without b_O; the FFN is ignored and the residual stream
  passes no LayerNorm;
- DecompX: the weights of a bias b are |<T_ij, b>| / (sum_j |<T_ij, b>| + 1e-12), T_ij taken right after the linear
  map (for beta: after gamma; for the classifier: the vector over classes). A bias orthogonal to every part is lost;
- DecompX, the biases of attention, as in the published code (github.com/mohsenfayyaz/DecompX, src/modeling_bert.py at
  7096a1b): W_O b_V + b_O is shared out as one vector, after the residual sum; but in the first block v_j, b_V included,
  belongs to token j, and b_O alone is shared out there. A pre-LN block does the same at mid, and in the first one
  LN1(x_j) belongs to token j. `biases="where_added"` instead shares out b_V at v, over all heads at once, and b_O
  before the residual sum;
- DecompX, layer scale, which the published code does not know: folded into W and b of the linear map before it;
  `folded=False` instead shares out b_2 (and b_O of "where_added") at its own linear map and then scales the parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from . import models
from .models import Inputs, gelu, layer_norm

EPS = 1e-12
Linear = tuple[Tensor, Tensor | None]  # W (out, in), b (out,)


# ------------------------------------------------------------------------------------------ one sample, one block


@dataclass(frozen=True)
class Block:
    """One encoder layer: its linear maps over all heads, its norms, where they stand, its layer scales."""

    value: Linear
    proj: Linear
    fc1: Linear
    fc2: Linear
    norm1: nn.LayerNorm
    norm2: nn.LayerNorm
    pre: bool  # LayerNorm before (ViT) or after (BERT) each half
    scale1: Tensor  # (C,) of the attention branch, 1 without layer scale
    scale2: Tensor  # (C,) of the FFN branch

    @property
    def out(self) -> Linear:
        """W_O and b_O, layer scale folded in."""
        return scaled(self.proj, self.scale1)


@dataclass(frozen=True)
class Values:
    """What one block computes, in order; for DecompX the same names hold the parts, one more axis (N, N, ...)."""

    u: Tensor  # (N, C) what the value is computed from: LN1(x) (pre) or x (post)
    v: Tensor  # (N, C) all heads side by side
    Z: Tensor  # (N, C) A v, all heads side by side
    mid: Tensor  # (N, C) x + W_O Z + b_O
    w: Tensor  # (N, C) what the FFN reads: LN2(mid) (pre) or a = LN1(mid) (post)
    z: Tensor  # (N, 4C) before the GELU
    g: Tensor  # (N, 4C) after the GELU
    total: Tensor  # (N, C) mid + FFN (pre), a + FFN (post)
    y: Tensor  # (N, C) the block's output: total (pre) or LN2(total) (post)


@dataclass(frozen=True)
class Step:
    """One block at work on one sample: its maps, x (N, C), A (H, N, N) and the values."""

    block: Block
    x: Tensor
    A: Tensor
    true: Values


def pair(layer: nn.Linear) -> Linear:
    return layer.weight, layer.bias


def scaled(map_: Linear, scale: Tensor) -> Linear:
    """diag(scale) W and scale * b."""
    W, b = map_
    return scale[:, None] * W, None if b is None else scale * b


def opened(layer: nn.Module) -> Block:
    """The layer of a BERT or the block of a timm VisionTransformer, taken apart."""
    if hasattr(layer, "attention"):
        out = layer.attention.output
        maps = (layer.attention.self.value, out.dense, layer.intermediate.dense, layer.output.dense)
        one = torch.ones_like(out.LayerNorm.weight)
        return Block(*map(pair, maps), out.LayerNorm, layer.output.LayerNorm, pre=False, scale1=one, scale2=one)
    W, b = pair(layer.attn.qkv)
    value = (W.chunk(3)[2], None if b is None else b.chunk(3)[2])
    maps = (value, pair(layer.attn.proj), pair(layer.mlp.fc1), pair(layer.mlp.fc2))
    scales = [getattr(ls, "gamma", torch.ones_like(layer.norm1.weight)) for ls in (layer.ls1, layer.ls2)]
    return Block(*maps, layer.norm1, layer.norm2, True, *scales)


def samples(inputs: Inputs) -> Iterator[tuple[Inputs, list[int], int]]:
    """Each sample alone and without its padding: a batch of one, the positions kept, the padded length."""
    if isinstance(inputs, Tensor):
        for x in inputs.double():
            yield x[None], [], 0
        return
    mask = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"]))
    for i in range(len(mask)):
        kept = mask[i].nonzero()[:, 0].tolist()
        yield {name: t[i : i + 1, kept] for name, t in inputs.items()}, kept, mask.shape[1]


def padded(R: Tensor, kept: list[int], N: int) -> Tensor:
    """A text's map without [CLS], (K, n - 1) -> (K, N - 1): zeros where the padding was; a picture's stays as it is."""
    if N == 0:
        return R
    whole = torch.zeros(len(R), N, dtype=R.dtype)
    whole[:, kept[1:]] = R
    return whole[:, 1:]


def checked(net: nn.Module, x: Inputs) -> models.Trace:
    """The naive forward of a float64 net on a batch of one; refuses a model whose logits it does not reproduce."""
    trace = models.forward(net, x)
    if not torch.allclose(trace.logits, net(**x).logits if isinstance(x, dict) else net(x), rtol=1e-9, atol=1e-9):
        raise NotImplementedError("the naive forward does not reproduce this model")
    return trace


def linear(x: Tensor, map_: Linear) -> Tensor:
    """W x + b over the last axis."""
    W, b = map_
    return x @ W.T if b is None else x @ W.T + b


def deviation(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """sqrt(var + eps) of every token, (N, 1)."""
    return (x.var(dim=-1, unbiased=False, keepdim=True) + norm.eps).sqrt()


def values(block: Block, at: Callable[[str], Tensor]) -> Values:
    """The block's intermediates, named ones taken from the forward pass and the others computed from them."""
    mid = at("x") + at("branch")
    w = layer_norm(mid, block.norm2 if block.pre else block.norm1)
    z = linear(w, block.fc1)
    total = (mid if block.pre else w) + linear(gelu(z), scaled(block.fc2, block.scale2))
    v = torch.cat(list(at("v")), dim=-1)  # (H, N, D) -> (N, H D)
    return Values(at("norm"), v, at("Z"), mid, w, z, gelu(z), total, at("out"))


def steps(net: nn.Module, x: Inputs) -> tuple[list[Step], Tensor]:
    """Every block at work on one sample, in order, and the logits (K,); net in float64."""
    if not models.is_bert(net) and net.global_pool != "token":
        raise NotImplementedError("expected a class token in row 0")
    trace = checked(net, x)
    found = []
    for b, layer in enumerate(models.blocks(net)):
        block = opened(layer)
        at = {name: trace.at[name, b][0] for name in ("x", "norm", "v", "A", "Z", "branch", "out")}
        found.append(Step(block, at["x"], at["A"], values(block, at.__getitem__)))
    return found, trace.logits[0]


# ------------------------------------------------------------------------------------------ the attention decomposed


def transformed(block: Block, A: Tensor, v: Tensor) -> Tensor:
    """T[i, j] = sum_h A_h[i, j] W_O^h v_h[j], (N, N, C)."""
    T = torch.zeros(len(v), len(v), len(block.out[0]), dtype=v.dtype)
    for A_h, v_h, W_h in zip(A, v.chunk(len(A), dim=-1), block.out[0].chunk(len(A), dim=-1), strict=True):
        for i in range(len(v)):
            for j in range(len(v)):
                T[i, j] += A_h[i, j] * (W_h @ v_h[j])
    return T


def with_residual(T: Tensor, x: Tensor) -> Tensor:
    """T[i, i] + x[i]."""
    T = T.clone()
    for i in range(len(x)):
        T[i, i] += x[i]
    return T


def norm_linearised(T: Tensor, norm: nn.LayerNorm, true: Tensor) -> Tensor:
    """LayerNorm at fixed deviation, gamma (T_ij - mean(T_ij)) / sqrt(var(true_i) + eps), no beta; true (N, C)."""
    return norm.weight * (T - T.mean(dim=-1, keepdim=True)) / deviation(true, norm)[:, None]


def attention_parts(s: Step, value_bias: bool = True) -> Tensor:
    """T + diag(x), (N, N, C): the parts of mid without b_O."""
    v = s.true.v if value_bias else linear(s.true.u, (s.block.value[0], None))
    return with_residual(transformed(s.block, s.A, v), s.x)


def rolled_out(matrices: list[Tensor]) -> Tensor:
    """M_L ... M_2 M_1, (N, N)."""
    R = torch.eye(len(matrices[0]), dtype=matrices[0].dtype)
    for M in matrices:
        R = M @ R
    return R


def alti_matrix(s: Step, p: float = 1) -> Tensor:
    """c_ij = (||y_i||_p - ||y_i - T_ij||_p)^+, each row divided by its sum. (N, N)"""
    T, y = attention_parts(s), s.true.mid
    if not s.block.pre:
        T, y = norm_linearised(T, s.block.norm1, s.true.mid), s.true.w
    c = torch.zeros(T.shape[:2], dtype=T.dtype)
    for i in range(len(c)):
        for j in range(len(c)):
            c[i, j] = (y[i].norm(p) - (y[i] - T[i, j]).norm(p)).clamp(min=0)
    sums = c.sum(dim=1, keepdim=True)
    return c / sums.where(sums > 0, 1)


def globenc_matrix(s: Step, value_bias: bool = True) -> Tensor:
    """N_enc = ||LN2(LN1(T + diag(x)))||_2, both linearised, FFN ignored; pre-LN: ||T + diag(x)||_2. (N, N)"""
    E = attention_parts(s, value_bias)
    if not s.block.pre:
        E = norm_linearised(norm_linearised(E, s.block.norm1, s.true.mid), s.block.norm2, s.true.total)
    return E.norm(dim=-1)


def matrices(net: nn.Module, x: Inputs, formula: Callable[..., Tensor], **options: Any) -> list[Tensor]:
    """The formula's matrix (N, N) of every block for one sample without padding; net in float64."""
    return [formula(s, **options) for s in steps(net, x)[0]]


@torch.no_grad()
def class_token_row(net: nn.Module, inputs: Inputs, target: Tensor, formula: Callable[..., Tensor], **o: Any) -> Tensor:
    """Row of the class token of the rolled-out matrices, the same for every target. (B, K, S)"""
    net = models.weights(net)
    maps = []
    for (x, kept, N), classes in zip(samples(inputs), target, strict=True):
        row = rolled_out(matrices(net, x, formula, **o))[0, models.prefix(net) :]
        maps.append(padded(torch.stack([row for _ in classes]), kept, N))
    return torch.stack(maps)


def alti(net: nn.Module, inputs: Inputs, target: Tensor, p: float = 1) -> Tensor:
    """Aggregation of layer-wise token-to-token interactions. (B, K, S), >= 0, sums to 1 over all tokens."""
    return class_token_row(net, inputs, target, alti_matrix, p=p)


def globenc(net: nn.Module, inputs: Inputs, target: Tensor, value_bias: bool = True) -> Tensor:
    """Global encoding analysis: rollout of the norms, not normalised. (B, K, S), >= 0."""
    return class_token_row(net, inputs, target, globenc_matrix, value_bias=value_bias)


# ------------------------------------------------------------------------------------------ the network decomposed


@dataclass(frozen=True)
class Reading:
    """What the paper leaves open, see above."""

    biases: str = "after_residual"  # of attention; or "where_added"
    folded: bool = True  # layer scale

    def __post_init__(self) -> None:
        if self.biases not in ("after_residual", "where_added"):
            raise ValueError(f"expected biases 'after_residual' or 'where_added', got {self.biases!r}")


def absdot(X: Tensor, b: Tensor | None) -> Tensor:
    """X_ij + b |<X_ij, b>| / sum_j |<X_ij, b>|. (..., N, C)"""
    if b is None:
        return X
    weight = (X @ b).abs()
    return X + (weight / (weight.sum(dim=-1, keepdim=True) + EPS))[..., None] * b


def linear_parts(X: Tensor, map_: Linear) -> Tensor:
    """W X_ij, then the bias spread over j."""
    return absdot(X @ map_[0].T, map_[1])


def norm_parts(X: Tensor, norm: nn.LayerNorm, true: Tensor) -> Tensor:
    """LayerNorm linearised, then beta spread over j."""
    return absdot(norm_linearised(X, norm, true), norm.bias)


def mixed(A: Tensor, V: Tensor) -> Tensor:
    """Z[i, j] = sum_k A_h[i, k] V_h[k, j] for every head, side by side. (N, N, C)"""
    heads = zip(A, V.chunk(len(A), dim=-1), strict=True)
    return torch.cat([torch.einsum("ik,kjd->ijd", A_h, V_h) for A_h, V_h in heads], dim=-1)


def slope(f: Tensor, z: Tensor) -> Tensor:
    """Slope of the line from the origin to (z, f), the same for all parts. (..., 1, C)"""
    return (f / (z + EPS)).unsqueeze(-2)


def joint_bias(block: Block) -> Tensor | None:
    """W_O b_V + b_O: the rows of A sum to 1, so all of b_V passes through the attention. (C,)"""
    b_V, (W_O, b_O) = block.value[1], block.out
    if b_V is None:
        return b_O
    return W_O @ b_V if b_O is None else W_O @ b_V + b_O


def own(x: Tensor) -> Tensor:
    """Every row its own only part, (N, C) -> (N, N, C)."""
    return with_residual(torch.zeros(len(x), *x.shape, dtype=x.dtype), x)


def scaled_parts(X: Tensor, map_: Linear, scale: Tensor, folded: bool) -> Tensor:
    """Parts of scale * (W X_ij + b), the bias spread over j after the scale or before it."""
    return linear_parts(X, scaled(map_, scale)) if folded else scale * linear_parts(X, map_)


def attention_in_parts(s: Step, X: Tensor, reading: Reading, first: bool) -> tuple[Tensor, ...]:
    """u, v, Z and mid in parts, from X (N, N, C)."""
    block = s.block
    u = norm_parts(X, block.norm1, s.x) if block.pre else X
    if reading.biases == "where_added":
        v = linear_parts(u, block.value)
        Z = mixed(s.A, v)
        return u, v, Z, X + scaled_parts(Z, block.proj, block.scale1, reading.folded)
    u, v = (own(s.true.u), own(s.true.v)) if first else (u, u @ block.value[0].T)
    Z = mixed(s.A, v)
    return u, v, Z, absdot(X + Z @ block.out[0].T, block.out[1] if first else joint_bias(block))


def block_parts(s: Step, X: Tensor, reading: Reading, first: bool) -> Values:
    """X (N, N, C) through one block: every field of the result has its parts, [i, j] that of token i from token j."""
    block, t = s.block, s.true
    u, v, Z, mid = attention_in_parts(s, X, reading, first)
    w = norm_parts(mid, block.norm2 if block.pre else block.norm1, t.mid)
    z = linear_parts(w, block.fc1)
    g = z * slope(t.g, t.z)
    total = (mid if block.pre else w) + scaled_parts(g, block.fc2, block.scale2, reading.folded)
    y = total if block.pre else norm_parts(total, block.norm2, t.total)
    return Values(u, v, Z, mid, w, z, g, total, y)


def sums(s: Step, reading: Reading, first: bool) -> Values:
    """What the parts of a block sum to: its true values, v and Z without b_V where that is shared out at mid."""
    b_V = s.block.value[1]
    if reading.biases == "where_added" or first or b_V is None:
        return s.true
    return replace(s.true, v=s.true.v - b_V, Z=s.true.Z - b_V)


def readout_parts(net: nn.Module, X: Tensor, y: Tensor) -> Tensor:
    """Contributions of the N tokens to the logits, (N, K), from the parts X (N, N, C) of the last output y (N, C)."""
    if not models.is_bert(net):
        return linear_parts(norm_parts(X, net.norm, y)[0], pair(net.head))
    pooler = pair(net.bert.pooler.dense)
    z = linear(y[0], pooler)
    return linear_parts(linear_parts(X[0], pooler) * slope(torch.tanh(z), z), pair(net.classifier))


def decomposed(net: nn.Module, x: Inputs, reading: Reading) -> tuple[list[Values], list[Values], Tensor, Tensor]:
    """Parts of every block and their sums, contributions (N, K) and true logits (K,) of one sample; net in float64."""
    taken, logits = steps(net, x)
    X = own(taken[0].x)
    parts = []
    for b, s in enumerate(taken):
        parts.append(block_parts(s, X, reading, first=b == 0))
        X = parts[-1].y
    whole = [sums(s, reading, first=b == 0) for b, s in enumerate(taken)]
    return parts, whole, readout_parts(net, X, taken[-1].true.y), logits


def gaps(parts: Values, whole: Values) -> dict[str, float]:
    """Largest |sum_j parts_ij - whole_i| for each quantity of a block."""
    names = [f.name for f in fields(Values)]
    return {name: float((getattr(parts, name).sum(dim=1) - getattr(whole, name)).abs().max()) for name in names}


@torch.no_grad()
def decompx(
    net: nn.Module, inputs: Inputs, target: Tensor, biases: str = "after_residual", folded: bool = True
) -> Tensor:
    """DecompX, aggregation "vector": signed share of each token in the logit of each target. (B, K, S)"""
    net, reading = models.weights(net), Reading(biases, folded)
    maps = []
    for (x, kept, N), classes in zip(samples(inputs), target, strict=True):
        share = decomposed(net, x, reading)[2]  # (N, classes)
        maps.append(padded(torch.stack([share[models.prefix(net) :, c] for c in classes]), kept, N))
    return torch.stack(maps)


REFERENCES = {"alti": alti, "globenc": globenc, "decompx": decompx}
