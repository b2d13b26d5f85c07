"""Methods made of attention matrices, written out from a record of the naive reference, for any architecture.

One sample and one score at a time: A and dA of every block, (H, M, N); the row that is read is the mean of the query
rows that have a gradient; an attention pooling has one query and no residual connection.
"""

import torch
from torch import Tensor

from tests.reference.gradtoken import Record, read_rows


def matrices(record: Record, i: int) -> list[tuple[Tensor, Tensor]]:
    """A and dA of each block, first block first."""
    return [(a.A[i].detach(), a.A.grad[i]) for a in record.attentions]


def read(record: Record, i: int, M: Tensor) -> Tensor:
    """The mean of the rows of the last attention that the score depends on. (..., M, N) -> (..., N)"""
    return M[..., read_rows(record.attentions[-1], i), :].mean(dim=-2)


def descended(row: Tensor, factors: list[Tensor]) -> Tensor:
    """Multiply: row F_L ... F_1 of the factors F_1, ..., F_L."""
    for F in reversed(factors):
        row = row @ F
    return row


def raw_attention(record: Record, i: int, first: int) -> Tensor:
    A, _ = matrices(record, i)[-1]
    return read(record, i, A.mean(dim=0))


def rollout(record: Record, i: int, first: int) -> Tensor:
    """Products of (mean_h A + I) / 2 from the second block on."""
    found = [A.mean(dim=0) for A, _ in matrices(record, i)]
    found = [(A + torch.eye(len(A))) / 2 if len(A) == A.shape[1] else A for A in found[min(1, len(found) - 1) :]]
    return descended(read(record, i, found[-1]), found[:-1])


def generic_attention(record: Record, i: int, first: int) -> Tensor:
    """Products of I + mean_h (dA * A)^+."""
    found = [(A * dA).clamp(min=0).mean(dim=0) for A, dA in matrices(record, i)]
    found = [E + torch.eye(len(E)) if len(E) == E.shape[1] else E for E in found]
    return descended(read(record, i, found[-1]), found[:-1])


def gradcam(record: Record, i: int, first: int) -> Tensor:
    """(mean_h w_h A_h)^+ of the row that is read, w_h the mean of its gradient over the patches."""
    A, dA = (read(record, i, M) for M in matrices(record, i)[-1])
    return (dA[:, first:].mean(dim=1, keepdim=True) * A).mean(dim=0).clamp(min=0)


METHODS = {m.__name__: m for m in (raw_attention, rollout, generic_attention, gradcam)}
