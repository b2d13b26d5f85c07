"""GradToken written out naively: float64, every attention matrix formed, one full backward pass, loops over tokens.

The reference for the fast implementation; the two share no code.
Equations: Cheng, Liang, Lu, Cheung, Neural Networks 181 (2025) 106837.

Letters: B samples, H heads, D head width, P prefix tokens, S patch tokens, N = P + S keys, L attention layers;
q, k, v (B, H, N, D) after the head split and the q/k norm; O = scale q k^T + bias and A = softmax(O), (B, H, N, N);
y (B,) the explained score; "read" are the query rows of the last attention that the score depends on.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PROPAGATIONS = ("none", "rollout_elementwise", "rollout_matmul", "average_elementwise", "average_matmul")
HEADS = ("relu_mean", "mean")
BLOCKED = -1e4  # an additive mask at or below this value hides the key

Score = Callable[[Tensor], Tensor]  # logits (B, K) -> y (B,)


@dataclass(frozen=True)
class Attention:
    """One call of attention; q, O and A are graph nodes, after `capture` their .grad is that of sum_i y_i."""

    q: Tensor  # (B, H, Nq, D), before the scale
    k: Tensor  # (B, H, Nk, D), grouped heads repeated
    O: Tensor  # (B, H, Nq, Nk)
    A: Tensor  # (B, H, Nq, Nk)
    blocked: Tensor  # (B, H, Nq, Nk), True where the mask hides the key from the query
    scale: float

    @property
    def square(self) -> bool:
        """Queries and keys are the same tokens."""
        return self.A.shape[-2] == self.A.shape[-1]


@dataclass(frozen=True)
class Record:
    """Logits and every attention of one forward pass, in order, after the full backward pass of sum_i y_i."""

    logits: Tensor
    attentions: list[Attention]


# ------------------------------------------------------------------------------------------ attention in the open


def additive(mask: Tensor | None, like: Tensor, hidden: bool = False) -> Tensor:
    """Mask as a bias for O, broadcast to the shape of `like`; a boolean entry equal to `hidden` hides its key."""
    if mask is None:
        return torch.zeros_like(like)
    if mask.dtype == torch.bool:
        mask = torch.zeros(mask.shape, dtype=like.dtype).masked_fill(mask == hidden, -torch.inf)
    return mask.to(like.dtype).expand(like.shape)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scale: float) -> tuple[Attention, Tensor]:
    """O = scale q k^T + bias, A = softmax(O), Z = A v. A query that may see no key at all gets A = 0, as in torch."""
    q = q.expand(*bias.shape[:2], *q.shape[2:]).clone()  # a node of this attention alone, one copy per sample
    if not q.requires_grad:
        q.requires_grad_()
    blind = bias.isneginf().all(dim=-1, keepdim=True)
    O = scale * q @ k.transpose(-2, -1) + bias.masked_fill(blind, 0)
    A = torch.softmax(O, dim=-1) * ~blind
    for node in (q, O, A):
        node.retain_grad()
    return Attention(q, k.expand(*bias.shape[:2], *k.shape[2:]), O, A, bias <= BLOCKED, scale), A @ v


def sdpa(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> tuple[Attention, Tensor]:
    """F.scaled_dot_product_attention for (B, H, N, D); a False in a boolean mask hides the key."""
    if dropout_p or query.ndim != 4:
        raise ValueError(f"expected (B, H, N, D) without dropout, got {tuple(query.shape)}, dropout_p={dropout_p}")
    groups = query.shape[1] // key.shape[1] if enable_gqa else 1
    k, v = (t.repeat_interleave(groups, dim=1) for t in (key, value))
    like = query @ k.transpose(-2, -1)
    bias = additive(attn_mask, like)
    if is_causal:
        bias = bias + additive(torch.ones(like.shape[-2:], dtype=torch.bool).tril(), like)
    return attend(query, k, v, bias, query.shape[-1] ** -0.5 if scale is None else scale)


def mha(*args: Any, **kwargs: Any) -> tuple[Attention, tuple[Tensor, Tensor | None]]:
    """F.multi_head_attention_forward: project, split heads, attend, merge, project. A True in a mask hides the key."""
    call = inspect.signature(_mha).bind(*args, **kwargs)
    call.apply_defaults()
    a = SimpleNamespace(**call.arguments)
    extra_keys = a.add_zero_attn or any(t is not None for t in (a.bias_k, a.bias_v, a.static_k, a.static_v))
    if extra_keys or (a.training and a.dropout_p):
        raise NotImplementedError("the reference knows no extra keys and no dropout")
    batched = a.query.ndim == 3
    tokens = [t if batched else t[:, None] for t in (a.query, a.key, a.value)]  # (N, B, E)
    q, k, v = (x.unflatten(-1, (a.num_heads, -1)).permute(1, 2, 0, 3) for x in _project(tokens, a))  # (B, H, N, D)
    like = q @ k.transpose(-2, -1)
    bias = _merged(a.attn_mask, a.key_padding_mask, like)
    attention, Z = attend(q, k, v, bias, q.shape[-1] ** -0.5)
    out = F.linear(Z.permute(2, 0, 1, 3).flatten(-2), a.out_proj_weight, a.out_proj_bias)  # (N, B, E)
    A = attention.A.mean(dim=1) if a.average_attn_weights else attention.A
    out, A = (out, A) if batched else (out[:, 0], A[0])
    return attention, (out, A if a.need_weights else None)


_mha = F.multi_head_attention_forward  # the original, for its signature


def _project(tokens: list[Tensor], a: SimpleNamespace) -> list[Tensor]:
    """Query, key and value projections of (N, B, E), from one stacked weight or three separate ones."""
    separate = (a.q_proj_weight, a.k_proj_weight, a.v_proj_weight)
    weights = separate if a.use_separate_proj_weight else a.in_proj_weight.chunk(3)
    biases = (None,) * 3 if a.in_proj_bias is None else a.in_proj_bias.chunk(3)
    return [F.linear(t, w, b) for t, w, b in zip(tokens, weights, biases, strict=True)]


def _merged(attn_mask: Tensor | None, key_padding_mask: Tensor | None, like: Tensor) -> Tensor:
    """Sum of attn_mask, (Nq, Nk) or (B H, Nq, Nk), and key_padding_mask, (B, Nk) or (Nk,), as a bias (B, H, Nq, Nk)."""
    if attn_mask is not None and attn_mask.ndim == 3:
        attn_mask = attn_mask.reshape(like.shape)
    if key_padding_mask is not None:
        key_padding_mask = key_padding_mask.reshape(-1, 1, 1, like.shape[-1])
    return additive(attn_mask, like, hidden=True) + additive(key_padding_mask, like, hidden=True)


@contextmanager
def in_the_open() -> Iterator[list[Attention]]:
    """Replace torch's attention functions by the explicit ones above and list every call.

    The fused path of nn.TransformerEncoderLayer, which would bypass both, is off while parameters require gradients.
    """
    seen: list[Attention] = []

    def recording(function: Callable[..., tuple[Attention, Any]]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            attention, out = function(*args, **kwargs)
            seen.append(attention)
            return out

        return call

    with (
        mock.patch.object(F, "scaled_dot_product_attention", recording(sdpa)),
        mock.patch.object(F, "multi_head_attention_forward", recording(mha)),
    ):
        yield seen


def in_float64(net: nn.Module, inputs: Tensor | dict[str, Any]) -> tuple[nn.Module, dict[str, Any] | tuple[Tensor]]:
    """Copies in float64 and eval mode, every parameter part of the graph; the caller's model stays as it is."""
    net = copy.deepcopy(net).double().eval().requires_grad_(True)

    def double(x: Any) -> Any:
        return x.double() if isinstance(x, Tensor) and x.is_floating_point() else x

    return net, {name: double(x) for name, x in inputs.items()} if isinstance(inputs, dict) else (double(inputs),)


def capture(net: nn.Module, inputs: Tensor | dict[str, Any], target: Tensor | Score) -> Record:
    """Forward in float64 with every attention in the open, then the full backward of sum_i y_i.

    `target` (B,) names the logit of each sample, y_i = logits[i, target_i]; or it maps logits (B, K) to y (B,).
    """
    net, inputs = in_float64(net, inputs)
    with torch.enable_grad(), in_the_open() as attentions:
        out = net(**inputs) if isinstance(inputs, dict) else net(*inputs)
    logits = out if isinstance(out, Tensor) else out.logits
    y = target(logits) if callable(target) else logits[range(len(target)), target]
    y.sum().backward()
    return Record(logits.detach(), attentions)


# ------------------------------------------------------------------------------------------ the formula


def average(A: list[Tensor], L: int) -> Tensor:
    """Abar = (1/L) sum_b A^(b) over head-averaged A^(b) (N, N), (eq. 14): L, though at most L - 1 terms are summed."""
    total = torch.zeros_like(A[0])
    for A_b in A:
        total = total + A_b
    return total / L


def rollout(A: list[Tensor], last_first: bool) -> Tensor:
    """Product of I + A^(b), not normalised: L^(L-1) ... L^(1) if last_first, else L^(1) ... L^(L-1). (N, N)"""
    Lt = torch.eye(A[0].shape[-1], dtype=A[0].dtype)
    for A_b in A:
        L_b = torch.eye(A_b.shape[-1], dtype=A_b.dtype) + A_b
        Lt = L_b @ Lt if last_first else Lt @ L_b
    return Lt


def smoothing(propagation: str, A: list[Tensor], L: int) -> Tensor:
    """Matrix by which the scheme smooths M, (N, N): Table 3, GradToken-1 to -4."""
    if propagation in ("average_elementwise", "average_matmul"):
        return average(A, L)
    return rollout(A, last_first=propagation == "rollout_elementwise")


def read_rows(last: Attention, i: int) -> list[int]:
    """Query rows of the last attention with a non-zero gradient in any head of sample i; row 0 for a class token."""
    return [row for row in range(last.q.shape[2]) if bool((last.q.grad[i, :, row] != 0).any())]


def layers(record: Record, N: int, depth: int) -> tuple[Attention, list[Attention], int]:
    """The last attention, A^(depth) ... A^(L-1), and L = 1 + number of earlier square attentions over N tokens."""
    used = [i for i, a in enumerate(record.attentions) if a.q.grad is not None]
    if not used:
        raise ValueError("the score depends on no attention that was seen")
    last = record.attentions[used[-1]]
    if last.A.shape[-1] != N:
        raise ValueError(f"expected first + tokens = {N} keys in the last attention, got {last.A.shape[-1]}")
    earlier = [a for a in record.attentions[: used[-1]] if a.A.shape[2:] == (N, N) and len(a.A) == len(last.A)]
    L = len(earlier) + 1
    if not 1 <= depth <= L:
        raise ValueError(f"expected a depth from 1 to {L}, got {depth}")
    return last, earlier[depth - 1 :], L


def integrate(M: Tensor, heads: str) -> Tensor:
    """R = mean_h (M_h)^+ (eq. 18), or without the ReLU. (H, S) -> (S,)"""
    return (M.clamp(min=0) if heads == "relu_mean" else M).mean(dim=0)


def gradient_times_keys(last: Attention, i: int, patches: list[int]) -> Tensor:
    """M[h, j] = k[h, j] . G[h] for the patches j of sample i, 0 for all other tokens. (H, N)"""
    G = last.q.grad[i].sum(dim=1)  # (H, D), eq. 6-7: where only a class token is read, the sum is its row
    M = torch.zeros(G.shape[0], last.k.shape[2], dtype=G.dtype)
    for h in range(M.shape[0]):
        for j in patches:
            M[h, j] = torch.dot(last.k[i, h, j].detach(), G[h])  # eq. 8
    return M


def smooth(M: Tensor, T: Tensor, patches: list[int]) -> Tensor:
    """Mhat[h, s] = sum_t T[s, t] M[h, t] (eq. 16): s collects from the patches t it attends to. (H, N), (N, N)"""
    Mhat = torch.zeros_like(M)
    for h in range(M.shape[0]):
        for s in patches:
            Mhat[h, s] = torch.dot(T[s, patches], M[h, patches])
    return Mhat


def weigh(M: Tensor, T: Tensor, rows: list[int]) -> Tensor:
    """Mhat[h, s] = M[h, s] mean_r T[r, s] over the rows r: GradToken-1 and -3. No row, no relevance. (H, N), (N, N)"""
    w = torch.zeros(T.shape[1], dtype=T.dtype)
    for r in rows:
        w = w + T[r] / len(rows)
    return M * w


def without(A: Tensor, padded: list[int]) -> Tensor:
    """A with the rows and columns of the padded tokens set to 0. (N, N)"""
    keep = torch.ones(A.shape[0], dtype=A.dtype)
    keep[padded] = 0
    return keep[:, None] * A * keep[None, :]


def relevance(
    record: Record,
    *,
    first: int,
    tokens: int,
    propagation: str = "average_matmul",
    heads: str = "relu_mean",
    depth: int = 1,
) -> Tensor:
    """Relevance of the `tokens` tokens after the `first` prefix tokens, (B, S) float64; for text `first` is 0.

    `depth` 1 ... L leaves out the attentions before A^(depth); depth = L means no propagation, whatever the scheme.
    """
    if propagation not in PROPAGATIONS or heads not in HEADS:
        raise ValueError(f"expected one of {PROPAGATIONS} and {HEADS}, got {propagation!r} and {heads!r}")
    N = first + tokens
    last, earlier, L = layers(record, N, depth)
    maps = []
    for i in range(last.q.shape[0]):
        read = read_rows(last, i)
        # In a text the class token is a prefix token after all. (A causal row 0 sees itself alone: no gradient.)
        class_token = first == 0 and read == [0] and last.square
        padded = [j for j in range(N) if read and bool(last.blocked[i, :, read, j].all())]
        patches = [j for j in range(first + class_token, N) if j not in padded]
        M = gradient_times_keys(last, i, patches)
        if propagation != "none" and depth < L:
            A = [without(a.A[i].detach().mean(dim=0), padded) for a in earlier]
            T = smoothing(propagation, A, L)
            rows = [r for r in (read if last.square else range(first, N)) if r not in padded]
            M = weigh(M, T, rows) if propagation.endswith("elementwise") else smooth(M, T, patches)
        maps.append(integrate(M, heads)[first:])
    return torch.stack(maps)


def gradtoken(
    net: nn.Module,
    inputs: Tensor | dict[str, Any],
    target: Tensor | Score,
    *,
    first: int,
    tokens: int,
    **options: Any,
) -> Tensor:
    """GradToken of `net` at `inputs`, (B, S) float64; options as in `relevance`, targets as in `capture`."""
    return relevance(capture(net, inputs, target), first=first, tokens=tokens, **options)
