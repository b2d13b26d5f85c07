"""The protocols with a truth written out naively: one picture, class and threshold at a time, in float64.

Sources: foreground segmentation of Chefer et al. (arXiv:2012.09838) with scikit-learn's average precision; several
classes as PASCAL VOC counts them (doi:10.1007/s11263-009-0275-4); localisation of AGCAM (arXiv:2402.04563); pointing
game arXiv:1608.00507; energy arXiv:1910.01279; sanity checks arXiv:1810.03292, arXiv:1901.09392, arXiv:2004.02866.

A sample is (picture, truth, labels): an RGB picture; labels (H, W) or boxes as fractions; classes.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from sklearn.metrics import average_precision_score, f1_score

import gradtoken

from . import metrics as m

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
NAN = float("nan")


def read(picture, size):
    """The whole picture, squashed bilinearly, normalised. (1, 3, H, W)"""
    values = np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BILINEAR), dtype=np.float64) / 255
    return torch.from_numpy(((values - MEAN) / STD).transpose(2, 0, 1))[None]


def laid(truth, size):
    """Labels at the model's size, each from the pixel that the new pixel's centre lies in."""
    H, W = truth.shape
    out = np.empty(size, dtype=int)
    for i, j in np.ndindex(*size):
        out[i, j] = truth[int((i + 0.5) * H / size[0]), int((j + 0.5) * W / size[1])]
    return out


def logits(net, x):
    with torch.no_grad():
        return net(x)[0].numpy()


def map_of(net, x, cls, method, enlarged=True):
    """One map, at the picture's size. (H, W)"""
    R = gradtoken.attribute(net, x, int(cls), method, allow_blank=True)[0].detach().numpy()
    return m.bilinear(R, x.shape[-2:]) if enlarged else R


# ------------------------------------------------------------------------------------------ segmentation


def counted(pairs, classes):
    """pairs: (guess, truth) of several pictures. -> pixel accuracy, mIoU over the classes that occur in any"""
    right = labelled = 0
    both, either = np.zeros(classes), np.zeros(classes)
    for guess, truth in pairs:
        a, b = m.correct_and_labelled(guess, truth)
        right, labelled = right + a, labelled + b
        i, u = m.intersections_and_unions(guess, truth, classes)
        both, either = both + i, either + u
    return right / labelled, np.mean([i / u for i, u in zip(both, either, strict=True) if u > 0])


def f1(guess, truth):
    kept = truth != m.VOID
    return f1_score(truth[kept], guess[kept], zero_division=0)


def joint_precision(R, truth):
    """Scores [1 - R, R] against [background, foreground], both 0 for a constant map."""
    kept = truth.ravel() != m.VOID
    R, labels = R.ravel()[kept], truth.ravel()[kept]
    scores = np.concatenate([np.nan_to_num(1 - R), np.nan_to_num(R)])
    return average_precision_score(np.concatenate([labels == 0, labels == 1]), scores)


def segmentation(maps, truths, rule="mean", levels=()):
    """Numbers of enlarged maps and their masks (1, 0, VOID)."""
    maps = [m.minmax(R) for R in maps]
    cut = {"mean": np.mean, "otsu": m.otsu, "0.2 max": lambda R: 0.2 * R.max()}[rule]
    found = {}

    def add(title, guesses):
        accuracy, miou = counted(list(zip(guesses, truths, strict=True)), 2)
        found[f"mIoU, {title} threshold"], found[f"pixel accuracy, {title} threshold"] = miou, accuracy
        found[f"mF1, {title} threshold"] = np.mean([f1(g, t) for g, t in zip(guesses, truths, strict=True)])
        return miou

    add(rule, [m.foreground(R, cut(R)) for R in maps])
    found["mAP"] = np.mean([joint_precision(R, t) for R, t in zip(maps, truths, strict=True)])
    if levels:
        scores = [add("best", [m.foreground(R, level) for R in maps]) for level in levels]
        found["best threshold"] = levels[int(np.argmax(scores))]
        add("best", [m.foreground(R, found["best threshold"]) for R in maps])
    return found


# ------------------------------------------------------------------------------------------ localisation


def agcam(R, boxes):
    """Boxes around what is above half of the range, one pixel larger, against the true ones."""
    guess = m.component_boxes(m.foreground(m.minmax(R), 0.5), extra=1)
    found = m.overlap(guess, m.boxes_mask(boxes, R.shape, agcam=True))
    names = {"iou": "IoU", "accuracy": "pixel accuracy", "dice": "Dice"}
    return {names.get(name, name): value for name, value in found.items()}


def pointing(R, truth, tolerances=(15, 0)):
    """Hits of the highest labelled pixels; truth 1, 0 or VOID."""
    R = np.where(truth == m.VOID, R.min() - 1, R)
    found, inside = {}, np.argwhere(truth == 1)
    for n in tolerances:
        title = f" within {n} px" if n else ""
        distances = [np.hypot(*(inside - i).T).min() for i in np.ndindex(R.shape) if truth[i] != m.VOID]
        found[f"hits{title}"] = m.pointing_game(R, truth == 1, n)
        found[f"chance{title}"] = sum(d <= n for d in distances) / len(distances)
    return found


def energy(R, truth):
    """Positive relevance on the object / on all labelled pixels."""
    R = np.where(truth == m.VOID, 0.0, R)
    return {
        "energy inside": m.energy_inside(R, truth == 1),
        "no positive relevance": float(not (R > 0).any()),
        "area of the truth": area(truth),
    }


def area(truth):
    """What the truth covers of the labelled pixels."""
    return sum(value == 1 for value in truth.ravel()) / sum(value != m.VOID for value in truth.ravel())


def averaged(found):
    """Means over pictures."""
    return {name: np.mean([one[name] for one in found]) for name in found[0]}


# ------------------------------------------------------------------------------------------ several classes


def labels_of(maps, classes, level):
    """The class whose map is highest, background (0) where none is above the level; constant maps are 0."""
    scaled = [np.nan_to_num(m.minmax(R)) for R in maps]
    out = np.zeros(maps[0].shape, dtype=int)
    for place in np.ndindex(out.shape):
        best = max(range(len(maps)), key=lambda k: scaled[k][place])  # the first of equals
        out[place] = classes[best] + 1 if scaled[best][place] > level else 0
    return out


def multiclass(maps, classes, truths, count, levels):
    """maps: of each picture, one for each of its classes. count: of all classes, without background."""
    found = []
    for level in levels:
        guesses = [labels_of(R, c, level) for R, c in zip(maps, classes, strict=True)]
        accuracy, miou = counted(list(zip(guesses, truths, strict=True)), count + 1)
        found.append(
            {"mIoU, best threshold": miou, "pixel accuracy, best threshold": accuracy, "best threshold": level}
        )
    return max(found, key=lambda one: one["mIoU, best threshold"])


# ------------------------------------------------------------------------------------------ sanity


def alike(a, b, similarity=m.spearman):
    """0 where one map is the same everywhere and the other is not; NaN where both are."""
    constant = [R.min() == R.max() for R in (a, b)]
    return NAN if all(constant) else 0.0 if any(constant) else similarity(a, b)


def class_sensitivity(net, x, method, cls=None):
    """Maps of a class, the predicted one by default, and of the strongest other one."""
    order = list(np.argsort(-logits(net, x), kind="stable"))
    cls = order[0] if cls is None else cls
    other = next(c for c in order if c != cls)
    a, b = (map_of(net, x, c, method, enlarged=False) for c in (cls, other))
    return {"1 - spearman": 1 - alike(a, b), "1 - pearson": 1 - alike(a, b, m.pearson)}


def randomisation(net, others, x, method):
    """Maps of the network's predicted class, by the network and by random ones, the last of them random throughout."""
    cls = logits(net, x).argmax()
    R, *near = (map_of(one, x, cls, method, enlarged=False) for one in (net, *others))
    signed = [alike(R, N) for N in near]
    return {
        "similarity": signed[-1],
        "absolute similarity": alike(np.abs(R), np.abs(near[-1])),
        "mean similarity": sum(signed) / len(signed),
    }


def max_sensitivity(net, x, noise, method):
    """noise: (draws, C, H, W)"""
    cls = logits(net, x).argmax()
    R, *near = (map_of(net, one, cls, method, enlarged=False) for one in (x, *(x + z for z in noise)))
    return {"max-sensitivity": m.max_sensitivity(R, near)}
