"""Methods that combine attention matrices, written out naively: one sample, one class, plain matrices, float64.

Each is called as method(net, inputs, target (B, K), **options) -> (B, K, S), see `one_by_one`; inside, x is one sample
and c one class. Nothing is rescaled to [0, 1]. Letters: A (H, N, N) the attention of a block, dA the gradient of the
logit y with respect to it, R the relevance, I the identity; "the row" is the one that the head reads, see `read`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.reference.models import (
    Inputs,
    Trace,
    blocks,
    forward,
    gradient,
    head,
    is_bert,
    linear,
    one_by_one,
    prefix,
    read,
)


def attention(trace: Trace) -> list[Tensor]:
    """A of every block, (H, N, N)."""
    return [A[0].detach() for A in trace.all("A")]


def attention_and_gradient(net: nn.Module, x: Inputs, c: int) -> tuple[list[Tensor], list[Tensor]]:
    """A and dA of every block, (H, N, N)."""
    trace = forward(net, x)
    return attention(trace), gradient(trace.logits[0, c], trace.all("A"))


def eye(M: Tensor) -> Tensor:
    return torch.eye(M.shape[-1], dtype=M.dtype)


def normalised(M: Tensor) -> Tensor:
    """M + I with rows divided by their sums."""
    M = M + eye(M)
    return M / M.sum(dim=-1, keepdim=True)


def product(matrices: list[Tensor]) -> Tensor:
    """M_L ... M_2 M_1 of the list M_1, M_2, ..., M_L."""
    J = matrices[0]
    for M in matrices[1:]:
        J = M @ J
    return J


@one_by_one
def raw_attention(net: nn.Module, x: Inputs, c: int) -> Tensor:
    """R = mean_h A^(L)[h, 0]. Independent of the class."""
    return read(net, attention(forward(net, x))[-1].mean(dim=0))


@one_by_one
def rollout(net: nn.Module, x: Inputs, c: int, start: int | None = None) -> Tensor:
    """J = At^(L) ... At^(start), At = (mean_h A + I) / rowsum; R = J[0]. Independent of the class. arXiv:2005.00928.

    `start` is the first block used, 0-based: by default 1 for pictures and 0 for text.
    """
    start = (0 if is_bert(net) else 1) if start is None else start
    return read(net, product([normalised(A.mean(dim=0)) for A in attention(forward(net, x))[start:]]))


@one_by_one
def gradcam(net: nn.Module, x: Inputs, c: int) -> Tensor:
    """R = (mean_h w_h A_h)^+ in the last block, as in arXiv:2012.09838, before the min-max.

    Pictures: w_h = mean of dA[h, 0] over patches. Text: w_h = mean of dA[h] over all N x N entries.
    """
    A, dA = (matrices[-1] for matrices in attention_and_gradient(net, x, c))
    if is_bert(net):
        w = dA.mean(dim=(1, 2))
        return (w[:, None, None] * A).mean(dim=0).clamp(min=0)[0]
    w = read(net, dA)[:, prefix(net) :].mean(dim=1)
    return (w[:, None] * read(net, A)).mean(dim=0).clamp(min=0)


def generic_update(A: Tensor, dA: Tensor) -> Tensor:
    """Ebar = mean_h (dA * A)^+. (H, Q, N) -> (Q, N)"""
    return (dA * A).clamp(min=0).mean(dim=0)


@one_by_one
def generic_attention(net: nn.Module, x: Inputs, c: int, start: int = 0) -> Tensor:
    """R = I; R <- R + Ebar R block after block; the row of R. arXiv:2103.15679."""
    A, dA = attention_and_gradient(net, x, c)
    R = eye(A[0])
    for b in range(start, len(A)):
        R = R + generic_update(A[b], dA[b]) @ R
    return read(net, R)


def bimodal_self(E: Tensor, R_ss: Tensor, R_sq: Tensor) -> tuple[Tensor, Tensor]:
    """Self-attention of stream s: R_ss + E R_ss and R_sq + E R_sq. E, R_ss (S, S), R_sq (S, Q)"""
    return R_ss + E @ R_ss, R_sq + E @ R_sq


def bimodal_cross(E: Tensor, R_ss: Tensor, R_qq: Tensor, R_sq: Tensor, R_qs: Tensor) -> tuple[Tensor, Tensor]:
    """Attention of s to q: R_ss + E R_qs and R_sq + Rbar_ss^T E Rbar_qq, both from the old values. E, R_sq (S, Q)

    Rbar = I + (R - I with rows divided by their sums; a row of zeros stays zero).
    """

    def rbar(R: Tensor) -> Tensor:
        Rhat = R - eye(R)
        return (Rhat / Rhat.sum(dim=-1, keepdim=True)).nan_to_num(nan=0.0) + eye(R)

    return R_ss + E @ R_qs, R_sq + rbar(R_ss).T @ E @ rbar(R_qq)


def skip_only(name: str, block: int, t: Tensor) -> Tensor:
    """Gradients pass blocks along the skip connections and MLPs only: what attention reads is detached."""
    return t.detach() if name == "norm" else t


def agcam_blocks(net: nn.Module, x: Inputs, c: int, swap=skip_only) -> list[Tensor]:
    """sum_h sigmoid(O[h]) * (dA[h])^+ of each block, (N, N)."""
    trace = forward(net, x, swap)
    dA = gradient(trace.logits[0, c], trace.all("A"))
    return [(torch.sigmoid(O[0]) * g.clamp(min=0)).sum(dim=0) for O, g in zip(trace.all("O"), dA, strict=True)]


@one_by_one
def agcam(net: nn.Module, x: Inputs, c: int) -> Tensor:
    """R = sum_b sum_h sigmoid(O[h, 0]) * (dA[h, 0])^+ with gradients along the skips only. arXiv:2402.04563."""
    return sum(read(net, M) for M in agcam_blocks(net, x, c))


def mean_gradient(net: nn.Module, x: Inputs, c: int, alphas: Tensor, path: tuple[str, int] | None) -> Tensor:
    """Mean of dA^(L) over forward passes in which the intermediate `path` is scaled by alpha. (H, N, N)

    By default the pixels ("input", -1), in a text what the first block reads ("x", 0): the LayerNorm after the sum of
    embeddings would undo the scaling.
    """
    path = path or (("x", 0) if is_bert(net) else ("input", -1))
    total = 0
    for alpha in alphas:
        trace = forward(net, x, lambda n, b, t, a=alpha: a * t if (n, b) == path else t)
        total = total + gradient(trace.logits[0, c], trace.all("A")[-1:])[0]
    return total / len(alphas)


def transition_state(net: nn.Module, A: list[Tensor], start: int) -> Tensor:
    """Row vector s = row of mean_h A^(L); s <- s mean_h A^(b) + s for b = L-1 ... start. (N,)"""
    s = read(net, A[-1].mean(dim=0))
    for b in range(len(A) - 2, min(start, len(A) - 1) - 1, -1):
        s = s @ A[b].mean(dim=0) + s
    return s


@one_by_one
def transition_attention_maps(
    net: nn.Module,
    x: Inputs,
    c: int,
    *,
    start: int = 4,
    steps: int = 20,
    integral: bool = True,
    first_state: bool = False,
    path: tuple[str, int] | None = None,
) -> Tensor:
    """R = s * W, W the row of mean_h (mean_alpha dA^(L)[h] at alpha * input)^+. Yuan et al. 2021.

    alpha = linspace(0, 1, steps), or 1 alone without `integral`. `first_state`: s is the row of A^(L) alone.
    """
    A = attention(forward(net, x))
    alphas = torch.linspace(0, 1, steps) if integral else torch.ones(1)
    W = read(net, mean_gradient(net, x, c, alphas.double(), path).clamp(min=0).mean(dim=0))
    return transition_state(net, A, len(A) if first_state else start) * W


def lens(net: nn.Module, x: Inputs, c: int, block: int, alpha: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """y_b = head(norm(out_b))[c] with A^(b) scaled by alpha, the scaled A^(b), and d y_b / d (alpha A^(b))."""
    trace = forward(net, x, lambda n, b, t: alpha * t if (n, b) == ("A", block) else t)
    y = head(net, trace.at["out", block])[0, c]
    return y.detach(), trace.at["A", block][0].detach(), gradient(y, [trace.at["A", block]])[0]


def lens_attribution(net: nn.Module, x: Inputs, c: int, block: int, mode: str = "code", steps: int = 20) -> Tensor:
    """Code: A * g / 2. Paper: A * mean of g(alpha A) over alpha = linspace(0, 1, steps). (H, N, N)"""
    _, A, g = lens(net, x, c, block)
    if mode == "code":
        return 0.5 * A * g
    assert mode == "paper"
    alphas = torch.linspace(0, 1, steps, dtype=A.dtype).tolist()
    return A * sum(lens(net, x, c, block, alpha)[2] for alpha in alphas) / steps


@one_by_one
def attribution_rollout(net: nn.Module, x: Inputs, c: int, mode: str = "code", steps: int = 20) -> Tensor:
    """Rollout of max_h of the attribution of A^(b) to that block's own logit y_b, over all blocks. Xu et al. 2022."""
    L = len(blocks(net))
    return read(net, product([normalised(lens_attribution(net, x, c, b, mode, steps).amax(dim=0)) for b in range(L)]))


def head_weighted(A: Tensor, dA: Tensor) -> Tensor:
    """sum_h I_h A_h with I_h = mean |A_h^T dA_h|, divided by its sum over heads. (H, N, N) -> (N, N)"""
    I = torch.stack([(A_h.T @ dA_h).abs().mean() for A_h, dA_h in zip(A, dA, strict=True)])
    return ((I / I.sum())[:, None, None] * A).sum(dim=0)


def token_weighted(net: nn.Module, trace: Trace, b: int) -> Tensor:
    """mean_h A diag(|W v_j| / |x_j|): v_j with its heads side by side, W the output projection, no bias. (N, N)"""
    A, x = trace.at["A", b][0].detach(), trace.at["x", b][0]
    v = trace.at["v", b][0].transpose(0, 1).flatten(1)  # (N, C)
    block = blocks(net)[b]
    proj = block.attention.output.dense if is_bert(net) else block.attn.proj
    ratio = (linear(v, proj) - proj.bias).norm(dim=1) / x.norm(dim=1)
    return A.mean(dim=0) @ torch.diag(ratio)


@one_by_one
def beyond_intuition(
    net: nn.Module,
    x: Inputs,
    c: int,
    *,
    mode: str = "head",
    start: int = 3,
    steps: int = 20,
    path: tuple[str, int] | None = None,
) -> Tensor:
    """R = I; R <- R + M R from block `start` on; the row of R times W of transition_attention_maps. Chen et al. 2023.

    M = sum_h I_h A_h (head) or mean_h A diag(|W v_j| / |x_j|) (token). `start` is 0-based.
    """
    assert mode in ("head", "token")
    trace = forward(net, x)
    A, dA = attention(trace), gradient(trace.logits[0, c], trace.all("A"))
    R = eye(A[0])
    for b in range(min(start, len(A) - 1), len(A)):
        M = head_weighted(A[b], dA[b]) if mode == "head" else token_weighted(net, trace, b)
        R = R + M @ R
    g = mean_gradient(net, x, c, torch.linspace(0, 1, steps, dtype=R.dtype), path)
    return read(net, R) * read(net, g.clamp(min=0).mean(dim=0))


REFERENCES = {
    "agcam": agcam,
    "attribution_rollout": attribution_rollout,
    "beyond_intuition": beyond_intuition,
    "generic_attention": generic_attention,
    "gradcam": gradcam,
    "raw_attention": raw_attention,
    "rollout": rollout,
    "transition_attention_maps": transition_attention_maps,
}
