"""What is said below the figure of a comparison: the model, and what the colours mean."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gradtoken.draw.colours import SIGNED
from gradtoken.draw.panels import clip_note, cropped, scale_of
from gradtoken.draw.style import Style
from gradtoken.draw.words import share

if TYPE_CHECKING:
    from gradtoken.comparison import Comparison
    from gradtoken.result import Explanation


def footer(comparison: "Comparison", style: Style) -> str:
    """The model, and every choice of the display that changes what is seen."""
    maps = comparison.explanations
    parts = [", ".join(dict.fromkeys(one.model for one in maps))]
    if len(comparison.columns) > len({column.method for column in comparison.columns}) == 1:
        parts.append(f"variants of {comparison.columns[0].method}")
    parts += masked(style) if style.masks else coloured(maps, style)
    if any(map(cropped, maps)):
        parts.append("dimmed: not seen by the model")
    return " · ".join([*parts, *dict.fromkeys(one.note for one in maps if one.note)])


def coloured(maps: "Sequence[Explanation]", style: Style) -> list[str]:
    """What the colours mean."""
    scaling = "one scale for each column" if style.shared_scale else "each map on its own scale"
    bar = f"colours: raw relevance, linear, {share(style.opacity)} opaque, {scaling}"
    bar += clip_note(maps, style)
    signed = any(scale_of(one, maps, style).signed for one in maps)
    return [bar, *([zero(style.colours)] if signed else [])]


def zero(colours: str | None) -> str:
    """What the colours of signed maps mean."""
    if colours in (None, SIGNED):
        return "signed maps: red speaks for the class, blue against it, white is zero"
    return "signed maps: zero is in the middle of the colours"


def masked(style: Style) -> list[str]:
    """What masked views keep."""
    part = f"top {share(style.top)} of the area" if style.top else f"{share(style.threshold or 0)} of its maximum"
    return [f"kept of each map: {part}"]
