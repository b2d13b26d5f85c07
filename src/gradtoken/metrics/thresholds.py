"""Where a map is cut into foreground and background: one threshold per map. (B, H, W) -> (B,)

A map with a NaN has the threshold NaN, and so no foreground; so has a constant map under every rule but `fixed`.
"""

import torch
from torch import Tensor

from gradtoken.metrics.maps import single


def foreground(R: Tensor, threshold: Tensor) -> Tensor:
    """R > t, strictly; a NaN is never foreground. (B, H, W), (B,) -> (B, H, W), bool"""
    return R.gt(threshold[:, None, None])


def mean(R: Tensor) -> Tensor:
    """Mean of the map (arXiv:2012.09838)."""
    return single(R).flatten(1).mean(dim=1)


def share_of_maximum(R: Tensor, share: float = 0.2) -> Tensor:
    """Share of the maximum, share * max R; 0.2 in CAM (arXiv:1512.04150) and after."""
    return share * R.flatten(1).amax(dim=1)


def fixed(R: Tensor, value: float = 0.5) -> Tensor:
    """The same value for every map, meant for maps in [0, 1]."""
    return torch.full_like(R[:, 0, 0], value)


def otsu(R: Tensor, bins: int = 256) -> Tensor:
    """Centre of the bin after which w0 w1 (m0 - m1)^2 is largest, the first of equals (doi:10.1109/TSMC.1979.4310076).

    w, m: number and mean of the pixels up to the bin, and after it. A constant map is its own threshold.
    """
    flat = R.flatten(1).double()
    low, high = flat.amin(dim=1, keepdim=True), flat.amax(dim=1, keepdim=True)
    width = (high - low) / bins
    place = ((flat - low) / width).nan_to_num(0).long().clamp(max=bins - 1)
    counts = torch.zeros_like(low.expand(-1, bins)).scatter_add(1, place, torch.ones_like(flat))
    centres = low + (torch.arange(bins, device=R.device) + 0.5) * width
    number, total = counts.cumsum(dim=1), (counts * centres).cumsum(dim=1)
    w0, w1 = number[:, :-1], number[:, -1:] - number[:, :-1]
    m0, m1 = total[:, :-1] / w0, (total[:, -1:] - total[:, :-1]) / w1
    best = (w0 * w1 * (m0 - m1).square()).argmax(dim=1, keepdim=True)
    threshold = torch.where(high > low, centres.gather(1, best), high)
    return threshold[:, 0].to(single(R).dtype)
