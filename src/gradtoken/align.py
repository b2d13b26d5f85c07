"""From calls as a model made them to `Attention` over the tokens of a batch."""

from torch import Tensor

from gradtoken.attention import Attention
from gradtoken.call import Call


def align(x: Tensor, batch: int) -> Tensor | None:
    """(B, H, N, D) from what a model computed: heads may be missing or folded into the batch; else None."""
    if x.ndim == 3 and len(x) % batch == 0:
        return x.reshape(batch, -1, *x.shape[1:])
    if x.ndim < 4 or len(x) != batch:
        return None
    heads = [size for size in x.shape[1:-2] if size > 1]  # one window of all tokens is none
    return x.reshape(batch, *(heads or [1]), *x.shape[-2:]) if len(heads) < 2 else None


def aligned(call: Call, batch: int) -> Attention | None:
    """A recorded call as `Attention`, or None where its tokens are not those of a batch of inputs (windows)."""
    q, k = align(call.q, batch), align(call.k, batch)
    weights, normaliser = (None if x is None else align(x, batch) for x in (call.weights, call.normaliser))
    if q is None or k is None or (weights is None) != (call.weights is None):
        return None
    q, k = unscaled(q, call.q_factor), unscaled(k, call.k_factor)
    if k.shape[1] != q.shape[1]:  # grouped heads share keys
        k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
    return Attention(q, k, call.scale or 1.0, unfolded(call.mask, call.q, batch), call.causal, weights, normaliser)


def unfolded(mask: Tensor | None, q: Tensor, batch: int) -> Tensor | None:
    """The mask of an attention whose heads are folded into the batch: (B * H, N, M) -> (B, H, N, M)."""
    folded = mask is not None and mask.ndim == q.ndim == 3 and len(mask) == len(q)
    return mask.reshape(batch, -1, *mask.shape[1:]) if folded and mask is not None else mask


def unscaled(x: Tensor, factor: float) -> Tensor:
    """X / factor, without a copy where there is nothing to divide."""
    return x if factor == 1.0 else x / factor
