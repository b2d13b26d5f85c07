"""Activation maximisation, piece by piece: the objective, the augmentations and the schedules, without the loop.

Source: Ghiasi et al., arXiv:2212.06727. Letters: B pictures, N tokens, P prefix tokens, C width; block counted from 0.
Each random number is an argument. Augmentations in order: repeat, jitter, offset, tile, shift.

Choices, each the most literal reading: the total variation is that of the (augmented) batch unless a picture is given;
its L2 norm runs over height and width, its mean over pictures and channels; one shift for the whole batch; mu and the
logarithm of sd are drawn per picture and channel; the published `.diag().mean()` divides the feature term by B.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from . import models
from .decomposition import checked

LAMBDA = 0.0005


@torch.no_grad()
def activations(net: nn.Module, x: Tensor, block: int) -> Tensor:
    """GELU(fc1(LN2(mid))) of one block for every picture and token, (B, N, 4C)."""
    net = models.weights(net)
    layer = models.blocks(net)[block]
    rows = []
    for picture in x.double():
        mid = checked(net, picture[None]).at["mid", block][0]
        rows.append(models.gelu(models.linear(models.layer_norm(mid, layer.norm2), layer.mlp.fc1)))
    return torch.stack(rows)


def feature_mean(net: nn.Module, x: Tensor, block: int, feature: int) -> Tensor:
    """Mean of feature f over the patch tokens and the batch, ()."""
    return activations(net, x, block)[:, net.num_prefix_tokens :, feature].mean()


def total_variation(x: Tensor) -> Tensor:
    """Mean over pictures and channels of the L2 norm over H, W of the differences, summed over four directions, ()."""
    differences = (
        x[..., :, 1:] - x[..., :, :-1],
        x[..., 1:, :] - x[..., :-1, :],
        x[..., 1:, 1:] - x[..., :-1, :-1],
        x[..., 1:, :-1] - x[..., :-1, 1:],
    )
    return sum((d.square().sum(dim=(-2, -1)).sqrt().mean() for d in differences), torch.zeros((), dtype=x.dtype))


def objective(
    net: nn.Module,
    x: Tensor,
    block: int,
    feature: int,
    v: float = 1.0,
    picture: Tensor | None = None,
    diag: bool = False,
) -> Tensor:
    """What is maximised, (): mean activation - 0.0005 v TV; `diag`: the mean divided by B, as published in code."""
    mean = feature_mean(net, x, block, feature) / (len(x) if diag else 1)
    return mean - LAMBDA * v * total_variation((x if picture is None else picture).double())


def repeated(x: Tensor, n: int = 8) -> Tensor:
    """(1, 3, H, W) -> (n, 3, H, W)."""
    return x.repeat(n, 1, 1, 1)


def jitter(x: Tensor, mu: Tensor, log_sd: Tensor) -> Tensor:
    """(x - mu) / exp(log_sd), both (B, 3, 1, 1) from U(-1, 1)."""
    return (x - mu) / log_sd.exp()


def offset_level(step: int, steps: int = 400) -> float:
    """Deviation of the channel offset: from 0.5 at step 0 linearly to 0 at the last step."""
    return 0.5 * (1 - step / steps)


def offset(x: Tensor, normal: Tensor, level: float) -> Tensor:
    """The published "noise", x + level z, z (B, 3, 1, 1) from N(0, 1): constant over each channel."""
    return x + level * normal


def tiled(x: Tensor, n: int = 1) -> Tensor:
    """The picture n times in each direction."""
    return x.repeat(1, 1, n, n)


def shifted(x: Tensor, dy: int, dx: int) -> Tensor:
    """Circular: row r moves to r + dy, column s to s + dx."""
    H, W = x.shape[-2:]
    rows, columns = (torch.arange(H) - dy) % H, (torch.arange(W) - dx) % W
    return x[..., rows, :][..., :, columns]


def augmented(x: Tensor, mu: Tensor, log_sd: Tensor, normal: Tensor, level: float, shift: tuple[int, int]) -> Tensor:
    """All augmentations of one step: (1, 3, H, W) -> (B, 3, H, W) with B = len(mu)."""
    return shifted(tiled(offset(jitter(repeated(x, len(mu)), mu, log_sd), normal, level)), *shift)


def learning_rate(step: int, steps: int = 400, start: float = 0.1) -> float:
    """Cosine from 0.1 at step 0 to 0 at the last step."""
    return start * (1 + math.cos(math.pi * step / steps)) / 2


def clipped(x: Tensor) -> Tensor:
    """Into [0, 1], after each step."""
    return x.clamp(0, 1)


REFERENCES = {
    "activations": activations,
    "feature_mean": feature_mean,
    "total_variation": total_variation,
    "objective": objective,
    "repeated": repeated,
    "jitter": jitter,
    "offset_level": offset_level,
    "offset": offset,
    "tiled": tiled,
    "shifted": shifted,
    "augmented": augmented,
    "learning_rate": learning_rate,
    "clipped": clipped,
}
