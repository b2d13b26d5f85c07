"""Erase pixels in the order of a map: which come when, and the pictures that are left."""

import torch
import torch.nn.functional as F
from torch import Tensor


def ranks(relevance: Tensor, most_first: bool = True) -> Tensor:
    """When each pixel is erased, from 0; equal pixels in reading order. (B, H, W) -> (B, H, W), int64

    Published scripts take the k highest with `topk`, whose order among equal values is not defined.
    """
    flat = relevance.flatten(1)
    order = flat.argsort(dim=1, descending=most_first, stable=True)
    places = torch.arange(flat.shape[1], device=flat.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places).view_as(relevance)


def erased(pictures: Tensor, order: Tensor, counts: Tensor, fill: Tensor) -> Tensor:
    """Pictures without the first `counts` pixels of an order. (n, B, C, H, W)

    pictures: (B, C, H, W). order: `ranks`, (B, H, W). counts: (n,). fill: what takes their place, (C,) or as pictures.
    """
    gone = order[None, :, None] < counts[:, None, None, None, None]
    return torch.where(gone, fill if fill.ndim > 1 else fill[:, None, None], pictures)


def blurred(pictures: Tensor, width: int = 11, sigma: float = 5.0) -> Tensor:
    """Blur with zeros beyond the edge, as in the scripts of RISE (arXiv:1806.07421). (B, C, H, W)"""
    g = blur_kernel(width, sigma).to(pictures)
    channels = pictures.shape[1]
    kernel = g.expand(channels, 1, 1, width)
    rows = F.conv2d(pictures, kernel, padding=(0, width // 2), groups=channels)
    return F.conv2d(rows, kernel.transpose(2, 3), padding=(width // 2, 0), groups=channels)


def blur_kernel(width: int, sigma: float) -> Tensor:
    """A point in the middle of `width` pixels after a Gaussian blur, cut at 4 sigma, whose borders reflect. (width,)

    RISE's kernel is made this way: what a Gaussian has beyond the width is folded back, so it is flatter than one.
    """
    radius = int(4 * sigma + 0.5)
    x = torch.arange(-radius, radius + 1)
    g = torch.exp(-(x.double() ** 2) / (2 * sigma**2))
    place = (x + width // 2) % (2 * width)
    folded = torch.minimum(place, 2 * width - 1 - place)
    return torch.zeros(width, dtype=g.dtype).index_add(0, folded, g / g.sum())
