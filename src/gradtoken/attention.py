"""One attention of a model: what is kept of it, and products with it that never hold the whole matrix."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gradtoken.errors import NoAttention

MASKED = -1e4  # an additive mask at or below this value hides a key
CHUNK = 512  # query rows of an attention matrix formed at a time


@dataclass(frozen=True)
class Attention:
    """A = softmax(scale q k' + mask) of one call, detached from the graph.

    q (B, H, N, D), k (B, H, M, D); mask is added (float) or keeps where True (bool) and broadcasts to (B, H, N, M).
    Where the model wrote its attention out by hand, `weights` (B, H, N, M) is A itself, and `normaliser` (B, H, N, 1)
    the logarithm of the sum that it was divided by, if that was recorded. cross: queries are known to be others than
    the keys, though they may be as many.
    """

    q: Tensor
    k: Tensor
    scale: float
    mask: Tensor | None = None
    causal: bool = False
    weights: Tensor | None = None
    normaliser: Tensor | None = None
    cross: bool = False

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(B, H, N, M): batch, heads, query tokens, key tokens."""
        return (*self.q.shape[:3], self.k.shape[2])

    @property
    def square(self) -> bool:
        """Whether queries and keys are the same tokens, or at least as many."""
        return self.q.shape[2] == self.k.shape[2] and not self.cross

    @property
    def is_kept(self) -> bool:
        """Whether more is known of it than its shape."""
        return not self.q.is_meta

    @property
    def width(self) -> int:
        """Numbers per token: heads times their size."""
        return self.q.shape[1] * self.q.shape[3]


def rows(attention: Attention, start: int, stop: int) -> Tensor:
    """Rows start..stop of A, softmax written out. (B, H, stop - start, M)"""
    check_kept(attention)
    if attention.weights is not None:
        return attention.weights[:, :, start:stop].to(working_dtype(attention.q))
    O = scores(attention, start, stop)
    A = O.softmax(dim=-1)
    hides = attention.causal or attention.mask is not None
    return A.masked_fill(O.isneginf(), 0) if hides else A  # a row that sees nothing is 0, as in the fused kernel


def scores(attention: Attention, start: int, stop: int) -> Tensor:
    """Rows start..stop of O, which A is the softmax of; -inf where a key is hidden. (B, H, stop - start, M)"""
    if attention.weights is not None:
        if attention.normaliser is None:
            raise NoAttention("the scores of an attention written by hand are kept in passes with a tape alone")
        check_softmax(attention)
        A, normaliser = (x[:, :, start:stop].to(working_dtype(x)) for x in (attention.weights, attention.normaliser))
        return A.log() + normaliser
    q, k = (x.to(working_dtype(x)) for x in (attention.q[:, :, start:stop], attention.k))
    O = attention.scale * (q @ k.mT)
    mask = attention.mask
    if mask is not None:
        mask = mask if mask.shape[-2] == 1 else mask[..., start:stop, :]
        O = O.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else O + mask.to(O.dtype)
    if attention.causal:
        later = torch.ones(attention.shape[2:], dtype=torch.bool, device=O.device).triu(1)[start:stop]
        O = O.masked_fill(later, -torch.inf)
    return O


def check_kept(attention: Attention) -> None:
    """Refuse what is only a shape."""
    if not attention.is_kept:
        raise NoAttention(
            "the queries and keys of this attention were not kept (memory='recompute'), and they are needed in another "
            "order than the model computes them; use memory='keep', 'bfloat16' or 'float16'"
        )


def check_softmax(attention: Attention) -> None:
    """Refuse weights that are no softmax of scores."""
    if attention.weights is not None and (attention.weights.sum(dim=-1) - 1).abs().max() > 0.01:
        raise NoAttention("the attention is mixed among heads after its softmax; this method reads its scores")


def working_dtype(x: Tensor) -> torch.dtype:
    """Relevance is kept in float32, or in float64 where the model runs in float64."""
    return torch.promote_types(x.dtype, torch.float32)


def average(attention: Attention, values: Tensor) -> Tensor:
    """(mean over heads of A) @ values, as attention again with these values. (B, M, W) -> (B, N, W)"""
    check_kept(attention)
    if attention.weights is not None:
        return attention.weights.mean(dim=1, dtype=values.dtype) @ values
    q, k = attention.q.to(values.dtype), attention.k.to(values.dtype)
    mask, width = attention.mask, k.shape[-1]
    if mask is not None and mask.dtype != torch.bool:
        mask = mask.to(values.dtype)
    means = []
    for columns in torch.split(values, width, dim=-1):  # as wide as the keys, so that the fused kernel takes them
        padded = F.pad(columns, (0, width - columns.shape[-1]))
        V = padded[:, None].expand(-1, q.shape[1], -1, -1)
        Z = F.scaled_dot_product_attention(q, k, V, mask, is_causal=attention.causal, scale=attention.scale)
        means.append(Z.mean(dim=1)[..., : columns.shape[-1]])
    return torch.cat(means, dim=-1)


def average_rows(attention: Attention, weights: Tensor) -> Tensor:
    """Weights' @ (mean over heads of A): some rows of A, summed. (B, N) -> (B, M)"""
    used = weights.abs().sum(dim=0).nonzero()[:, 0].tolist()
    total = weights.new_zeros(weights.shape[0], attention.shape[3])
    for start in range(min(used), max(used) + 1, CHUNK) if used else ():
        stop = min(start + CHUNK, max(used) + 1)
        A = rows(attention, start, stop).mean(dim=1).to(weights.dtype)
        total = total + (weights[:, None, start:stop] @ A)[:, 0]
    return total


def reachable(attention: Attention, readers: Tensor) -> Tensor:
    """Which keys the reading query rows may attend to. readers (B, N) bool -> (B, M) bool"""
    B, _, N, M = attention.shape
    if attention.weights is not None:
        seen = (attention.weights > 0).any(dim=1)
    elif attention.mask is not None:
        mask = attention.mask if attention.mask.dtype == torch.bool else attention.mask > MASKED
        seen = mask.reshape((1,) * (4 - mask.ndim) + mask.shape).any(dim=1).expand(B, N, M)
    elif attention.causal:
        seen = torch.ones(B, N, M, dtype=torch.bool, device=readers.device)
    else:
        return torch.ones(B, M, dtype=torch.bool, device=readers.device)
    if attention.causal:
        seen = seen.tril()
    return (seen & readers[:, :, None]).any(dim=1)
