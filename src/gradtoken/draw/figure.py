"""Figures for a paper or a report: the picture, its maps, and bars that say what the colours mean."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradtoken.draw.colours import Scale
from gradtoken.draw.layout import GAP, LINE, MARGIN, Panel, Place, Row, arranged
from gradtoken.draw.overlay import resized
from gradtoken.draw.panels import GREY, SMALL, clip_note, cropped, draw_bars, draw_scale, drawn, map_note, scale_of
from gradtoken.draw.sheet import SCREEN, Sheet, settings
from gradtoken.draw.spectrogram import draw_spectrogram
from gradtoken.draw.style import Style
from gradtoken.draw.words import fit, method, share
from gradtoken.errors import BadRelevance

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from gradtoken.result import Explanation

LONGEST = 30_000  # pixels of a side of a figure; a longer one gets fewer to the inch


def figure(explanations: "Sequence[Explanation]", **options: Any) -> "Figure":
    """The picture, then one panel a map with its colour bar, at most six side by side; texts one under the other.

    A row for each picture, and for each target where there are several targets and several methods.
    options: see `Style`.
    """
    from gradtoken.draw import text_figure as texts

    style = Style.of(**options)
    if not explanations:
        raise BadRelevance("there is no explanation to draw; give at least one")
    pictures = [one for one in explanations if one.words is None]
    rows = arranged(pictures) if pictures else []
    with settings():
        blocks = [texts.block(one, explanations, style) for one in explanations if one.words is not None]
        width = max([row.breadth for row in rows] + [texts.WIDE] * bool(blocks))
        foot = footer(explanations, style)
        lines = fit(texts.drawable(foot) if blocks else foot, width, SMALL, lines=4)
        height = sum(row.total for row in rows) + sum(b.total for b in blocks) + LINE * len(lines) + 2 * MARGIN
        sheet = Sheet(width + 2 * MARGIN, height)
        top = height - MARGIN
        for row in rows:
            draw_row(sheet, row, top, explanations, style)
            top -= row.total
        for b in blocks:
            texts.draw(sheet, b, top, masked=style.masks)
            top -= b.total
        for i, line in enumerate(reversed(lines)):
            Place(sheet, MARGIN, MARGIN, width, height).write(line, i * LINE, fontsize=SMALL, color=GREY)
    return sheet


def draw_row(sheet: "Figure", row: Row, top: float, among: "Sequence[Explanation]", style: Style) -> None:
    """Panels side by side, their upper edge at `top`."""
    for i, panel in enumerate(row.panels):
        left = MARGIN + i * (row.width + GAP)
        place = Place(sheet, left, top - row.above - row.height, row.width, row.height)
        draw_panel(place, panel, scale_of(panel.one, among, style), style)


def draw_panel(place: Place, panel: Panel, scale: Scale, style: Style) -> None:
    """Title, map and bar; or the bare picture."""
    place.title(panel)
    one = panel.one
    if one.relevance.ndim == 1 and not panel.bare:
        draw_bars(place.axes(left=0.4), one, scale)
        return
    longest = round(max(place.width, place.height) * SCREEN)
    bare = one.picture if panel.bare else None
    image = resized(bare, (0, 0, 1, 1), longest)[0] if bare else drawn(one, scale, longest, style)
    if one.axes is None:
        ax = place.axes()
        ax.axis("off")
        ax.set_anchor("W")
        ax.imshow(image, interpolation="antialiased")
    else:
        draw_spectrogram(place, image, one.axes)
    if bare is not None:
        return
    if note := map_note(one, style):
        place.write(note, -0.17, fontsize=SMALL, color=GREY)
    else:
        draw_scale(place.axes(low=-0.12, height=0.065), scale)


def footer(explanations: "Sequence[Explanation]", style: Style) -> str:
    """Model, methods, and every choice of the display that changes what is seen."""
    models = ", ".join(dict.fromkeys(e.model for e in explanations))
    methods = ", ".join(dict.fromkeys(method(e) for e in explanations))
    parts = [models, methods]
    if not style.masks:
        bar = "colours: raw relevance, linear"
        if any(e.picture for e in explanations):
            bar += f", {share(style.opacity)} opaque"
        bar += clip_note(explanations, style)
        if style.shared_scale and len(explanations) > 1:
            bar += ", one scale for all maps of a method"
        parts.append(bar)
    if any(map(cropped, explanations)):
        parts.append("dimmed: not seen by the model")
    return " · ".join([*parts, *dict.fromkeys(e.note for e in explanations if e.note)])


def rendered(sheet: "Figure", form: str) -> bytes:
    """The figure as a file: png, svg or pdf; the same bytes for the same figure."""
    buffer = io.BytesIO()
    dpi = min(sheet.dpi, LONGEST / max(sheet.get_size_inches()))
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(form, {})
    sheet.savefig(buffer, format=form, dpi=dpi, metadata=undated)
    return buffer.getvalue()
