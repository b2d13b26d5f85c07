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


def gaze(
    record: Record, *, first: int, tokens: int, spread: str = "shares", clip: str = "after", start: int = 0
) -> Tensor:
    """The whole of it, token by token: autograd's gradients by all O, and each token's number dealt out. (B, S)"""
    last, earlier, _ = oracle.layers(record, first + tokens, 1)
    maps = []
    for i in range(last.q.shape[0]):
        read = oracle.read_rows(last, i)
        class_token = first == 0 and read == [0] and last.square
        padded = [j for j in range(first + tokens) if bool(last.blocked[i, :, read, j].all())]
        patches = [j for j in range(first + class_token, first + tokens) if j not in padded]
        s = torch.zeros(first + tokens, dtype=torch.float64)
        for attention in [*earlier, last][start:]:
            rows = read if attention is last or last.square else patches
            for h in range(attention.O.shape[1]):
                for j in patches:
                    s[j] += sum(attention.O.grad[i, h, row, j] for row in rows)
        s = s.clamp(min=0) if clip == "before" else s
        if earlier and spread != "none":
            s = dealt(s, [a.A[i].detach().mean(dim=0) for a in earlier], patches, spread)
        maps.append(s.clamp(min=0)[first:])
    return torch.stack(maps)


def dealt(s: Tensor, A: list[Tensor], patches: list[int], spread: str) -> Tensor:
    """Each patch's number goes to the patches that attend to it."""
    mean = oracle.average(A, len(A) + 1)
    found = torch.zeros_like(s)
    for j in patches:
        drawn = sum(mean[i, j] for i in patches) if spread == "shares" else 1.0
        for i in patches:
            if mean[i, j] > 0:
                found[i] += mean[i, j] / drawn * s[j]
    return found
