"""ViT-CX, TIS and ViT-ReciproCAM written out naively: float64, one sample, mask and target at a time.

Sources: ViT-CX arXiv:2211.03064; TIS, Englebert et al., ICCV Workshops 2023, pp. 806-815;
ViT-ReciproCAM arXiv:2310.02588.

Letters: C width, S map tokens on a grid (h, w), L blocks, M (m, ...) masks; p_c softmax probability, y_c logit.

Choices where the papers leave it open, each the most literal reading:
- ViT-CX: constant maps (0/0 in the min-max) are dropped, those of a cluster too; no map at all: zeros; clusters merge
  below the threshold, not at it; a pixel that no mask covers gets 0; noise is drawn mask by mask, each of the shape of
  the picture; p_c(x) is the target's;
- TIS: k-means on the raw channel vectors; where there are no more vectors than clusters each is its own centroid; equal
  values are chosen in the order of topk; a token that no mask keeps gets 0; the kept tokens stay in order. The map of a
  text has all tokens but [CLS], [SEP] included;
- ReciproCAM: without the class token its mask is 0; the kernel is cut at the border, not renormalised.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import models
from .decomposition import checked, padded, samples
from .models import Inputs, Trace


def probability(net: nn.Module, x: Inputs, c: int) -> Tensor:
    """p_c(x) of one sample, ()."""
    return models.forward(net, x).logits.softmax(dim=-1)[0, c]


# ------------------------------------------------------------------------------------------ ViT-CX


def minmax(maps: Tensor) -> Tensor:
    """(x - min) / (max - min) of each map; constant ones are dropped. (C, H, W) -> (<= C, H, W)"""
    kept = [x for x in maps if x.max() > x.min()]
    return torch.stack([(x - x.min()) / (x.max() - x.min()) for x in kept]) if kept else maps[:0]


def feature_maps(net: nn.Module, x: Tensor) -> Tensor:
    """norm1 output of the last block without prefix tokens, enlarged bilinearly, each map in [0, 1]. (<= C, H, W)"""
    f = models.forward(net, x).all("norm")[-1][0, models.prefix(net) :]  # (S, C)
    f = f.T.reshape(1, -1, *net.patch_embed.grid_size)
    return minmax(F.interpolate(f, size=x.shape[-2:], mode="bilinear", align_corners=False)[0])


def clusters(maps: Tensor, threshold: float = 0.1) -> list[int]:
    """Number of the cluster of each map, agglomerative with complete linkage on 1 - cosine similarity.

    The two clusters whose farthest members are nearest to each other are joined while that distance is < threshold.
    """
    flat = maps.flatten(1)
    norm = flat.norm(dim=1)
    D = (1 - flat @ flat.T / (norm[:, None] * norm[None, :])).fill_diagonal_(torch.inf)
    label = list(range(len(maps)))
    while len(maps) and D.min() < threshold:
        a, b = sorted(divmod(int(D.argmin()), len(D)))
        D[a] = D[:, a] = torch.maximum(D[a], D[b])
        D[b], D[:, b], D[a, a] = torch.inf, torch.inf, torch.inf
        label = [a if i == b else i for i in label]
    return label


def cluster_masks(maps: Tensor, threshold: float = 0.1) -> Tensor:
    """M_i: sum of the maps of a cluster, min-maxed again. (C, H, W) -> (m, H, W)"""
    labels = clusters(maps, threshold)
    sums = [sum(x for x, label in zip(maps, labels, strict=True) if label == i) for i in sorted(set(labels))]
    return minmax(torch.stack(sums)) if sums else maps


def causal_scores(net: nn.Module, x: Tensor, c: int, M: Tensor, Z: Tensor) -> Tensor:
    """s_i = p_c(x M_i + Z_i) - p_c(x + Z_i) + p_c(x); x normalised (1, 3, H, W), Z (m, 3, H, W). (m,)"""
    p = probability(net, x, c)
    masked = [probability(net, x * M_i + Z_i, c) for M_i, Z_i in zip(M, Z, strict=True)]
    only_noise = [probability(net, x + Z_i, c) for Z_i in Z]
    return torch.stack(masked) - torch.stack(only_noise) + p


def background(normal: Tensor, M: Tensor, noise: float = 0.1) -> Tensor:
    """Z_i = noise N(0, 1) (1 - M_i), in normalised-pixel space. (m, 3, H, W), (m, H, W) -> (m, 3, H, W)"""
    return torch.stack([noise * n_i * (1 - M_i) for n_i, M_i in zip(normal, M, strict=True)])


def covered(scores: Tensor, M: Tensor) -> Tensor:
    """sum_i s_i M_i / sum_j M_j for each place, 0 where no mask covers it. (m,), (m, ...) -> (...)"""
    total, cover = torch.zeros_like(M[0]), torch.zeros_like(M[0])
    for s_i, M_i in zip(scores, M, strict=True):
        total, cover = total + s_i * M_i, cover + M_i
    return torch.where(cover > 0, total / cover.where(cover > 0, 1), 0)


@torch.no_grad()
def vit_cx(
    net: nn.Module,
    inputs: Tensor,
    target: Tensor,
    noise: float = 0.0,
    threshold: float = 0.1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """R = (1/m) sum_i s_i M_i / sum_j M_j with Z_i = noise N(0, 1) (1 - M_i). (B, K, H, W); unit: probability / m."""
    net = models.weights(net)
    maps = []
    for (x, _, _), classes in zip(samples(inputs), target, strict=True):
        checked(net, x)
        M = cluster_masks(feature_maps(net, x), threshold)
        if not len(M):
            maps.append(x.new_zeros(len(classes), *x.shape[-2:]))
            continue
        normal = torch.stack([torch.randn(x.shape[1:], generator=generator, dtype=x.dtype) for _ in M])
        Z = background(normal, M, noise)
        maps.append(torch.stack([covered(causal_scores(net, x, int(c), M, Z), M) / len(M) for c in classes]))
    return torch.stack(maps)


# ------------------------------------------------------------------------------------------ TIS


def channel_vectors(trace: Trace, prefix: int) -> Tensor:
    """Outputs of all blocks side by side, without prefix tokens, one row for each channel. (L C, S)"""
    return torch.cat([out[0, prefix:] for out in trace.all("out")], dim=-1).T


def k_means(vectors: Tensor, k: int, generator: torch.Generator | None = None, steps: int = 100) -> Tensor:
    """Centroids of Lloyd's algorithm (Euclidean) started from k different vectors. (n, S) -> (k, S)"""
    if len(vectors) <= k:
        return vectors
    centroids = vectors[torch.randperm(len(vectors), generator=generator)[:k]]
    for _ in range(steps):
        nearest = torch.stack([(centroids - v).square().sum(dim=1).argmin() for v in vectors])
        members = [vectors[nearest == i] for i in range(k)]
        new = torch.stack([m.mean(dim=0) if len(m) else old for m, old in zip(members, centroids, strict=True)])
        if torch.equal(new, centroids):
            break
        centroids = new
    return centroids


def token_masks(centroids: Tensor, ratio: float = 0.5) -> Tensor:
    """1 at the top int(ratio S) tokens of each centroid, else 0. (m, S) -> (m, S)"""
    M = torch.zeros_like(centroids)
    for i, centroid in enumerate(centroids):
        M[i, centroid.topk(int(ratio * len(centroid))).indices] = 1
    return M


def sampled(net: nn.Module, x: Inputs, kept: list[int]) -> Tensor:
    """Logits (K,) when the prefix and these map tokens alone enter the encoder, after the position embedding.

    In a text the other tokens are blocked as keys, which comes to the same: none that stays can see them.
    """
    first = models.prefix(net)
    tokens = [*range(first), *(first + j for j in kept)]
    if isinstance(x, dict):
        mask = torch.zeros_like(x["input_ids"])
        mask[0, tokens] = 1
        return models.forward(net, {**x, "attention_mask": mask}).logits[0]

    def swap(name: str, block: int, value: Tensor) -> Tensor:
        return value[:, tokens] if (name, block) == ("x", 0) else value

    return models.forward(net, x, swap).logits[0]


def sampled_scores(net: nn.Module, x: Inputs, c: int, M: Tensor) -> Tensor:
    """p_c with the tokens of each mask alone. (m, S) -> (m,)"""
    return torch.stack([sampled(net, x, M_i.nonzero()[:, 0].tolist()).softmax(dim=-1)[c] for M_i in M])


@torch.no_grad()
def tis(
    net: nn.Module,
    inputs: Inputs,
    target: Tensor,
    masks: int = 1024,
    ratio: float = 0.5,
    centroids: list[Tensor] | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """R = sum_i p_c(M_i) M_i / sum_i M_i. (B, K, S); unit: probability. `centroids`: (m, S) for each sample."""
    net = models.weights(net)
    maps = []
    for i, ((x, kept, N), classes) in enumerate(zip(samples(inputs), target, strict=True)):
        vectors = channel_vectors(checked(net, x), models.prefix(net))
        M = token_masks(k_means(vectors, masks, generator) if centroids is None else centroids[i].double(), ratio)
        R = torch.stack([covered(sampled_scores(net, x, int(c), M), M) for c in classes])
        maps.append(padded(R, kept, N))
    return torch.stack(maps)


# ------------------------------------------------------------------------------------------ ViT-ReciproCAM


def grid_masks(h: int, w: int, gaussian: bool = True) -> Tensor:
    """G_p: [1 2 1; 2 4 2; 1 2 1] / 16 around each place p, cut at the border, or 1 at p alone. (S, S)"""
    weight = {-1: 0.25, 0: 0.5, 1: 0.25} if gaussian else {0: 1.0}
    G = torch.zeros(h * w, h * w, dtype=torch.float64)
    for row in range(h):
        for column in range(w):
            for dy, a in weight.items():
                for dx, b in weight.items():
                    if 0 <= row + dy < h and 0 <= column + dx < w:
                        G[row * w + column, (row + dy) * w + column + dx] = a * b
    return G


def masked_logits(net: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    """Logits (K,) when mask (N,) multiplies the last block's tokens on the skip path and their LayerNorm on the branch.

    The LayerNorm is that of the unmasked tokens.
    """
    last = len(models.blocks(net)) - 1
    norm = models.forward(net, x).at["norm", last]

    def swap(name: str, block: int, value: Tensor) -> Tensor:
        masked = {("x", last): value, ("norm", last): norm}
        return mask[:, None] * masked[name, block] if (name, block) in masked else value

    return models.forward(net, x, swap).logits[0]


@torch.no_grad()
def reciprocam(
    net: nn.Module, inputs: Tensor, target: Tensor, gaussian: bool = True, class_token: bool = True
) -> Tensor:
    """R_p = y_c with the tokens entering the last block multiplied by G_p. (B, K, S); unit: logit."""
    net = models.weights(net)
    prefix = torch.full((models.prefix(net),), float(class_token), dtype=torch.float64)
    maps = []
    for (x, _, _), classes in zip(samples(inputs), target, strict=True):
        checked(net, x)
        G = grid_masks(*net.patch_embed.grid_size, gaussian)
        y = torch.stack([masked_logits(net, x, torch.cat([prefix, G_p])) for G_p in G])  # (S, classes)
        maps.append(torch.stack([y[:, c] for c in classes]))
    return torch.stack(maps)


REFERENCES = {"vit_cx": vit_cx, "tis": tis, "reciprocam": reciprocam}
