"""The attention of a block as a sum of vectors, one from each token: T_ij = sum_h A_h[i, j] W_h v_j, plus x_i if i = j.

Where a LayerNorm follows the residual sum (BERT), it is made linear with its true statistics and applied to T. Only A,
v and the linear map W from A v to the branch are needed, so any number of rows i is formed at a time.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gradtoken.attention import Attention, rows
from gradtoken.decomposition.norms import Linearised, Norms
from gradtoken.errors import NoBlocks
from gradtoken.probe import Probe
from gradtoken.readout import unpadded
from gradtoken.run import Run

BUDGET = 2**28  # bytes that the vectors of some rows may take


@dataclass(frozen=True)
class Block:
    """What T is made of: values W_h v_j (B, H, M, C); x and y (B, N, C), input and output of the attention sublayer.

    norm follows the residual sum and belongs to y; last_norm follows that of the feed-forward network. None in pre-norm
    blocks.
    """

    attention: Attention
    values: Tensor
    x: Tensor
    y: Tensor
    norm: Linearised | None
    last_norm: Linearised | None

    def vectors(self, start: int, stop: int) -> Tensor:
        """Rows of T, which sum to y but for the biases. (B, stop - start, N, C)"""
        A = rows(self.attention, start, stop)
        T = torch.einsum("bhnm,bhmc->bnmc", A, self.values)
        T.diagonal(start, 1, 2).add_(self.x[:, start:stop].mT)
        return T if self.norm is None else self.norm(T, start)


Contribution = Callable[[Block, int, int], Tensor]


def rollout(probe: Probe, contribution: Contribution) -> Tensor:
    """The readout's row of C_L ... C_1, C = contribution(block, start, stop) (B, stop - start, N). (B, S), scaled to 1.

    The row is divided by its sum, prefix tokens included, in every block. Padding is exactly 0.
    """
    norms = Norms()
    run = probe.run(rules=norms)
    r = probe.readers.to(probe.dq.dtype)
    for number in reversed(run.blocks):
        block = block_of(run, norms, number, tokens=r.shape[1])
        r = through(block, share(r), contribution)
    r = share(r)
    return probe.layout.content(r * unpadded(probe), r.shape[1])


def share(r: Tensor) -> Tensor:
    """Each row divided by its sum. (..., N)"""
    return r / r.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(r.dtype).tiny)


def through(block: Block, r: Tensor, contribution: Contribution) -> Tensor:
    """The row r C, from some rows of C at a time; only those that count. (B, N) -> (B, N)"""
    used = r.sum(dim=0).nonzero()[:, 0].tolist()
    total, step = torch.zeros_like(r), max(1, BUDGET // (block.x.numel() * block.x.itemsize))
    for start in range(min(used), max(used) + 1, step) if used else ():
        stop = min(start + step, max(used) + 1)
        total = total + (r[:, None, start:stop] @ contribution(block, start, stop).to(r.dtype))[:, 0]
    return total


def block_of(run: Run, norms: Norms, number: int, tokens: int) -> Block:
    """One block of a run, over as many tokens. Raises NoBlocks."""
    attention, x, y = run.attention[number], run.value("x", number), run.value("middle", number)
    if attention.shape[2:] != (tokens, tokens) or x.shape[1] != tokens:
        raise NoBlocks(
            f"the attention of block {number} has {attention.shape[2]} queries and {attention.shape[3]} keys; expected "
            f"the same {tokens} tokens in every block"
        )
    values = torch.einsum("bhmd,chd->bhmc", run.value("v", number), projection(run, number))
    middle, out = run.node("middle", number), run.node("out", number)
    last = norms.made.get(id(out.raw))
    if last is None:
        return Block(attention, values, x, y, None, None)
    first = norms.read.get(id(middle.raw))
    if first is None:
        raise NoBlocks(f"block {number} ends with a LayerNorm, and the one after its attention was not found")
    y = middle.read(first.y.detach()).to(y)
    return Block(attention, values, x, y, first.at(middle.read), last.at(out.read))


def projection(run: Run, number: int) -> Tensor:
    """W of branch_i = W Z_i + b, found by pulling back unit vectors, a different one for each token. (C, H, D)

    Raises NoBlocks where the branch is no such map: gates, norms or convolutions on the way.
    """
    Z, branch = run.value("Z", number), run.value("branch", number)
    B, N, C = branch.shape
    found = []
    for start in range(0, C, B * N):
        units = torch.eye(C, dtype=branch.dtype, device=branch.device)[start : start + B * N]
        seed = F.pad(units, (0, 0, 0, B * N - len(units))).reshape(B, N, C)
        g = run.pull(("branch", number), seed, ("Z", number))  # (B, H, N, D)
        found.append(g.transpose(1, 2).flatten(0, 1)[: len(units)])
    W = torch.cat(found)
    b = branch - torch.einsum("bhnd,chd->bnc", Z, W)
    spread = (b - b[:1, :1]).abs().max() / branch.abs().max().clamp(min=torch.finfo(b.dtype).tiny)
    if spread > torch.finfo(run.node("branch", number).raw.dtype).eps ** 0.5:
        raise NoBlocks(
            f"what the attention of block {number} adds to the residual stream is no linear map of its heads plus a "
            "bias: a gate, a norm or a convolution lies between; take decompx or a method that reads gradients"
        )
    return W
