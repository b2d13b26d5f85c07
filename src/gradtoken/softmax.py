"""The derivative of attention: what the tokens gain where the scores of the rows that are read move."""

import torch
from torch import Tensor

from gradtoken.attention import Attention, check_softmax, rows
from gradtoken.errors import NoAttention
from gradtoken.probe import Probe
from gradtoken.readout import chunks


def gained(attention: Attention, x: Tensor, g: Tensor) -> Tensor:
    """J (X g), J the Jacobian of the softmax: sum_i A_ij <x_j - sum_k A_ik x_k, g_i>. (B, K, H, M), sums to 0 over j

    x (B, H, M, D), g (B, K, H, N, D). Rows i where g is 0 count nothing and are not formed; the others some at a time.
    A vector added to every x_j changes nothing.
    """
    used = g.abs().sum(dim=(0, 1, 2, 4)).nonzero()[:, 0].tolist()
    mixed, level = torch.zeros_like(g[..., :1, :]), g.new_zeros(*g.shape[:3], attention.shape[3])
    for i, j in chunks(attention, used[0], used[-1] + 1) if used else ():
        A, g_ = rows(attention, i, j).to(g.dtype), g[..., i:j, :]
        own = ((A @ x)[:, None] * g_).sum(dim=-1)  # <sum_k A_ik x_k, g_i>
        mixed = mixed + A.mT[:, None] @ g_
        level = level + (own[..., None, :] @ A[:, None])[..., 0, :]
    return (mixed * x[:, None]).sum(dim=-1) - level


def check_choice(probe: Probe) -> None:
    """Refuse a last attention that is no softmax, or has nothing to choose from."""
    check_softmax(probe.last)
    counts = probe.reachable.sum(dim=1).tolist()
    if 1 in counts:
        raise NoAttention(
            f"the last attention sees a single key in samples {[i for i, n in enumerate(counts) if n == 1]}: its "
            "softmax is 1 whatever the score, and a map without offset is zero; explain with another method"
        )
