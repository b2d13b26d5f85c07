"""The metrics written out naively: float64 numpy, one picture or text at a time, loops over pixels and words.

Sources: segmentation protocol of Chefer et al. (arXiv:2012.09838); localisation of AGCAM (arXiv:2402.04563); ERASER
(arXiv:1911.03429); Grad-CAM++ (arXiv:1710.11063); others are named where they are used.

Letters: R a map (H, W), g its mask (H, W), W words, k how many are taken, p probability, S points of a curve.
"""

from __future__ import annotations

import math

import numpy as np

VOID = -1
NAN = float("nan")

# ------------------------------------------------------------------------------------------ maps and thresholds


def minmax(R):
    """(R - min) / (max - min), NaN everywhere where max = min."""
    low, high = min(R.ravel()), max(R.ravel())
    out = np.empty(R.shape)
    for place in np.ndindex(R.shape):
        out[place] = (R[place] - low) / (high - low) if high > low else NAN
    return out


def bilinear(R, size):
    """Value at the centre of each new pixel, from the four nearest old centres, edges repeated."""
    H, W = size
    h, w = R.shape
    out = np.empty(size)
    for i in range(H):
        for j in range(W):
            y, x = max((i + 0.5) * h / H - 0.5, 0), max((j + 0.5) * w / W - 0.5, 0)
            a, b = int(y), int(x)
            c, d = min(a + 1, h - 1), min(b + 1, w - 1)
            above = R[a, b] * (1 - (x - b)) + R[a, d] * (x - b)
            below = R[c, b] * (1 - (x - b)) + R[c, d] * (x - b)
            out[i, j] = above * (1 - (y - a)) + below * (y - a)
    return out


def otsu(R, bins=256):
    """Centre of the bin after which cutting gives the largest w0 w1 (m0 - m1)^2; the first of equals."""
    low, high = min(R.ravel()), max(R.ravel())
    if not high > low:
        return low
    width = (high - low) / bins
    counts = [0] * bins
    for value in R.ravel():
        counts[min(int((value - low) / width), bins - 1)] += 1
    centres = [low + (b + 0.5) * width for b in range(bins)]
    best, threshold = -1.0, NAN
    for cut in range(1, bins):
        w0, w1 = sum(counts[:cut]), sum(counts[cut:])
        m0 = sum(c * x for c, x in zip(counts[:cut], centres[:cut], strict=True)) / w0
        m1 = sum(c * x for c, x in zip(counts[cut:], centres[cut:], strict=True)) / w1
        if w0 * w1 * (m0 - m1) ** 2 > best:
            best, threshold = w0 * w1 * (m0 - m1) ** 2, centres[cut - 1]
    return threshold


def foreground(R, t):
    """1 where R > t; a NaN is greater than nothing."""
    return np.array([[1 if value > t else 0 for value in row] for row in R])


# ------------------------------------------------------------------------------------------ segmentation


def labelled_pixels(guess, truth, void=VOID):
    """(guess, truth) of the pixels that have a label."""
    return [(int(a), int(b)) for a, b in zip(guess.ravel(), truth.ravel(), strict=True) if b != void]


def correct_and_labelled(guess, truth):
    """How many labelled pixels are right, and how many there are."""
    pairs = labelled_pixels(guess, truth)
    return sum(a == b for a, b in pairs), len(pairs)


def intersections_and_unions(guess, truth, classes):
    """For each class: labelled pixels that both, and that either, give to it."""
    pairs = labelled_pixels(guess, truth)
    both = [sum(a == c and b == c for a, b in pairs) for c in range(classes)]
    either = [sum(a == c or b == c for a, b in pairs) for c in range(classes)]
    return both, either


def ratio(a, b):
    """Ratio a / b, NaN where b = 0."""
    return a / b if b else NAN


def foreground_f1(guess, truth):
    """Harmonic mean of precision and recall of class 1; 0 where no pixel is guessed or true."""
    pairs = labelled_pixels(guess, truth)
    true_positive = sum(a == 1 and b == 1 for a, b in pairs)
    guessed, true = sum(a == 1 for a, _ in pairs), sum(b == 1 for _, b in pairs)
    if true_positive == 0:
        return 0.0
    P, Q = true_positive / guessed, true_positive / true
    return 2 * P * Q / (P + Q)


def precision_recall(scores, labels):
    """(recall, precision) after each group of equal scores, the highest first."""
    points = []
    for threshold in sorted(set(scores), reverse=True):
        taken = [label for score, label in zip(scores, labels, strict=True) if score >= threshold]
        points.append((sum(taken) / sum(labels), sum(taken) / len(taken)))
    return points


def average_precision(scores, labels):
    """sum_n (Q_n - Q_n-1) P_n over the thresholds, not interpolated."""
    if not any(labels):
        return NAN
    total, before = 0.0, 0.0
    for Q, P in precision_recall(scores, labels):
        total, before = total + (Q - before) * P, Q
    return total


def average_precision_joint(R, truth, void=VOID):
    """One average precision of [1 - R, R] against [background, foreground]; both channels 0 where R is NaN."""
    scores, labels = [], []
    for channel in (0, 1):
        for value, label in zip(R.ravel(), truth.ravel(), strict=True):
            if label != void:
                scores.append(0.0 if math.isnan(value) else (value if channel else 1 - value))
                labels.append(int(label == channel))
    return average_precision(scores, labels)


def average_precision_foreground(R, truth, void=VOID):
    """Average precision of R as a score of the foreground."""
    pairs = [
        (0.0 if math.isnan(r) else r, int(g == 1)) for r, g in zip(R.ravel(), truth.ravel(), strict=True) if g != void
    ]
    return average_precision([r for r, _ in pairs], [g for _, g in pairs])


# ------------------------------------------------------------------------------------------ localisation


def boxes_mask(boxes, size, agcam=False):
    """Pixels in any box (x0, y0, x1, y1 as fractions): centres in [x0, x1), or AGCAM's int(x0 W) .. int(x1 W)."""
    H, W = size
    out = np.zeros(size, dtype=bool)
    for i in range(H):
        for j in range(W):
            for x0, y0, x1, y1 in boxes:
                if agcam:
                    inside = int(x0 * W) <= j <= int(x1 * W) and int(y0 * H) <= i <= int(y1 * H)
                else:
                    inside = x0 <= (j + 0.5) / W < x1 and y0 <= (i + 0.5) / H < y1
                out[i, j] |= inside
    return out


def component_boxes(mask, extra=0):
    """Union of the boxes around 8-connected groups, found by flooding; `extra` more pixels to the right and below."""
    H, W = mask.shape
    out, seen = np.zeros((H, W), dtype=bool), set()
    for start in np.ndindex(H, W):
        if not mask[start] or start in seen:
            continue
        group, queue = [], [start]
        seen.add(start)
        while queue:
            i, j = queue.pop()
            group.append((i, j))
            for a in range(max(i - 1, 0), min(i + 2, H)):
                for b in range(max(j - 1, 0), min(j + 2, W)):
                    if mask[a, b] and (a, b) not in seen:
                        seen.add((a, b))
                        queue.append((a, b))
        rows, columns = [i for i, _ in group], [j for _, j in group]
        for i in range(min(rows), min(max(rows) + extra, H - 1) + 1):
            for j in range(min(columns), min(max(columns) + extra, W - 1) + 1):
                out[i, j] = True
    return out


def overlap(guess, truth, eps=1e-5):
    """AGCAM's five numbers of two masks: accuracy, IoU, Dice, precision, recall."""
    tp = fp = fn = tn = 0
    for a, b in zip(guess.ravel(), truth.ravel(), strict=True):
        tp, fp, fn, tn = tp + (a and b), fp + (a and not b), fn + (b and not a), tn + (not a and not b)
    return {
        "accuracy": (tp + tn + eps) / (tp + tn + fp + fn + eps),
        "iou": (tp + eps) / (tp + fp + fn + eps),
        "dice": (2 * tp + eps) / (2 * tp + fp + fn + eps),
        "precision": (tp + eps) / (tp + fp + eps),
        "recall": (tp + eps) / (tp + fn + eps),
    }


def pointing_game(R, mask, tolerance=0):
    """Share of the highest pixels that are at most `tolerance` pixels away from the object."""
    if np.isnan(R).any():
        return NAN
    highest = [place for place in np.ndindex(R.shape) if R[place] == R.max()]
    inside = [place for place in np.ndindex(R.shape) if mask[place]]
    hits = [any((i - a) ** 2 + (j - b) ** 2 <= tolerance**2 for a, b in inside) for i, j in highest]
    return sum(hits) / len(hits)


def energy_inside(R, mask):
    """Positive relevance inside / positive relevance; 0 without any, NaN for a NaN map."""
    if np.isnan(R).any():
        return NAN
    inside = total = 0.0
    for place in np.ndindex(R.shape):
        total += max(R[place], 0)
        inside += max(R[place], 0) if mask[place] else 0
    return inside / total if total > 0 else 0.0


def box_iou(a, b):
    """Area of the common part / area of either, of two boxes x0, y0, x1, y1; NaN for two boxes without area."""
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return ratio(width * height, sum(areas) - width * height)


def cell_share(R, cells):
    """R (K, H, W): of map k, the share of positive relevance in cell k."""
    return [energy_inside(R[k], boxes_mask([cells[k]], R[k].shape)) for k in range(len(cells))]


def cell_hit(R, cells):
    """1 / (number of cells with the largest share, to 1e-5) where cell k is among them; 0 without positive ones."""
    hits = []
    for k in range(len(cells)):
        shares = [energy_inside(R[k], boxes_mask([cell], R[k].shape)) for cell in cells]
        if any(math.isnan(share) for share in shares):
            hits.append(NAN)
        else:
            first = [share >= max(shares) * (1 - 1e-5) > 0 for share in shares]
            hits.append(1 / sum(first) if first[k] else 0.0)
    return hits


# ------------------------------------------------------------------------------------------ curves


def trapezoid(y, x):
    """Sum of (x_i+1 - x_i) (y_i + y_i+1) / 2."""
    return sum((x[i + 1] - x[i]) * (y[i] + y[i + 1]) / 2 for i in range(len(y) - 1))


def area_with_ends(y, clean):
    """Trapezoid of clean, y..., 0 at 0, 1 / (S + 1), ..., 1."""
    points = [clean, *y, 0.0]
    return trapezoid(points, [i / (len(points) - 1) for i in range(len(points))])


def normalised_area(y):
    """Trapezoid over [0, 1]."""
    return trapezoid(y, [i / (len(y) - 1) for i in range(len(y))])


def abpc(least, most):
    """Mean of the points with the least relevant first, minus that with the most relevant first."""
    return sum(least) / len(least) - sum(most) / len(most)


# ------------------------------------------------------------------------------------------ confidence


def average_drop(before, after):
    """max(0, before - after) / before (arXiv:1710.11063, before averaging)."""
    return ratio(max(0.0, before - after), before)


def drop_in_deletion(before, after):
    """(before - after) / before (arXiv:2102.05228): a rise is negative."""
    return ratio(before - after, before)


def aopc(before, after, with_start):
    """Mean of before - after_s; Samek's (arXiv:1509.06321) counts the untouched input too, whose difference is 0."""
    return sum(before - p for p in after) / (len(after) + (1 if with_start else 0))


def log_odds(before, after):
    """Mean over the steps of log(after / before)."""
    return sum(math.log(p / before) for p in after) / len(after)


# ------------------------------------------------------------------------------------------ words


def word_scores(pieces, spans, words):
    """Each piece's score, clamped at 0, on its characters; a word has the highest of its own, or NaN."""
    text = " ".join(words)
    characters = [NAN] * len(text)
    for score, (start, end) in zip(pieces, spans, strict=True):
        for c in range(start, min(end, len(text))):
            characters[c] = max(score, 0.0) if math.isnan(characters[c]) else max(score, 0.0, characters[c])
    out, start = [], 0
    for word in words:
        own = [c for c in characters[start : start + len(word)] if not math.isnan(c)]
        out.append(max(own) if own else NAN)
        start += len(word) + 1
    return out


def token_f1(scores, marked, k):
    """F1 of the set of the k highest words (earlier first among equals) and the set of marked words; 0 if they miss."""
    read = [w for w in range(len(scores)) if not math.isnan(scores[w])]
    chosen = set(sorted(read, key=lambda w: (-scores[w], w))[:k])
    true = {w for w in range(len(marked)) if marked[w]}
    if not chosen & true:
        return 0.0
    P, Q = len(chosen & true) / len(chosen), len(chosen & true) / len(true)
    return 2 * P * Q / (P + Q)


def auprc(scores, marked):
    """Trapezoid under precision over recall, from (0, 1); unread words come last together."""
    if not any(marked):
        return NAN
    known = [s for s in scores if not math.isnan(s)]
    lowest = min(known) - 1 if known else 0.0
    points = precision_recall([lowest if math.isnan(s) else s for s in scores], [int(m) for m in marked])
    until = next(i for i, (Q, _) in enumerate(points) if Q == 1)
    points = [(0.0, 1.0), *points[: until + 1]]
    return trapezoid([P for _, P in points], [Q for Q, _ in points])


# ------------------------------------------------------------------------------------------ sanity


def cosine(a, b):
    """Scalar product a . b / (|a| |b|)."""
    a, b = a.ravel(), b.ravel()
    return ratio(sum(a * b), math.sqrt(sum(a * a)) * math.sqrt(sum(b * b)))


def pearson(a, b):
    """Cosine of the deviations from the mean."""
    a, b = a.ravel(), b.ravel()
    return cosine(a - sum(a) / len(a), b - sum(b) / len(b))


def ranks(a):
    """1 for the lowest; equals share the mean of their ranks."""
    a = a.ravel()
    return np.array([sum(y < x for y in a) + (sum(y == x for y in a) + 1) / 2 for x in a])


def spearman(a, b):
    """Pearson of the ranks."""
    return pearson(ranks(a), ranks(b))


def max_sensitivity(R, near):
    """max_n |R_n - R| / |R| (arXiv:1901.09392, over the maps given; relative)."""
    norm = math.sqrt(sum(R.ravel() ** 2))
    return max(ratio(math.sqrt(sum((N - R).ravel() ** 2)), norm) for N in near)


def class_map_distance(R):
    """R (K, H, W): mean over pairs of classes of half the L1 distance of positive parts that sum to 1."""
    parts = []
    for one in R:
        positive = np.maximum(one, 0)
        parts.append(positive / positive.sum() if positive.sum() else positive * NAN)
    pairs = [(a, b) for a in range(len(R)) for b in range(a)]
    return sum(np.abs(parts[a] - parts[b]).sum() / 2 for a, b in pairs) / len(pairs)
