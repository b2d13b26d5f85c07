"""Heat on a picture, at the picture's own size: what the model did not see carries no heat and is dimmed."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gradtoken.draw.colours import Scale, steps
from gradtoken.draw.grid import Axis, Box, Floats, borders, enlarge, inside, is_fine, reduced
from gradtoken.draw.style import Style
from gradtoken.errors import GradTokenError

Bytes = NDArray[np.uint8]

DIM = 0.6  # brightness of what the model did not see
HIDDEN = 0.25  # brightness of what a threshold hides
LINE = 0.35  # share of white on the borders of patches
BAND = 256  # rows painted at a time: memory grows with the width of the picture only


def resized(picture: Image.Image, box: Box, longest: int) -> tuple[Image.Image, Box]:
    """The picture with this longest side in pixels, and the box in its new pixels."""
    scale = longest / max(picture.size)
    if scale == 1:
        return picture, box
    width, height = (max(1, round(side * scale)) for side in picture.size)
    x, y = width / picture.width, height / picture.height
    # reducing_gap: whole-number reduction first, which keeps very large pictures quick
    new = picture.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
    return new, (box[0] * x, box[1] * y, box[2] * x, box[3] * y)


def level(relevance: NDArray[Any], style: Style) -> float:
    """The raw relevance from which a masked view keeps the picture."""
    values = np.asarray(relevance, np.float32)
    if style.top is None:
        return float(values.max()) * (style.threshold or 0.0)
    if style.interpolation == "bilinear" and not is_fine(values):
        # the share is of the area shown: between patches the enlarged map stays below a peak
        values = enlarge(values, (values.shape[0] * 16, values.shape[1] * 16))
    hidden = values.size - min(values.size, math.ceil(style.top * values.size))
    return float(np.partition(values.ravel(), hidden)[hidden])


def overlay(
    picture: Image.Image,
    relevance: NDArray[Any],
    box: Box | None = None,
    scale: Scale | None = None,
    **options: Any,
) -> Image.Image:
    """The picture under its relevance (rows, columns), which covers `box` (None: all of it); as large as the picture.

    scale: None for the map's own. options: see `Style`.
    """
    style = Style.of(**options)
    scale = scale or Scale.of([relevance], style.colours, style.limits, style.clipped(relevance))
    picture, box = picture.convert("RGB"), box or (0, 0, *picture.size)
    if style.cap is not None and style.cap < max(picture.size):
        picture, box = resized(picture, box, style.cap)
    return painted(picture, relevance, box, scale, style)


def painted(picture: Image.Image, relevance: NDArray[Any], box: Box, scale: Scale, style: Style) -> Image.Image:
    """As `overlay`, with everything decided; the size of the picture is kept."""
    painter = Painter.of(np.asarray(relevance, np.float32), box, scale, style, picture.size)
    pixels = np.asarray(picture)
    drawn = np.empty_like(pixels)
    for top in range(0, picture.height, BAND):
        drawn[top : top + BAND] = painter.paint(pixels[top : top + BAND], top)
    return Image.fromarray(drawn)


@dataclass(frozen=True)
class Painter:
    """What all bands of rows of one picture share."""

    relevance: Floats
    box: Box
    scale: Scale
    style: Style
    rows: slice  # of the picture, where the map is
    columns: slice
    across: Axis
    level: float
    lines: tuple[NDArray[np.intp], NDArray[np.intp]]  # rows and columns of the picture on borders of patches

    @classmethod
    def of(cls, relevance: Floats, box: Box, scale: Scale, style: Style, size: tuple[int, int]) -> "Painter":
        """size: of the picture, (width, height)."""
        columns, rows = inside(box[0], box[2], size[0]), inside(box[1], box[3], size[1])
        if rows.start >= rows.stop or columns.start >= columns.stop:
            raise GradTokenError(f"the map covers {box}, which is outside the picture of {size[0]} x {size[1]} pixels")
        kept = level(relevance, style) if style.masks else 0.0
        has_lines = style.lines and not is_fine(relevance)
        if not style.masks:  # whose levels are of the map itself
            relevance = reduced(relevance, (box[3] - box[1], box[2] - box[0]), style.interpolation)
        pixels = np.arange(columns.start, columns.stop)
        across = Axis.of(pixels, box[0], box[2], relevance.shape[1], style.interpolation)
        lines = (np.empty(0, np.intp), np.empty(0, np.intp))
        if has_lines:
            lines = (
                borders(box[1], box[3], relevance.shape[0], size[1]),
                borders(box[0], box[2], relevance.shape[1], size[0]),
            )
        return cls(relevance, box, scale, style, rows, columns, across, kept, lines)

    def paint(self, pixels: Bytes, top: int) -> Bytes:
        """Rows of the picture from `top` on, (rows, width, 3), painted."""
        grey = np.asarray(Image.fromarray(pixels).convert("L"))[..., None]
        base = grey if self.style.grey and not self.style.masks else pixels
        drawn = np.empty_like(pixels)
        drawn[...] = faded(HIDDEN if self.style.masks else DIM)[grey]  # what the model did not see
        first, last = max(self.rows.start, top), min(self.rows.stop, top + len(pixels))
        if first < last:
            seen = (slice(first - top, last - top), self.columns)
            drawn[seen] = self.blend(base[seen], self.heat(first, last))
            self.rule(drawn[seen], first, last)
        return drawn

    def heat(self, first: int, last: int) -> Floats:
        """Raw relevance of the rows first..last of the picture, where the map is."""
        pixels = np.arange(first, last)
        down = Axis.of(pixels, self.box[1], self.box[3], self.relevance.shape[0], self.style.interpolation)
        return self.across.mix(down.mix(self.relevance, axis=0), axis=1)

    def blend(self, base: Bytes, heat: Floats) -> Bytes:
        """Picture and heat, or the picture masked by it."""
        if self.style.masks:
            kept: Bytes = np.where((heat >= self.level)[..., None], base, faded(HIDDEN)[base])
            return kept
        # in 1/256 of a grey level: exact to rounding, and several times quicker than floats
        opacity = float(self.style.opacity)  # not of an integer type, in which 256 levels overflow
        under = np.rint(np.arange(256) * (256 * (1 - opacity))).astype(np.uint16)
        over = np.rint(self.scale.table() * (256 * opacity)).astype(np.uint16)
        mixed = over.take(steps(self.scale.position(heat)), axis=0)
        mixed += under[base] + np.uint16(128)
        rounded: Bytes = (mixed >> 8).astype(np.uint8)
        return rounded

    def rule(self, drawn: Bytes, first: int, last: int) -> None:
        """Lighten the borders of the patches, in the array that is being painted."""
        rows, columns = self.lines
        on = np.zeros(drawn.shape[:2], bool)
        on[rows[(rows >= first) & (rows < last)] - first] = True
        on[:, columns[(columns >= self.columns.start) & (columns < self.columns.stop)] - self.columns.start] = True
        drawn[on] = faded(1 - LINE, towards=255)[drawn[on]]


def faded(brightness: float, towards: int = 0) -> Bytes:
    """The 256 grey levels, mixed with black or white."""
    levels: Bytes = np.rint(np.arange(256) * brightness + towards * (1 - brightness)).astype(np.uint8)
    return levels
