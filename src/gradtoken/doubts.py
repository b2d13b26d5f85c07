"""What speaks against reading a map as the reason of one class, found beside the map at little cost.

Every limit is the result of a measurement: docs/limits.md.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradtoken.draw.words import AGNOSTIC, first_name, percent
from gradtoken.metrics.sanity import pearson
from gradtoken.probe import Probe

ALIKE = 0.98  # Pearson correlation of the maps of two classes
ONE = 0.25  # share of all magnitude that one patch holds
MANY = 32  # patches from which on such a share is out of proportion
ROUNDED = 0.9  # Pearson correlation of the maps of two roundings of one picture
FEW = 8  # values below which a correlation says little
HALF = (torch.float16, torch.bfloat16)

Targets = Sequence[tuple[int | None, str]]  # class index, None for another score, and name


def of_maps(R: Tensor, targets: Targets, class_aware: bool, patches: bool = True) -> list[tuple[str, ...]]:
    """For each target's map (K, ...) what is to be said of it. patches: whether it is of a picture."""
    if not class_aware:
        return [(AGNOSTIC, *(dominated(one) if patches else ())) for one in R]
    return [(*alike(R, k, targets), *against(one), *(dominated(one) if patches else ())) for k, one in enumerate(R)]


def of_words(rows: Sequence[Mapping[str, Any]], targets: Targets, class_aware: bool) -> list[tuple[str, ...]]:
    """The same of words, of which one may well be the reason. rows: relevance (words,) of each target."""
    return of_maps(torch.from_numpy(np.stack([row["relevance"] for row in rows])), targets, class_aware, patches=False)


def alike(R: Tensor, k: int, targets: Targets) -> tuple[str, ...]:
    """The class asked in the same pass whose map is most like this one, if it is very much so."""
    own = targets[k][0]
    others = [j for j, (index, _) in enumerate(targets) if index is not None and index != own]
    if own is None or not others or R[0].numel() < FEW:
        return ()
    found = pearson(R[k].expand(len(others), *R.shape[1:]), R[others]).nan_to_num(-1)
    most = int(found.argmax())
    if found[most] < ALIKE:
        return ()
    return (f"nearly the same for {first_name(targets[others[most]][1])} (r = {float(found[most]):.3f})",)


def against(one: Tensor) -> tuple[str, ...]:
    """Whether nothing speaks for the score, which colours from the smallest to the largest value hide. (...)"""
    return ("every value is negative: nothing speaks for it",) if one.numel() >= FEW and one.max() < 0 else ()


def dominated(one: Tensor) -> tuple[str, ...]:
    """Whether one value of many holds a large part of all magnitude. (...)"""
    a = one.abs().cpu().double()
    share = float(a.max() / a.sum()) if a.any() and a.numel() >= MANY else 0.0
    return (f"one patch holds {percent(share)} of it",) if share > ONE else ()


def rounding(probe: Probe, run: Callable[[Probe], Tensor], R: Tensor) -> list[tuple[str, ...]]:
    """For each target of a picture's map (1, K, ...), whether another rounding of the picture changes it.

    Nothing is run where the network computes in single precision or better: there it would change little.
    """
    x = probe.picture
    if x is None or x.dtype not in HALF:
        return [()] * R.shape[1]
    other = run(Probe(probe.net, probe.pictured(rounded_otherwise(x)), probe.target, probe.memory))
    found = pearson(R[0].float(), other[0].float()).nan_to_num(1)
    kind = str(x.dtype).removeprefix("torch.")
    told = f"rounding alone changes it in {kind}: correlation"
    return [(f"{told} {value:.2f}",) if value < ROUNDED else () for value in found.tolist()]


def rounded_otherwise(x: Tensor) -> Tensor:
    """Each number moved by up to one unit in its last place, at random, always in the same way."""
    u = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)).to(x.device)
    return (x.float() * (1 + (2 * u - 1) * torch.finfo(x.dtype).eps)).to(x.dtype)
