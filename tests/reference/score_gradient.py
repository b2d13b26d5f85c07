"""GradToken and its relatives without a free offset, written out: autograd's own gradients, one head at a time.

Reads the records of `tests.reference.gradtoken`, with attention in the open: O and A are nodes of the graph.
"""

import torch
from torch import Tensor

from tests.reference import gradtoken as oracle
from tests.reference.gradtoken import Attention, Record


def centred(last: Attention, i: int, patches: list[int]) -> Tensor:
    """M of keys that were centred over the patches first. (H, N)"""
    k = last.k[i].detach()
    k = k - k[:, patches].mean(dim=1, keepdim=True)
    M = torch.zeros(k.shape[:2], dtype=k.dtype)
    for h in range(k.shape[0]):
        for j in patches:
            M[h, j] = torch.dot(k[h, j], last.q.grad[i, h].sum(dim=0))
    return M


def attention_shift(last: Attention, i: int, patches: list[int]) -> Tensor:
    """Derivative of softmax(q k' + the rest of O) as each q moves along its gradient, summed over the rows. (H, N)"""
    O, k, g = last.O[i].detach(), last.k[i].detach(), last.q.grad[i]
    _, moved = torch.autograd.functional.jvp(
        lambda step: torch.softmax(O + step, dim=-1), torch.zeros_like(O), g @ k.mT
    )
    return kept(moved.sum(dim=1), patches)


def score_gradient(last: Attention, i: int, patches: list[int]) -> Tensor:
    """Autograd's gradient by O, summed over the rows. (H, N)"""
    return kept(last.O.grad[i].nan_to_num().sum(dim=1), patches)


def kept(M: Tensor, patches: list[int]) -> Tensor:
    """M for the patches, 0 for all other tokens."""
    found = torch.zeros_like(M)
    found[:, patches] = M[:, patches]
    return found


MAPS = {"centred_gradtoken": centred, "attention_shift": attention_shift, "score_gradient": score_gradient}


def relevance(record: Record, method: str, monkeypatch, **options) -> Tensor:
    """The published scheme of propagation and heads around another M. (B, S)"""
    with monkeypatch.context() as patch:
        patch.setattr(oracle, "gradient_times_keys", MAPS[method])
        return oracle.relevance(record, **options)
