"""Relevance of an attention that is too large to keep: its matrices live for some rows of queries at a time."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gradtoken.lrp.attention import attention
from gradtoken.lrp.backward import Hand, pull
from gradtoken.lrp.propagate import Rules, branch
from gradtoken.lrp.relevance import scale_of, scaled

CELLS = 2**22  # entries of all heads' matrices formed at a time


def attended(
    rules: Rules, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *more: Any, **options: Any
) -> Any:
    """`attention` under the rules; a large one keeps nothing, and is computed again in the backward pass.

    Rows of queries are independent of each other under rules that take no sums over a sample, but for masks: these
    are added, and a sum is balanced over the sample.
    """
    B, H, N, _ = query.shape if query.ndim == 4 else (0, 0, 0, 0)
    size = max(1, CELLS // max(1, B * H * key.shape[-2]))
    masked = more or attn_mask is not None or options.get("is_causal") or options.get("enable_gqa")
    if size >= N or masked or not all(map(rules.carries, (query, key, value))):
        return rules.opened(attention, query, key, value, attn_mask, *more, **options)
    if branch in rules.preset:
        for x in (query, key, value):
            rules.read(x)
    factors = scale_of(query), scale_of(key)

    def opened(i: int, j: int) -> Callable[..., Tensor]:
        def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            with torch._C._EnableTorchFunction(), Rules(rules.preset):  # which a backward pass by hand turns off
                return attention(scaled(q, factors[0]), scaled(k, factors[1]), v, **options)

        return lambda q, k, v: run(q[:, :, i:j], k, v)

    ranges = [(i, min(i + size, N)) for i in range(0, N, size)]

    def shares(R: Tensor, *x: Tensor) -> list[Tensor]:
        parts = (pull(opened(i, j), *x)[1](R[:, :, i:j]) for i, j in ranges)
        total = next(parts)
        for part in parts:
            total = tuple(a + b for a, b in zip(total, part, strict=True))
        return list(total)

    def forward(*x: Tensor) -> Tensor:
        return torch.cat([opened(i, j)(*x) for i, j in ranges], dim=2)

    return Hand.of(forward, shares, query, key, value)
