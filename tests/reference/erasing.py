"""Perturbation protocols written out naively: float64, one picture, step and pixel at a time.

Sources: perturbation test of Chefer et al. (arXiv:2012.09838), with the area over eleven points; ABPC of AGCAM
(arXiv:2402.04563); deletion and insertion of RISE (arXiv:1806.07421), which transition attention maps
(https://openreview.net/forum?id=TT-cf6QSDaQ) measure in fewer steps.

Letters: x a picture (3, H, W), R a map (H, W), P pixels H W, c a class. Equal pixels are taken in reading order.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import torch
from PIL import Image


def squashed(picture, size, mean, std):
    """((the picture at size (H, W) by PIL, bilinear) / 255 - mean) / std, in float32 as models read it."""
    small = np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BILINEAR))
    out = np.empty((3, *size), dtype=np.float32)
    for channel in range(3):
        scaled = (small[:, :, channel].astype(np.float64) / 255).astype(np.float32)
        out[channel] = (scaled - np.float32(mean[channel])) / np.float32(std[channel])
    return out.astype(np.float64)


def enlarged(R, size):
    """A map of patches at the size of the picture: bilinear between patch centres, edges repeated. Exact fractions."""
    (H, W), (h, w) = size, R.shape
    values = [[Fraction(float(value)) for value in row] for row in R]
    out = np.empty(size, dtype=object)
    for i in range(H):
        for j in range(W):
            y = max(Fraction(2 * i + 1, 2) * h / H - Fraction(1, 2), 0)
            x = max(Fraction(2 * j + 1, 2) * w / W - Fraction(1, 2), 0)
            a, b = int(y), int(x)
            c, d = min(a + 1, h - 1), min(b + 1, w - 1)
            above = values[a][b] + (x - b) * (values[a][d] - values[a][b])
            below = values[c][b] + (x - b) * (values[c][d] - values[c][b])
            out[i, j] = above + (y - a) * (below - above)
    return out


def order(R, least_first=False):
    """Places (row, column), the most relevant first, or the least; reading order among equals."""
    sign = 1 if least_first else -1
    return sorted(np.ndindex(R.shape), key=lambda place: (sign * R[place], place))


def pasted(onto, other, places):
    """The picture `onto` with the pixels of `other` at some places."""
    out = onto.copy()
    for i, j in places:
        out[:, i, j] = other[:, i, j]
    return out


def filled(x, colours):
    """A picture of one colour, (3,), as large as x."""
    return np.stack([np.full(x.shape[1:], colour) for colour in colours])


def logits(net, x):
    """Of one picture, (classes,)."""
    with torch.no_grad():
        return net(torch.from_numpy(x)[None])[0].numpy()


def probability(net, x, c):
    """Softmax over all classes."""
    y = logits(net, x)
    return float(np.exp(y[c] - y.max()) / np.exp(y - y.max()).sum())


# ------------------------------------------------------------------------------------------ arXiv:2012.09838


def hits(net, x, R, label, black, least_first):
    """Whether the label is still predicted with int(P s) pixels black, s = 0.1 ... 0.9."""
    places, found = order(R, least_first), []
    for tenth in range(1, 10):
        some = places[: int(R.size * (tenth / 10))]
        found.append(float(logits(net, pasted(x, filled(x, black), some)).argmax() == label))
    return found


def accuracy_area(clean, curves):
    """Trapezoid of the accuracies at 0, 0.1 ... 0.9, 1: that of the untouched pictures, the mean curve, and 0."""
    means = [sum(clean) / len(clean), *np.mean(curves, axis=0), 0.0]
    return sum((means[i] + means[i + 1]) / 2 * 0.1 for i in range(10))


def perturbation(net, pictures, maps, labels, black):
    """Positive and negative area for a data set. maps: one for each picture, of the class that is explained."""
    clean = [float(logits(net, x).argmax() == label) for x, label in zip(pictures, labels, strict=True)]
    found = {}
    for name, least_first in (("positive", False), ("negative", True)):
        each = zip(pictures, maps, labels, strict=True)
        found[name] = accuracy_area(clean, [hits(net, x, R, label, black, least_first) for x, R, label in each])
    return found


# ------------------------------------------------------------------------------------------ arXiv:2402.04563


def grey_curve(net, x, R, c, least_first):
    """p_c with int(P s) pixels at 0 after normalisation, s = 0, 0.1 ... 1."""
    places, grey = order(R, least_first), np.zeros(x.shape)
    return [probability(net, pasted(x, grey, places[: int(R.size * (tenth / 10))]), c) for tenth in range(11)]


def abpc(net, pictures, maps, labels):
    """Mean over pictures of: mean of the curve with the least relevant first, minus that with the most relevant."""
    found = []
    for x, R, label in zip(pictures, maps, labels, strict=True):
        least, most = grey_curve(net, x, R, label, True), grey_curve(net, x, R, label, False)
        found.append(sum(least) / 11 - sum(most) / 11)
    return sum(found) / len(found)


# ------------------------------------------------------------------------------------------ arXiv:1806.07421


def rise_kernel(size=11, sigma=5.0):
    """A point of light blurred by SciPy, whose borders reflect: RISE's kernel, flatter than the Gaussian."""
    from scipy.ndimage import gaussian_filter

    point = np.zeros((size, size))
    point[size // 2, size // 2] = 1
    return gaussian_filter(point, sigma)


def blurred(x, K):
    """Each channel correlated with the kernel K, 0 outside the picture."""
    r, (_, H, W) = len(K) // 2, x.shape
    out = np.zeros(x.shape)
    for channel, i, j in np.ndindex(x.shape):
        for a in range(max(i - r, 0), min(i + r + 1, H)):
            for b in range(max(j - r, 0), min(j + r + 1, W)):
                out[channel, i, j] += K[a - i + r, b - j + r] * x[channel, a, b]
    return out


def causal_curve(net, start, finish, places, counts, c):
    """p_c with the first pixels of `finish` in `start`, for each count of them."""
    return [probability(net, pasted(start, finish, places[:count]), c) for count in counts]


def area(curve):
    """Trapezoid over [0, 1]."""
    return (sum(curve) - curve[0] / 2 - curve[-1] / 2) / (len(curve) - 1)


def deletion(net, x, R, c, steps):
    """Area while P / steps pixels more become 0 after normalisation, the most relevant first; whole parts are taken."""
    gone = [R.size * k // steps for k in range(steps + 1)]
    return area(causal_curve(net, x, np.zeros(x.shape), order(R), gone, c))


def insertion(net, x, R, c, steps, K):
    """Area while they return to the picture blurred by K, or to 0 without K; counts still missing are rounded down."""
    back = [R.size - R.size * k // steps for k in range(steps, -1, -1)]
    start = np.zeros(x.shape) if K is None else blurred(x, K)
    return area(causal_curve(net, start, x, order(R), back, c))
