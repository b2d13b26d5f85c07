"""Tokens in the middle of a model, read by its own head: put in place of the last block's output."""

from collections.abc import Callable

import torch
from torch import Tensor

from gradtoken.inputs import repeated
from gradtoken.probe import Probe
from gradtoken.run import Place, Run


def at_end(probe: Probe, tokens: Tensor, like: Tensor) -> Tensor:
    """Tokens of a block in place of the last block's output `like`. (B, n, C) -> (B, N, C)

    Where the last block has others, such as a class token that joined late, the mean patch stands for every one.
    """
    if tokens.shape[1] != like.shape[1]:
        first = probe.layout.first_of(tokens.shape[1]) if tokens.shape[1] > 1 else 0
        mean = tokens[:, first : first + probe.layout.count].mean(dim=1, keepdim=True)
        tokens = mean.expand(-1, like.shape[1], -1)
    return tokens


def projected(probe: Probe, tokens: Tensor, read: Callable[[Run], Tensor] = lambda run: run.scores) -> Tensor:
    """Gradient of each score that the head gives to these tokens, by them. (m * B, n, C) -> (m * B, K, n, C)

    read: another quantity than the scores, (m * B, K).
    """
    x, inputs = tokens.clone().requires_grad_(), repeated(probe.inputs, len(tokens) // probe.batch)
    run = probe.run(inputs=inputs, edits={("out", -1): lambda like: at_end(probe, x, like)}, start=("out", -1))
    grads = [torch.autograd.grad(score, x, retain_graph=True)[0] for score in read(run).sum(dim=0)]
    return torch.stack(grads, dim=1)


def pulled(run: Run, source: Place, seeds: Tensor, block: int) -> Tensor:
    """A gradient by one place of the plain run, carried to A v of a block. (B, K, N, C) -> (B, K, H, N, D)"""
    return torch.stack([run.pull(source, seed, ("Z", block)) for seed in seeds.unbind(dim=1)], dim=1)
