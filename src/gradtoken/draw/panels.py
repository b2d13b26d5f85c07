"""What a figure shows of one explanation: its map over the picture, and the bar of its colours."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from gradtoken.draw.colours import Scale, is_signed
from gradtoken.draw.grid import Box
from gradtoken.draw.overlay import level, painted, resized
from gradtoken.draw.style import Style
from gradtoken.draw.words import method, number, share

if TYPE_CHECKING:
    from gradtoken.result import Explanation

GREY = "0.35"
SMALL = 7.5  # font size in points


def scale_of(one: "Explanation", among: "Sequence[Explanation]", style: Style) -> Scale:
    """The scale of one map, or the one it shares with the maps of the same method; these are all signed or none.

    The map of a single head is signed also where all of it has one sign, which heads beside it may not share.
    """
    alike = [e.relevance for e in among if method(e) == method(one)]
    signed = "head" in one.options or any(map(is_signed, alike))
    maps = alike if style.shared_scale else [one.relevance]
    return Scale.of(maps, style.colours, style.limits, style.clipped(one.relevance), signed)


def canvas(one: "Explanation", longest: int, style: Style) -> tuple[Image.Image, Box, Style]:
    """What a map is drawn on: the picture at this size, or opaque on nothing where there is no picture."""
    if one.picture is not None:
        return *resized(one.picture, one.box or (0, 0, *one.picture.size), longest), style
    rows, columns = one.relevance.shape
    blank = Image.new("RGB", (columns, rows), "white")
    return *resized(blank, (0, 0, columns, rows), longest), replace(style, opacity=1.0, top=None, threshold=None)


def drawn(one: "Explanation", scale: Scale, longest: int, style: Style) -> Image.Image:
    """The map over its picture, longest side as given."""
    picture, box, style = canvas(one, longest, style)
    return painted(picture, one.relevance, box, scale, style)


def draw_bars(ax: Any, one: "Explanation", scale: Scale) -> None:
    """Relevance of tokens that form no grid, one bar each."""
    values = one.relevance
    ax.bar(np.arange(len(values)), values, width=1.0, color=scale.paint(values) / 255)
    ax.set_xlim(-0.5, len(values) - 0.5)
    ax.set_xlabel("token", fontsize=SMALL, labelpad=2)
    ax.tick_params(labelsize=SMALL, length=2)
    ax.spines[["top", "right"]].set_visible(False)


def draw_scale(ax: Any, scale: Scale, points: float = SMALL, letters: int = 34) -> None:
    """A thin bar of the colours with raw values below it, as many as so many letters have room for."""
    ax.imshow(scale.table()[None], aspect="auto", extent=(0, 1, 0, 1), interpolation="nearest")
    ax.axis("off")
    for x, text, side in zip((0, 0.5, 1), within(scale, letters), ("left", "center", "right"), strict=True):
        ax.annotate(text, (x, 0), (0, -2.5), textcoords="offset points", ha=side, va="top", fontsize=points, color=GREY)


def within(scale: Scale, letters: int) -> tuple[str, str, str]:
    """As `ticks`; where room is short without the middle, then as `± end` or with two digits."""
    low, middle, high = ticks(scale)
    if len(middle) + 2 * max(len(low), len(high)) <= letters:
        return low, middle, high
    if len(low + high) <= letters:
        return low, "", high
    if scale.signed:
        return "", f"± {number(scale.high)}", ""
    return number(scale.low, 2), "", number(scale.high, 2)


def ticks(scale: Scale) -> tuple[str, str, str]:
    """Ends and middle in raw units; a sign shows where values lie beyond an end."""
    values = (scale.low, (scale.low + scale.high) / 2, scale.high)
    texts = [number(v) for v in values]
    for digits in range(4, 8):
        if len(set(texts)) == len(texts):
            break
        texts = [number(v, digits) for v in values]
    return "≤ " * scale.beyond[0] + texts[0], texts[1], "≥ " * scale.beyond[1] + texts[2]


def clip_note(maps: "Sequence[Explanation]", style: Style) -> str:
    """What is said of values beyond the ends of the colours: `, 1 % beyond each end`, or ""."""
    found = dict.fromkeys(filter(None, (style.clipped(one.relevance) for one in maps)))
    parts = [f"up to {share(c)} of {'pixels' if style.clip is None else 'values'} beyond each end" for c in found]
    return "".join(f", {part}" for part in parts)


def cropped(one: "Explanation") -> bool:
    """Whether a part of the picture, a pixel or more, was not shown to the model."""
    if one.picture is None or one.box is None:
        return False
    (x0, y0, x1, y1), (width, height) = one.box, one.picture.size
    return max(x0, y0, width - x1, height - y1) >= 1


def map_note(one: "Explanation", style: Style) -> str:
    """What is said below a map instead of the bar of its colours, or ""."""
    if not one.relevance.any():
        return "zero everywhere"
    return mask_note(one, style) if style.masks and one.picture is not None else ""


def mask_note(one: "Explanation", style: Style) -> str:
    """What a masked view keeps."""
    part = f"top {share(style.top)} of the area" if style.top else f"{share(style.threshold or 0)} of the maximum"
    return f"kept: relevance ≥ {number(level(one.relevance, style))} ({part})"
