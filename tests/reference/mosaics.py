"""The grid pointing game (arXiv:2104.00032) written out naively: float64, one mosaic, cell and pixel at a time.

A mosaic is n x n pictures of different classes that the model predicts rightly with probability >= 0.5, each resized to
its cell of one picture of the model's input size. Each cell's class is explained; cells are in reading order.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from .erasing import probability


def edges(length, n):
    """How many pixels have their centre before the edge i / n of a side, for i = 0 ... n."""
    return [sum((2 * j + 1) * n < 2 * i * length for j in range(length)) for i in range(n + 1)]


def cells(size, n):
    """(top, left, bottom, right) of each cell."""
    rows, columns = edges(size[0], n), edges(size[1], n)
    return [(rows[i], columns[j], rows[i + 1], columns[j + 1]) for i in range(n) for j in range(n)]


def composed(pictures, size, n, how=Image.Resampling.BILINEAR):
    """The mosaic as a picture of size (H, W)."""
    out = np.zeros((*size, 3), dtype=np.uint8)
    for picture, (top, left, bottom, right) in zip(pictures, cells(size, n), strict=True):
        out[top:bottom, left:right] = np.asarray(picture.resize((right - left, bottom - top), how))
    return Image.fromarray(out)


def is_used(net, x, label):
    """Whether the model is right and sure of a picture alone."""
    p = [probability(net, x, c) for c in range(net.num_classes)]
    return p.index(max(p)) == label and p[label] >= 0.5


def shares(R, size, n):
    """The share of positive relevance in each cell; 0 where there is none."""
    found = [
        float(sum(max(R[i, j], 0) for i in range(top, bottom) for j in range(left, right)))
        for top, left, bottom, right in cells(size, n)
    ]
    return [one / sum(found) if sum(found) > 0 else 0.0 for one in found]


def localisation(maps, size, n):
    """Mean over cells of the share that cell k's map R_k has in cell k. maps: (n n, H, W)"""
    return sum(shares(R, size, n)[k] for k, R in enumerate(maps)) / (n * n)


def hits(maps, size, n):
    """How many cells have the largest share of their own map, as a share of the cells; equals divide the hit."""
    found = 0.0
    for k, R in enumerate(maps):
        s = shares(R, size, n)
        best = [i for i, one in enumerate(s) if one >= max(s) * (1 - 1e-5) > 0]
        found += 1 / len(best) if k in best else 0
    return found / (n * n)
