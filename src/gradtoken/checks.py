"""What an explanation must hold to be shown."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradtoken.errors import BadRelevance


def check_relevance(relevance: NDArray[Any], method: str = "the method") -> None:
    """Refuse a map that cannot be shown: one with values that are not finite, or zero everywhere."""
    values = np.asarray(relevance)
    bad = values.size - int(np.isfinite(values).sum())
    if bad:
        raise BadRelevance(
            f"{method} gave {bad} of {values.size} values that are not finite; run the model in float32, "
            "and look for NaN in its weights or in the picture"
        )
    if not values.any():
        raise BadRelevance(
            f"{method} gave zero everywhere: nothing in this picture speaks for the target; "
            "choose another target, or a method that keeps negative values"
        )


def describe(values: NDArray[Any]) -> str:
    """Shape, and what is wrong with the values."""
    return f"shape {values.shape}" + ("" if np.isfinite(values).all() else " with values that are not finite")


def is_box(box: Sequence[float]) -> bool:
    """Four finite numbers in order."""
    return len(box) == 4 and bool(np.isfinite(box).all()) and box[0] < box[2] and box[1] < box[3]
