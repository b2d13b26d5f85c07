"""What lies along the sides of a spectrogram: seconds and hertz."""

import math
from dataclasses import dataclass

import numpy as np

from gradtoken.errors import GradTokenError

Ticks = list[tuple[float, str]]  # share of the side, from the left or from the top, and what is written there
APART = 0.11  # share of the height between two ticks
MOST = 6  # ticks along the time


@dataclass(frozen=True)
class Axes:
    """seconds: at the left and the right edge. hertz: in the middle of each row, from the top (the highest) down.

    beyond: share of the relevance that is on the model's padding behind the sound, which is not shown.
    """

    seconds: tuple[float, float]
    hertz: tuple[float, ...]
    beyond: float = 0.0

    def __post_init__(self) -> None:
        rising = all(a > b >= 0 for a, b in zip(self.hertz, self.hertz[1:], strict=False))
        if not (math.isfinite(sum(self.seconds)) and self.seconds[0] < self.seconds[1] and self.hertz and rising):
            raise GradTokenError(f"expected seconds that rise and hertz that fall, got {self.seconds} and {self.hertz}")

    def time(self, share: float) -> float:
        """Seconds at a share of the width."""
        return self.seconds[0] + share * (self.seconds[1] - self.seconds[0])

    def pitch(self, share: float) -> float:
        """Hertz at a share of the height, from the top."""
        return float(np.interp(share * len(self.hertz) - 0.5, np.arange(len(self.hertz)), self.hertz))

    def time_ticks(self) -> Ticks:
        """Round seconds."""
        start, stop = self.seconds
        least = (stop - start) / MOST
        power = 10.0 ** math.floor(math.log10(least))
        step = next(power * m for m in (1, 2, 5, 10) if power * m >= least * (1 - 1e-9))
        first, last = math.ceil(start / step - 0.01), math.floor(stop / step)
        times = [n * step for n in range(first, last + 1)]
        return [(max(0.0, (t - start) / (stop - start)), f"{float(f'{t:.6g}'):g} s") for t in times]

    def pitch_ticks(self) -> Ticks:
        """Octaves of 125 Hz, where they have room, from the highest down."""
        rows = len(self.hertz)
        found: Ticks = []
        for octave in range(9, -4, -1):
            hertz = 125 * 2.0**octave
            if not self.hertz[-1] <= hertz <= self.hertz[0]:
                continue
            share = (float(np.interp(-hertz, [-h for h in self.hertz], range(rows))) + 0.5) / rows
            if not found or share - found[-1][0] >= APART:
                found.append((share, f"{hertz / 1000:g} kHz" if hertz >= 1000 else f"{hertz:g} Hz"))
        return found
