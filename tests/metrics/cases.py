"""Maps and masks that metrics must bear: random, constant, NaN, one pixel, all or nothing, void; not square."""

import numpy as np
import pytest
import torch
from torch import Tensor

from gradtoken.metrics.segmentation import VOID

BATCHES = [1, 7]


def random_maps(batch: int, size: tuple[int, int] = (5, 8), levels: int = 8) -> Tensor:
    """Signed, with ties. (batch, H, W), float64"""
    return torch.randint(-levels, levels + 1, (batch, *size)).double() / levels


def random_masks(batch: int, size: tuple[int, int] = (5, 8), void: bool = True) -> Tensor:
    """0, 1 and VOID. (batch, H, W), int64"""
    return torch.randint(VOID if void else 0, 2, (batch, *size))


def extreme_maps() -> dict[str, Tensor]:
    """Name -> (1, 3, 5)."""
    R = random_maps(1, (3, 5))
    return {
        "random": R,
        "constant": torch.full_like(R, 0.3),
        "zero": torch.zeros_like(R),
        "negative": -R.abs() - 0.1,
        "nan": torch.full_like(R, torch.nan),
    }


def extreme_masks() -> dict[str, Tensor]:
    """Name -> (1, 3, 5)."""
    mask = random_masks(1, (3, 5))
    return {
        "mixed": mask,
        "background": torch.zeros_like(mask),
        "foreground": torch.ones_like(mask),
        "void": torch.full_like(mask, VOID),
        "void and foreground": torch.where(mask == 0, VOID, 1),
    }


def same(found: Tensor, expected: object) -> None:
    """Equal to the naive values, NaN at the same places."""
    wanted = torch.as_tensor(np.array(expected, dtype=float))
    torch.testing.assert_close(found.double(), wanted, rtol=1e-6, atol=1e-7, equal_nan=True)


maps = pytest.mark.parametrize("name", list(extreme_maps()))
masks = pytest.mark.parametrize("mask", list(extreme_masks()))
batches = pytest.mark.parametrize("batch", BATCHES)
