"""ViT-CX: Xie, Li, Cao, Zhang, IJCAI 2023."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from gradtoken.errors import MissingExtra, expect_between
from gradtoken.methods import METHODS
from gradtoken.passes import micro_batches
from gradtoken.probe import Probe
from gradtoken.readout import over_content
from gradtoken.seeds import seeded

ROUNDING = 1e-6  # below it the value of a mask is 0: the share of a pixel that no mask shows is 0 / 0


@METHODS.add(
    paper="https://arxiv.org/abs/2211.03064",
    formula="R = (1/m) sum_i s_i M_i / sum_j M_j with s_i = p(x M_i + Z_i) - p(x + Z_i) + p(x)",
    cost="2 F + m F without noise, 2 m F with it; m masks, mostly tens",
    needs=("grid", "stream"),
    trial={"noise": 0, "threshold": 2},
    differs="the authors' noise is unseeded; here its seed is 0 by default, and noise=0.0 leaves it out. "
    "Constant feature maps are left out, and pixels that no mask shows are 0, where the authors' code divides 0 by 0",
)
def vit_cx(probe: Probe, *, noise: float = 0.1, threshold: float = 0.1, generator: Generator | None = None) -> Tensor:
    """Causal effect of the regions that groups of similar feature maps of the last block show.

    Returns (B, K, H, W). Unit: class probability divided by the number of masks; signed with noise, else >= 0; not
    conserved. Masked pixels are 0 as the network reads them: mid grey, or the mean colour of its training pictures.
    Pixels that no mask shows are 0.

    noise: standard deviation of Z_i = noise * N(0, 1) * (1 - M_i), in the units that the network reads. threshold:
    feature maps are in one mask while 1 - cosine of any two of them is below. generator: of the noise, which is the
    same for all samples and targets.
    """
    expect_between("noise", noise, 0)
    expect_between("threshold", threshold, 0, 2)
    plain = probe.run(graph=False, probability=True)
    masks = [
        region_masks(probe, maps, threshold)
        for maps in feature_maps(probe, plain.value("features", over_content(probe)[-1]))
    ]
    m = torch.tensor([max(1, len(M)) for M in masks]).to(probe.dq)[:, None, None, None]
    padded = torch.nn.utils.rnn.pad_sequence(masks).to(probe.dq)  # (m, B, rows, columns): zeros add nothing
    total = covered = probe.dq.new_zeros(*probe.scores.shape, *probe.grid.shape[-2:])
    source = seeded(generator)
    for numbers in micro_batches(probe, len(padded)):
        M = enlarge(padded[numbers.start : numbers.stop], probe.grid)  # (n, B, H, W)
        M = M.where(M > ROUNDING, 0)
        Z = noise * (1 - M)[:, :, None] * normal(probe, len(numbers), source) if noise else None
        s = effects(probe, M, Z, plain.scores)
        total = total + torch.einsum("nbk,nbhw->bkhw", s, M)
        covered = covered + M.sum(dim=0)[:, None]
    R: Tensor = total / covered.where(covered > 0, 1) / m
    return R


def effects(probe: Probe, M: Tensor, Z: Tensor | None, p: Tensor) -> Tensor:
    """s_i: probability of the masked pictures, less what the noise alone does. (n, B, H, W) -> (n, B, K)"""
    x, shape = probe.grid, (len(M), *p.shape)
    masked = x * M[:, :, None]

    def probability(pictures: Tensor) -> Tensor:
        inputs = probe.pictured(pictures.flatten(0, 1).to(x.dtype))
        return probe.score(inputs=inputs, probability=True).to(M.dtype).reshape(shape)

    return probability(masked) if Z is None else probability(masked + Z) - probability(x + Z) + p.to(M.dtype)


def normal(probe: Probe, count: int, source: Generator) -> Tensor:
    """Noise, one picture after the other, so that it does not depend on the micro-batch. (n, 1, C, H, W)"""
    shape = probe.grid.shape[1:]
    return torch.stack([torch.randn(shape, generator=source, device=source.device) for _ in range(count)])[:, None].to(
        probe.dq
    )


# Masks: kept at the size of the grid, and enlarged when a picture is multiplied by them -------------------------------


def feature_maps(probe: Probe, features: Tensor) -> Tensor:
    """The channels over the patches. (B, N, C) -> (B, C, rows, columns), float64 on the processor"""
    return probe.layout.to_map(probe.layout.content(features.mT, features.shape[1]).to("cpu", torch.float64))


def region_masks(probe: Probe, maps: Tensor, threshold: float) -> Tensor:
    """M: sums of feature maps that are alike, from 0 to 1 when enlarged. (C, rows, columns) -> (m, rows, columns)"""
    maps = spread(maps, probe.grid)
    groups = clusters(1 - cosines(maps, probe.grid), threshold)
    sums = maps.new_zeros(int(groups.max()) + 1 if len(groups) else 0, *maps.shape[1:])
    return spread(sums.index_add(0, groups, maps), probe.grid)


def spread(maps: Tensor, picture: Tensor) -> Tensor:
    """Each map minus its minimum, divided by its range, both of the enlarged map; constant maps are left out."""
    extremes = [torch.aminmax(enlarge(part, picture).flatten(1), dim=1) for part in torch.split(maps, 64)]
    low, high = (torch.cat(found)[:, None, None] for found in zip(*extremes, strict=True))
    varied = (high > low)[:, 0, 0]
    return ((maps - low) / (high - low).where(high > low, 1))[varied]


def enlarge(maps: Tensor, picture: Tensor) -> Tensor:
    """Bilinear, to the size of the picture. (..., rows, columns) -> (..., H, W)"""
    H, W = (stretch(n, size).to(maps) for n, size in zip(maps.shape[-2:], picture.shape[-2:], strict=True))
    return H @ maps @ W.mT


def stretch(n: int, size: int) -> Tensor:
    """Linear interpolation of n values at `size` places, as a matrix. (size, n), float64"""
    return F.interpolate(torch.eye(n, dtype=torch.float64)[None], size=size, mode="linear")[0].mT


def cosines(maps: Tensor, picture: Tensor) -> Tensor:
    """Cosine between any two enlarged maps, from their scalar products at the size of the grid. (C, C)"""
    H, W = (stretch(n, size).to(maps) for n, size in zip(maps.shape[-2:], picture.shape[-2:], strict=True))
    products = maps.flatten(1) @ ((H.mT @ H) @ maps @ (W.mT @ W)).flatten(1).mT
    length = products.diag().sqrt()
    return products / length[:, None] / length


def clusters(distances: Tensor, threshold: float) -> Tensor:
    """Group of each map, 0 ... m - 1: agglomerative with complete linkage, cut at the threshold. (C, C) -> (C)"""
    try:
        from scipy.cluster.hierarchy import fcluster, linkage
    except ImportError:
        raise MissingExtra.of("scipy", "scipy") from None
    if len(distances) < 2:
        return torch.zeros(len(distances), dtype=torch.long)
    above = distances[*np.triu_indices(len(distances), k=1)].clamp(min=0)
    groups = fcluster(linkage(above.numpy(), method="complete"), threshold, criterion="distance")
    return torch.from_numpy(groups).long() - 1
