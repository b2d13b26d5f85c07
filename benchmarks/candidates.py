"""What was tried on the way to `gaze` and `halo`: other orders of clipping, other ways to spread, contrast, agreement.

Read by `benchmarks.search` alone; class-token models whose first token is the class token.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from gradtoken.methods.attribution_rollout import attribution_rollout
from gradtoken.methods.gaze import gaze, scores_gained
from gradtoken.methods.generic_attention import generic_attention
from gradtoken.methods.gradtoken import average_matmul
from gradtoken.methods.halo import halo
from gradtoken.methods.score_gradient import score_gradient
from gradtoken.probe import Probe
from gradtoken.readout import content, descend, through
from gradtoken.softmax import gained

Candidate = Callable[[Probe], Tensor]


def by_head(probe: Probe, block: int) -> Tensor:
    """The class token's score gradient in one block. (B, K, H, S)"""
    run = probe.plain
    run.differentiate("Z", run.blocks)
    dZ = run.gradient("Z", block)
    dZ = torch.cat([dZ[..., :1, :], torch.zeros_like(dZ[..., 1:, :])], dim=3)
    return probe.layout.content(gained(run.attention[block], run.value("v", block), dZ), dZ.shape[3])


def last(probe: Probe) -> Tensor:
    """That of the last block. (B, K, H, S)"""
    gain = gained(probe.last, *probe.end)
    return probe.layout.content(gain, gain.shape[3])


def signed(probe: Probe) -> Tensor:
    """The sum over blocks and heads. (B, K, S)"""
    return scores_gained(probe, 0)


def mean_attention(probe: Probe) -> Tensor:
    """Abar over the patches. (B, S, S)"""
    run = probe.plain
    means = torch.stack([run.A(block).mean(dim=1) for block in run.blocks[:-1]]).mean(dim=0)
    return among_patches(probe, means)


def among_patches(probe: Probe, A: Tensor) -> Tensor:
    """Rows and columns of the patches. (B, N, N) -> (B, S, S)"""
    return probe.layout.content(probe.layout.content(A, A.shape[2]).mT, A.shape[1]).mT


def columns(A: Tensor) -> Tensor:
    """Columns of sum 1."""
    return A / A.sum(dim=1, keepdim=True)


def rows(A: Tensor) -> Tensor:
    """Rows of sum 1."""
    return A / A.sum(dim=2, keepdim=True)


def doubly(A: Tensor) -> Tensor:
    """Sinkhorn: rows and columns of sum 1."""
    for _ in range(10):
        A = rows(columns(A))
    return A


def symmetric(A: Tensor) -> Tensor:
    """Both sides divided by the root of their sums."""
    A = A * A.sum(dim=1, keepdim=True).rsqrt()
    return A * A.sum(dim=2, keepdim=True).rsqrt()


def alike(A: Tensor) -> Tensor:
    """Cosine of what two tokens attend to."""
    S = A @ A.mT
    r = S.diagonal(dim1=1, dim2=2).rsqrt()
    return rows(r[:, :, None] * S * r[:, None])


def spread(P: Callable[[Tensor], Tensor], M: Callable[[Probe], Tensor]) -> Candidate:
    """Relu(P s) for a map over blocks, mean of heads relu(P M) for one by head."""

    def candidate(probe: Probe) -> Tensor:
        matrix, values = P(mean_attention(probe)), M(probe)
        if values.ndim == 3:
            return torch.einsum("bij,bkj->bki", matrix, values).clamp(min=0)
        return torch.einsum("bij,bkhj->bkhi", matrix, values).clamp(min=0).mean(dim=2)

    return candidate


def by_values(probe: Probe) -> Tensor:
    """Shares weighted by the norm of values, so that tokens with little to say draw little."""
    run = probe.plain
    weighted = [(run.A(b) * run.value("v", b).norm(dim=3)[:, :, None]).mean(dim=1) for b in run.blocks[:-1]]
    means = torch.stack(weighted).mean(dim=0)
    A = among_patches(probe, means)
    return torch.einsum("bij,bkj->bki", columns(A), signed(probe)).clamp(min=0)


def gradient_weighted(probe: Probe) -> Tensor:
    """The last block's score gradient carried down as in generic attention, by relu(dA * A)."""
    run, end = probe.plain, probe.plain.blocks[-1]
    run.differentiate("Z", run.blocks)

    def step(block: int, row: Tensor) -> Tensor:
        if block == end:
            return gained(probe.last, *probe.end).clamp(min=0).mean(dim=2)

        def E(i: int, j: int) -> Tensor:
            return (run.dA(block, i, j) * run.A(block, i, j)[:, None]).clamp(min=0).mean(dim=2)

        return through(run.attention[block], row, E)

    return content(probe, descend(probe, step, 0))


def every_query(probe: Probe) -> Tensor:
    """A number added to the scores that all queries, not the readout's alone, give to a token."""
    run = probe.plain
    run.differentiate("Z", run.blocks)
    found = [gained(run.attention[b], run.value("v", b), run.gradient("Z", b)).sum(dim=2) for b in run.blocks]
    s = torch.stack(found).sum(dim=0)
    return probe.layout.content(s, s.shape[2]).clamp(min=0)


def contrast(candidate: Candidate) -> Candidate:
    """The same for the logarithm of the class's probability: the class less what the others have."""

    def contrasted(probe: Probe) -> Tensor:
        classes = torch.as_tensor(probe.target)
        classes = classes[:, None] if classes.ndim == 1 else classes

        def score(logits: Tensor) -> Tensor:
            return logits.log_softmax(dim=-1).gather(1, classes.to(logits.device))

        return candidate(Probe(probe.net, probe.inputs, score))

    return contrasted


def both(one: Candidate, other: Candidate) -> Candidate:
    """Agreement: the geometric mean of two maps."""
    return lambda probe: (one(probe) * other(probe)).clamp(min=0).sqrt()


CANDIDATES: dict[str, Candidate] = {
    "last block, heads clipped": lambda p: last(p).clamp(min=0).mean(dim=2),
    "last block, heads summed": lambda p: last(p).sum(dim=2).clamp(min=0),
    "last block, heads clipped, average": score_gradient,
    "last block, heads summed, average": lambda p: average_matmul(p, last(p), p.earlier).sum(dim=2).clamp(min=0),
    "last block, heads clipped, shares": spread(columns, last),
    "last block, heads clipped, symmetric": spread(symmetric, last),
    "last block, heads clipped, doubly stochastic": spread(doubly, last),
    "last block, heads clipped, alike": spread(alike, last),
    "last block, heads clipped, identity added": lambda p: (
        (last(p) + average_matmul(p, last(p), p.earlier)).clamp(min=0).mean(dim=2)
    ),
    "last block, heads clipped, transposed": spread(lambda A: A.mT, last),
    "last block, heads clipped, gradient-weighted": gradient_weighted,
    "last block, heads summed, shares": spread(columns, lambda p: last(p).sum(dim=2)),
    "all blocks": lambda p: gaze(p, spread="none"),
    "all blocks, shares": gaze,
    "all blocks, average": lambda p: gaze(p, spread="average"),
    "all blocks, clipped before shares": lambda p: gaze(p, clip="before"),
    "all blocks, doubly stochastic": spread(doubly, signed),
    "all blocks, symmetric": spread(symmetric, signed),
    "all blocks, shares, identity added": lambda p: (
        signed(p) + torch.einsum("bij,bkj->bki", columns(mean_attention(p)), signed(p))
    ).clamp(min=0),
    "all blocks, shares by value norm": by_values,
    "all blocks, heads clipped": lambda p: torch.stack(
        [by_head(p, b).clamp(min=0).sum(dim=2) for b in p.plain.blocks]
    ).sum(dim=0),
    "all blocks, all queries": every_query,
    "all blocks, contrast": contrast(lambda p: gaze(p, spread="none")),
    "all blocks, shares, contrast": contrast(gaze),
    "generic attention, shares": halo,
    "generic attention where gaze is": lambda p: generic_attention(p) * (gaze(p) > 0),
    "agreement of gaze and generic attention": both(gaze, generic_attention),
    "agreement of gaze and attribution rollout": both(gaze, attribution_rollout),
    "agreement of gaze and gaze clipped before": both(gaze, lambda p: gaze(p, clip="before")),
}
