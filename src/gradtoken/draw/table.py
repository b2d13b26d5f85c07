"""The figure of a comparison: a row for each picture and class, a column for each method."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradtoken.draw.colours import SIGNED
from gradtoken.draw.figure import DPI, cropped, settings
from gradtoken.draw.layout import BOLD, Place
from gradtoken.draw.overlay import resized
from gradtoken.draw.panels import GREY, SMALL, clip_note, draw_scale, drawn, scale_of
from gradtoken.draw.style import Style
from gradtoken.draw.words import base_name, broken, fit, score, share

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from gradtoken.comparison import Cell, Comparison, Row
    from gradtoken.result import Explanation

MOST = 9  # columns side by side, the picture included; more go below
WIDE, LOW, HIGH = 1.45, 0.55, 1.9  # a panel's width, its smallest and its largest height, in inches
NAMES = 1.3  # width of the names of the rows
GAP, MARGIN, BELOW, LINE, TINY_LINE = 0.1, 0.1, 0.24, 0.14, 0.11  # BELOW: the bar of the colours
TITLE, TINY = 8.0, 6.5  # font sizes in points
LETTERS = 24  # most letters of the numbers below a bar


@dataclass(frozen=True)
class Block:
    """Columns that stand side by side, by number; -1 is the picture."""

    columns: tuple[int, ...]
    titles: tuple[tuple[list[str], list[str]], ...]  # lines of each title, and of the note below it

    @property
    def above(self) -> float:
        """Room for the titles."""
        return max(LINE * len(title) + TINY_LINE * len(note) for title, note in self.titles) + 0.1


def figure(comparison: "Comparison", **options: Any) -> "Figure":
    """A table of maps. options: see `Style`; `shared_scale` is one scale for each column."""
    from matplotlib.figure import Figure

    style = Style.of(**options)
    blocks, heights = blocks_of(comparison), [height_of(row) for row in comparison.rows]
    width = 2 * MARGIN + NAMES + max(len(block.columns) for block in blocks) * (WIDE + GAP)
    foot = fit(footer(comparison, style), width - 2 * MARGIN, SMALL, lines=6)
    height = 2 * MARGIN + len(foot) * LINE + sum(block.above + sum(heights) + BELOW * len(heights) for block in blocks)
    with settings():
        sheet = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
        top = height - MARGIN
        for block in blocks:
            top = draw_block(sheet, top, block, comparison, heights, style)
        for i, line in enumerate(reversed(foot)):
            Place(sheet, MARGIN, MARGIN, width, height).write(line, i * LINE, fontsize=SMALL, color=GREY)
    return sheet


def blocks_of(comparison: "Comparison") -> list[Block]:
    """The picture and the methods, in as few blocks as needed, filled evenly."""
    numbers = [-1, *range(len(comparison.columns))]
    each = -(-len(numbers) // -(-len(numbers) // MOST))
    parts = [tuple(numbers[i : i + each]) for i in range(0, len(numbers), each)]
    return [Block(part, tuple(title_of(comparison, number) for number in part)) for part in parts]


def title_of(comparison: "Comparison", number: int) -> tuple[list[str], list[str]]:
    """Lines above a column."""
    if number < 0:
        return ["picture"], []
    column = comparison.columns[number]
    return broken(column.title, WIDE, TITLE, 4, BOLD), fit(column.note, WIDE, TINY, 2) if column.note else []


def height_of(row: "Row") -> float:
    """Of the panels of a row."""
    return min(max(WIDE * row.picture.height / row.picture.width, LOW), HIGH)


def draw_block(
    sheet: "Figure", top: float, block: Block, comparison: "Comparison", heights: Sequence[float], style: Style
) -> float:
    """Titles and rows, from `top` downwards; returns where they end."""
    lefts = [MARGIN + NAMES + i * (WIDE + GAP) for i in range(len(block.columns))]
    top -= block.above
    for left, (title, note) in zip(lefts, block.titles, strict=True):
        place = Place(sheet, left, top, WIDE, 0)
        for i, line in enumerate(reversed(note)):
            place.write(line, 0.04 + i * TINY_LINE, fontsize=TINY, color=GREY)
        for i, line in enumerate(reversed(title)):
            low = 0.04 + len(note) * TINY_LINE + i * LINE
            place.write(line, low, fontsize=TITLE, fontweight="bold")
    for i, (row, height) in enumerate(zip(comparison.rows, heights, strict=True)):
        top -= height
        draw_name(Place(sheet, MARGIN, top, NAMES, height), row, len({r.source for r in comparison.rows}) > 1)
        for left, column in zip(lefts, block.columns, strict=True):
            place = Place(sheet, left, top, WIDE, height)
            if column >= 0:
                draw_cell(place, row.cells[column], comparison.column(column), style)
            elif i == 0 or row.picture is not comparison.rows[i - 1].picture:
                draw_picture(place, row)
        top -= BELOW
    return top


def draw_name(place: Place, row: "Row", with_file: bool) -> None:
    """The class and how sure the model is of it, at half height."""
    width = place.width - 0.1
    most = max(1, int((place.height - 0.3) / LINE))
    facts = [part for text in score(row).split(", ") for part in fit(text, width, TINY + 0.5)]
    facts += fit(base_name(row.source), width, TINY + 0.5) if with_file else []
    name = fit(row.name, width, TITLE + 1, min(4, most), BOLD)
    low = (place.height - len(name) * LINE - len(facts) * TINY_LINE) / 2
    for i, line in enumerate(reversed(facts)):
        place.write(line, low + i * TINY_LINE, fontsize=TINY + 0.5, color=GREY)
    for i, line in enumerate(reversed(name)):
        place.write(line, low + len(facts) * TINY_LINE + i * LINE, fontsize=TITLE + 1, fontweight="bold")


def draw_picture(place: Place, row: "Row") -> None:
    """The picture as it is."""
    longest = round(max(place.width, place.height) * DPI)
    bare(place).imshow(resized(row.picture, (0, 0, 1, 1), longest)[0], interpolation="antialiased")


def draw_cell(place: Place, cell: "Cell", among: "Sequence[Explanation]", style: Style) -> None:
    """A map and the bar of its colours, or why there is none. among: the maps of its column."""
    one = cell.explanation
    if one is None:
        draw_refusal(place, cell.refusal)
        return
    scale = scale_of(one, among, style)
    longest = round(max(place.width, place.height) * DPI)
    bare(place).imshow(drawn(one, scale, longest, style), interpolation="antialiased")
    if not one.relevance.any():
        place.write("zero everywhere", -TINY_LINE - 0.02, fontsize=TINY, color=GREY)
    elif not style.masks:
        draw_scale(place.axes(low=-0.07, height=0.045), scale, TINY, LETTERS)


def draw_refusal(place: Place, reason: str) -> None:
    """A grey field with the reason."""
    ax = bare(place)
    ax.set_anchor("C")
    ax.imshow([[0.93]], cmap="gray", vmin=0, vmax=1, aspect="auto")
    lines = fit(reason.split("; ")[0], place.width - 0.12, TINY, max(1, int((place.height - 0.1) / TINY_LINE) - 1))
    inner = Place(place.sheet, place.x + 0.06, place.y, place.width, place.height)
    for i, line in enumerate(["no map", *lines]):
        font: dict[str, Any] = {"fontweight": "bold"} if i == 0 else {}
        inner.write(line, place.height - 0.05 - (i + 1) * TINY_LINE, fontsize=TINY, color=GREY, **font)


def bare(place: Place) -> Any:
    """Axes without ticks, at the left."""
    ax = place.axes()
    ax.axis("off")
    ax.set_anchor("W")
    return ax


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
