"""Where the pixels of a picture fall between the cells of a map."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gradtoken.errors import BadRelevance, GradTokenError

Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels of the picture
Floats = NDArray[np.float32]
PATCHES = 64  # its square is the most cells of a map of patches; one with more is of pixels
INTERPOLATIONS = ("bilinear", "nearest")


@dataclass(frozen=True)
class Axis:
    """Where each of n pixels falls between the cells of a map, along one side."""

    lower: NDArray[np.intp]
    upper: NDArray[np.intp]
    share: Floats  # of the upper cell

    @classmethod
    def of(cls, pixels: NDArray[Any], start: float, stop: float, cells: int, interpolation: str) -> "Axis":
        """Pixel indices -> cells, when the map reaches from start to stop; centres align (align_corners=False)."""
        if interpolation not in INTERPOLATIONS:
            raise GradTokenError(f"expected interpolation {' or '.join(INTERPOLATIONS)}, got {interpolation!r}")
        u = (pixels + 0.5 - start) / (stop - start) * cells
        if interpolation == "nearest":
            nearest = np.clip(np.floor(u), 0, cells - 1).astype(np.intp)
            return cls(nearest, nearest, np.zeros(len(u), np.float32))
        u = np.clip(u - 0.5, 0, cells - 1)
        lower = np.floor(u).astype(np.intp)
        return cls(lower, np.minimum(lower + 1, cells - 1), (u - lower).astype(np.float32))

    def mix(self, values: Floats, axis: int) -> Floats:
        """Cells -> pixels along one axis of (rows, columns)."""
        share = self.share if axis == 1 else self.share[:, None]
        mixed: Floats = values.take(self.lower, axis) * (1 - share)
        mixed += values.take(self.upper, axis) * share
        return mixed


def as_grid(relevance: NDArray[Any]) -> NDArray[Any]:
    """The relevance, when it is a map."""
    if relevance.ndim != 2:
        raise BadRelevance(f"the {relevance.size} tokens form no grid to lay over a picture; draw Explanation.figure")
    return relevance


def is_fine(relevance: NDArray[Any]) -> bool:
    """Whether a map is of pixels rather than of patches."""
    return relevance.ndim == 2 and relevance.size > PATCHES**2


def reduced(relevance: NDArray[Any], most: tuple[float, float], interpolation: str) -> Floats:
    """The map with at most this many (rows, columns): means over areas, where a drawing has fewer pixels than cells.

    Without it a fine map would be drawn from every few of its cells, whichever they are.
    """
    values = np.asarray(relevance, np.float32)
    rows, columns = (min(cells, max(1, round(m))) for cells, m in zip(values.shape, most, strict=True))
    if interpolation == "nearest" or (rows, columns) == values.shape:
        return values
    return np.asarray(Image.fromarray(values).resize((columns, rows), Image.Resampling.BOX))


def enlarge(relevance: NDArray[Any], size: tuple[int, int], interpolation: str = "bilinear") -> Floats:
    """(rows, columns) -> size (height, width), each cell in the middle of its area (torch: align_corners=False)."""
    values = reduced(relevance, size, interpolation)
    across = Axis.of(np.arange(size[1]), 0, size[1], values.shape[1], interpolation)
    down = Axis.of(np.arange(size[0]), 0, size[0], values.shape[0], interpolation)
    return across.mix(down.mix(values, axis=0), axis=1)


def inside(start: float, stop: float, length: int) -> slice:
    """The pixels of 0..length whose centres lie from start to stop."""
    first, last = (min(max(math.ceil(edge - 0.5), 0), length) for edge in (start, stop))
    return slice(first, last)


def borders(start: float, stop: float, cells: int, length: int) -> NDArray[np.intp]:
    """The pixels on the borders between cells, thicker on larger pictures."""
    if (stop - start) / cells < 4:
        raise GradTokenError(
            f"lines between patches need patches of at least 4 pixels, these have {(stop - start) / cells:.2g}; "
            "draw without lines"
        )
    thick = max(1, round(length / 600))
    first = np.rint(np.linspace(start, stop, cells + 1)[1:-1] - thick / 2).astype(np.intp)
    pixels = (first[:, None] + np.arange(thick)).ravel()
    return pixels[(pixels >= 0) & (pixels < length)]
