"""What an explanation must hold to be shown."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def describe(values: NDArray[Any]) -> str:
    """Shape, and what is wrong with the values."""
    return f"shape {values.shape}" + ("" if np.isfinite(values).all() else " with values that are not finite")


def is_box(box: Sequence[float]) -> bool:
    """Four finite numbers in order."""
    return len(box) == 4 and bool(np.isfinite(box).all()) and box[0] < box[2] and box[1] < box[3]
