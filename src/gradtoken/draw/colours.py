"""From relevance to colour: linear between the two ends that the colour bar shows."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradtoken.errors import UnknownName

POSITIVE, SIGNED = "inferno", "RdBu_r"  # perceptually uniform; diverging with zero in the middle
ROUNDING = 1e-6  # differences below this share of the largest value are no differences


@dataclass(frozen=True)
class Scale:
    """Relevance `low` has the first colour of the map `name`, `high` the last."""

    low: float
    high: float
    name: str

    @classmethod
    def of(cls, maps: Iterable[np.ndarray[Any, Any]], name: str | None = None) -> "Scale":
        """One scale for some maps: from smallest to largest, or symmetric about 0 where values are negative.

        A constant map starts at 0, so that rounding does not look like a pattern.
        """
        values = [np.asarray(m) for m in maps]
        low, high = min(float(v.min()) for v in values), max(float(v.max()) for v in values)
        if low < 0:
            high = max(-low, high)
            return cls(-high, high, checked(name or SIGNED))
        if high - low <= ROUNDING * high:
            low, high = 0.0, high or 1.0
        return cls(low, high, checked(name or POSITIVE))

    def paint(self, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """RGB colours, 0 to 255. (H, W) -> (H, W, 3) float32"""
        import matplotlib

        share = (values - self.low) / (self.high - self.low)
        table = (matplotlib.colormaps[self.name](np.arange(256) / 255)[:, :3] * 255).astype(np.float32)
        colours: np.ndarray[Any, Any] = table[(share * 255).round().clip(0, 255).astype(np.uint8)]
        return colours


def checked(name: str) -> str:
    """The name of a colour map that matplotlib has."""
    import matplotlib

    if name not in matplotlib.colormaps:
        raise UnknownName.among("colour map", name, matplotlib.colormaps)
    return name
