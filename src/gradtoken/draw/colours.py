"""From raw relevance to colours: one linear scale, declared by its two ends."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradtoken.errors import UnknownName

POSITIVE = "inferno"  # perceptually uniform; of viridis, magma, inferno it stands out most over a grey photograph
SIGNED = "RdBu_r"  # red speaks for the class, blue against it, white is zero; safe for red-green blindness
NOISE = 1e-6  # values below this share of the largest are rounding, not a sign or a difference


@dataclass(frozen=True)
class Scale:
    """The raw values at the two ends of a colour map, linear in between."""

    low: float
    high: float
    name: str
    beyond: tuple[bool, bool] = (False, False)  # whether values lie below low, above high

    @classmethod
    def of(
        cls,
        maps: Sequence[NDArray[Any]],
        name: str | None = None,
        limits: tuple[float, float] | None = None,
        clip: float = 0.0,
        signed: bool = False,
    ) -> "Scale":
        """One scale for all these maps.

        Maps on one side of zero run from their smallest to their largest value, signed ones from -m to m with m the
        largest magnitude. A constant map runs from 0 to its value: one colour, and no rounding made visible.
        limits: raw ends instead of these. clip: share of the values beyond each end. signed: also where no value is
        negative.
        """
        values = np.concatenate([np.asarray(m, np.float64).ravel() for m in maps])
        signed = signed or is_signed(values)
        low, high = limits or np.quantile(values, (clip, 1 - clip)).tolist()
        if low == high and not limits:  # all but few values are alike
            low, high = values.min(), values.max()
        if signed:
            high = max(abs(low), abs(high)) or float(np.abs(values).max()) or 1.0
            low = -high
        elif high - low <= NOISE * max(abs(low), abs(high)):
            low, high = 0.0, high if high > 0 else 1.0
        beyond = (bool(values.min() < low - NOISE * (high - low)), bool(values.max() > high))
        return cls(float(low), float(high), name or (SIGNED if signed else POSITIVE), beyond)

    @property
    def signed(self) -> bool:
        """Zero is in the centre."""
        return self.low == -self.high

    def position(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Raw values -> 0..1 along the colours; what lies beyond takes the end colour."""
        share = np.subtract(values, self.low, dtype=np.float32)
        share /= np.float32(self.high - self.low)
        within: NDArray[np.float32] = np.clip(share, 0, 1, out=share)
        return within

    def table(self) -> NDArray[np.uint8]:
        """The colours themselves, (256, 3)."""
        return colour_table(self.name)

    def paint(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Raw values (...) -> colours (..., 3)."""
        return self.table()[steps(self.position(values))]


def steps(position: NDArray[np.float32]) -> NDArray[np.uint8]:
    """0..1 -> row of the colour table, 256 equal steps."""
    rows: NDArray[np.uint8] = np.minimum(position * np.float32(256), np.float32(255)).astype(np.uint8)
    return rows


def colour_table(name: str) -> NDArray[np.uint8]:
    """The 256 colours of a matplotlib colour map, (256, 3)."""
    import matplotlib

    if name not in matplotlib.colormaps:
        raise UnknownName.among("colour map", name, matplotlib.colormaps)
    rgba: NDArray[np.uint8] = matplotlib.colormaps[name](np.linspace(0, 1, 256), bytes=True)
    return rgba[:, :3]


def is_signed(values: NDArray[Any]) -> bool:
    """Whether there are values on both sides of zero, beyond rounding; on one side alone zero is no centre."""
    noise = NOISE * np.abs(values).max()
    return bool(values.min() < -noise and values.max() > noise)
