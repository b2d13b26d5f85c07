"""The figure of a comparison: a row for each picture and class, a column for each method."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradtoken.draw.caption import footer
from gradtoken.draw.layout import BOLD, Place
from gradtoken.draw.overlay import resized
from gradtoken.draw.panels import GREY, SMALL, draw_scale, drawn, scale_of
from gradtoken.draw.sheet import Sheet, settings
from gradtoken.draw.sizes import Sizes
from gradtoken.draw.style import Style
from gradtoken.draw.words import base_name, broken, fit, score

if TYPE_CHECKING:
    from gradtoken.comparison import Cell, Comparison, Row
    from gradtoken.result import Explanation


@dataclass(frozen=True)
class Block:
    """Columns that stand side by side, by number; -1 is the picture."""

    columns: tuple[int, ...]
    titles: tuple[tuple[list[str], list[str]], ...]  # lines of each title, and of the note below it

    def above(self, sizes: Sizes) -> float:
        """Room for the titles."""
        return max(sizes.line * len(title) + sizes.small_line * len(note) for title, note in self.titles) + 0.1


@dataclass(frozen=True)
class Table:
    """What is drawn, and how large."""

    comparison: "Comparison"
    style: Style
    sizes: Sizes

    def height_of(self, row: "Row") -> float:
        """Of the panels of a row."""
        height = self.sizes.wide * row.picture.height / row.picture.width
        return min(max(height, self.sizes.low), self.sizes.high)

    @property
    def over(self) -> float:
        """Room for a name above a row."""
        return 0 if self.sizes.names else self.sizes.line

    def height(self, block: Block) -> float:
        """Of a block with its titles."""
        rows = self.comparison.rows
        each = self.sizes.below + self.over
        return block.above(self.sizes) + sum(map(self.height_of, rows)) + each * len(rows)

    @property
    def several_files(self) -> bool:
        return len({row.source for row in self.comparison.rows}) > 1


def figure(comparison: "Comparison", sizes: Sizes | None = None, **options: Any) -> Sheet:
    """A table of maps. sizes: None for the screen. options: see `Style`; `shared_scale` is for each column."""
    sizes = sizes or Sizes()
    table = Table(comparison, Style.of(**options), sizes)
    blocks = blocks_of(comparison, sizes)
    inner = sizes.names + max(len(block.columns) for block in blocks) * (sizes.wide + sizes.gap) - sizes.gap
    foot = fit(footer(comparison, table.style), inner, SMALL, lines=6) if sizes.foot else []
    height = 2 * sizes.margin + len(foot) * sizes.line + sum(map(table.height, blocks))
    with settings():
        sheet = Sheet(inner + 2 * sizes.margin, height, sizes.dpi)
        top = height - sizes.margin
        for block in blocks:
            draw_block(sheet, top, block, table)
            top -= table.height(block)
        for i, line in enumerate(reversed(foot)):
            Place(sheet, sizes.margin, sizes.margin, inner, height).write(
                line, i * sizes.line, fontsize=SMALL, color=GREY
            )
    return sheet


def blocks_of(comparison: "Comparison", sizes: Sizes | None = None) -> list[Block]:
    """The picture and the methods, in as few blocks as needed, filled evenly."""
    sizes = sizes or Sizes()
    numbers = [-1, *range(len(comparison.columns))]
    each = -(-len(numbers) // -(-len(numbers) // sizes.most))
    parts = [tuple(numbers[i : i + each]) for i in range(0, len(numbers), each)]
    return [Block(part, tuple(title_of(comparison, number, sizes) for number in part)) for part in parts]


def title_of(comparison: "Comparison", number: int, sizes: Sizes) -> tuple[list[str], list[str]]:
    """Lines above a column."""
    if number < 0:
        return ["picture"], []
    column = comparison.columns[number]
    title = broken(column.title, sizes.wide, sizes.title, 4, BOLD)
    return title, fit(column.note, sizes.wide, sizes.small, 2) if column.note else []


def draw_block(sheet: Sheet, top: float, block: Block, table: Table) -> None:
    """Titles and rows, from `top` downwards."""
    sizes, rows = table.sizes, table.comparison.rows
    lefts = [sizes.margin + sizes.names + i * (sizes.wide + sizes.gap) for i in range(len(block.columns))]
    top -= block.above(sizes)
    for left, (title, note) in zip(lefts, block.titles, strict=True):
        draw_title(Place(sheet, left, top, sizes.wide, 0), title, note, sizes)
    for i, row in enumerate(rows):
        height = table.height_of(row)
        top -= table.over + height
        if sizes.names:
            draw_name(Place(sheet, sizes.margin, top, sizes.names, height), row, table)
        else:
            draw_line(Place(sheet, sizes.margin, top + height, lefts[-1] + sizes.wide - sizes.margin, 0), row, table)
        for left, column in zip(lefts, block.columns, strict=True):
            place = Place(sheet, left, top, sizes.wide, height)
            if column >= 0:
                draw_cell(place, row.cells[column], table.comparison.column(column), table)
            elif i == 0 or row.picture is not rows[i - 1].picture:
                draw_picture(place, row, sizes)
        top -= sizes.below


def draw_title(place: Place, title: list[str], note: list[str], sizes: Sizes) -> None:
    """Bold lines over grey ones."""
    for i, line in enumerate(reversed(note)):
        place.write(line, 0.04 + i * sizes.small_line, fontsize=sizes.small, color=GREY)
    for i, line in enumerate(reversed(title)):
        low = 0.04 + len(note) * sizes.small_line + i * sizes.line
        place.write(line, low, fontsize=sizes.title, fontweight="bold")


def draw_name(place: Place, row: "Row", table: Table) -> None:
    """The class and how sure the model is of it, at half height."""
    sizes, width = table.sizes, place.width - 0.1
    small, large = sizes.small + 0.5, sizes.title + 1
    most = max(1, int((place.height - 0.3) / sizes.line))
    facts = [part for text in score(row).split(", ") for part in fit(text, width, small)]
    facts += fit(base_name(row.source), width, small) if table.several_files else []
    name = fit(row.name, width, large, min(4, most), BOLD)
    low = (place.height - len(name) * sizes.line - len(facts) * sizes.small_line) / 2
    for i, line in enumerate(reversed(facts)):
        place.write(line, low + i * sizes.small_line, fontsize=small, color=GREY)
    for i, line in enumerate(reversed(name)):
        height = low + len(facts) * sizes.small_line + i * sizes.line
        place.write(line, height, fontsize=large, fontweight="bold")


def draw_line(place: Place, row: "Row", table: Table) -> None:
    """The class and how sure the model is of it, on one line."""
    words = f"{row.name}: {score(row)}" + (f", {base_name(row.source)}" if table.several_files else "")
    place.write(fit(words, place.width, table.sizes.small)[0], 0.02, fontsize=table.sizes.small, color=GREY)


def draw_picture(place: Place, row: "Row", sizes: Sizes) -> None:
    """The picture as it is."""
    longest = round(max(place.width, place.height) * sizes.dpi)
    bare(place).imshow(resized(row.picture, (0, 0, 1, 1), longest)[0], interpolation="antialiased")


def draw_cell(place: Place, cell: "Cell", among: "Sequence[Explanation]", table: Table) -> None:
    """A map and the bar of its colours, or why there is none. among: the maps of its column."""
    one, style, sizes = cell.explanation, table.style, table.sizes
    if one is None:
        draw_refusal(place, cell.refusal, sizes)
        return
    scale = scale_of(one, among, style)
    longest = round(max(place.width, place.height) * sizes.dpi)
    bare(place).imshow(drawn(one, scale, longest, style), interpolation="antialiased")
    if not one.relevance.any():
        place.write("zero everywhere", -sizes.small_line - 0.02, fontsize=sizes.small, color=GREY)
    elif not style.masks:
        draw_scale(place.axes(low=-0.07, height=0.045), scale, sizes.small, sizes.letters)


def draw_refusal(place: Place, reason: str, sizes: Sizes) -> None:
    """A grey field with the reason."""
    ax = bare(place)
    ax.set_anchor("C")
    ax.imshow([[0.93]], cmap="gray", vmin=0, vmax=1, aspect="auto")
    most = max(1, int((place.height - 0.1) / sizes.small_line) - 1)
    lines = fit(reason.split("; ")[0], place.width - 0.12, sizes.small, most)
    inner = Place(place.sheet, place.x + 0.06, place.y, place.width, place.height)
    for i, line in enumerate(["no map", *lines]):
        font: dict[str, Any] = {"fontweight": "bold"} if i == 0 else {}
        low = place.height - 0.05 - (i + 1) * sizes.small_line
        inner.write(line, low, fontsize=sizes.small, color=GREY, **font)


def bare(place: Place) -> Any:
    """Axes without ticks, at the left."""
    ax = place.axes()
    ax.axis("off")
    ax.set_anchor("W")
    return ax
