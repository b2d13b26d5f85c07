"""Where the panels of a figure stand, in inches."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from gradtoken.draw.panels import GREY, SMALL
from gradtoken.draw.spectrogram import beyond_note
from gradtoken.draw.words import base_name, doubts, first_name, fit, method, percent, score

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from gradtoken.result import Explanation

COLUMNS = 6  # most panels side by side
WIDE, NARROW, HIGH = 2.8, 2.3, 3.8  # a panel's largest and smallest width, and its largest height
SOUND = 3.9  # width of a spectrogram with its ticks
GAP, MARGIN = 0.14, 0.1  # between panels; around the sheet
LINE, SPACE, BAR = 0.145, 0.05, 0.36  # a line of text; between title and panel; a colour bar with its numbers
NAME, BOLD = 9.0, 0.68  # font size in points; mean width of a bold letter in ems


@dataclass(frozen=True)
class Panel:
    """An explanation, or (bare) its picture alone."""

    one: "Explanation"
    bare: bool
    names: tuple[str, ...]  # lines of the title in bold
    facts: tuple[str, ...]  # lines below them

    @property
    def lines(self) -> int:
        """Of the title."""
        return len(self.names) + len(self.facts)


@dataclass(frozen=True)
class Row:
    """Panels side by side."""

    panels: tuple[Panel, ...]
    width: float  # of one panel
    height: float  # of one panel

    @property
    def above(self) -> float:
        """Room for the titles."""
        return LINE * max(panel.lines for panel in self.panels) + SPACE

    @property
    def total(self) -> float:
        """Titles, panels and bars."""
        return self.above + self.height + BAR

    @property
    def breadth(self) -> float:
        """All panels."""
        return len(self.panels) * (self.width + GAP) - GAP


@dataclass(frozen=True)
class Place:
    """A rectangle of a sheet, from its lower left corner."""

    sheet: "Figure"
    x: float
    y: float
    width: float
    height: float

    def axes(self, left: float = 0.0, low: float = 0.0, height: float | None = None) -> Any:
        """New axes here, or a strip of them from `low` upwards."""
        w, h = self.sheet.get_size_inches()
        height = self.height if height is None else height
        return self.sheet.add_axes(((self.x + left) / w, (self.y + low) / h, (self.width - left) / w, height / h))

    def write(self, text: str, low: float, **font: Any) -> None:
        """A line of text from the left edge, its lower edge at `low`."""
        w, h = self.sheet.get_size_inches()
        self.sheet.text(self.x / w, (self.y + low) / h, text, va="bottom", **font)

    def title(self, panel: Panel) -> None:
        """Bold names over grey facts, above the panel."""
        for i, line in enumerate(reversed(panel.names + panel.facts)):
            font: dict[str, Any] = {"fontsize": SMALL, "color": GREY}
            if i >= len(panel.facts):
                font = {"fontsize": NAME, "fontweight": "bold"}
            self.write(line, self.height + SPACE + i * LINE, **font)


def arranged(explanations: "Sequence[Explanation]") -> list[Row]:
    """Rows of panels: a row for each picture, and for each target of several where there are several methods."""
    lines = []
    for _, group in groupby(explanations, key=lambda e: e.source or id(e.picture)):
        of_picture = list(group)
        targets = dict.fromkeys(e.name for e in of_picture)
        if len({method(e) for e in of_picture}) == 1 or len(targets) == 1:
            lines.append(of_picture)
        else:
            lines += [[e for e in of_picture if e.name == name] for name in targets]
    width = max(panel_width(line[0]) for line in lines)
    several = len({method(e) for e in explanations}) > 1
    return [row for line in lines for row in wrapped(line, width, several)]


def wrapped(line: "list[Explanation]", width: float, several: bool) -> list[Row]:
    """The picture and its maps, in as many rows as needed."""
    panels = [map_panel(one, width, several) for one in line]
    if line[0].picture is not None:
        panels.insert(0, picture_panel(line[0], width, several))
    count = -(-len(panels) // COLUMNS)  # rows, filled evenly
    each = -(-len(panels) // count)
    height = min(width * aspect(line[0]), HIGH)
    return [Row(tuple(panels[i : i + each]), width, height) for i in range(0, len(panels), each)]


def map_panel(one: "Explanation", width: float, several: bool) -> Panel:
    """The target's name; probability and logit; the method where there are several."""
    facts = [score(one), *([method(one)] if several else []), *doubts(one)]
    facts += beyond_note(one.axes)
    return Panel(one, False, tuple(fit(one.name, width, NAME, 2, BOLD)), tuple(fit(f, width, SMALL)[0] for f in facts))


def picture_panel(one: "Explanation", width: float, several: bool) -> Panel:
    """The file's name and the prediction; the model where the maps name their methods."""
    name = base_name(one.source) or ("picture" if one.axes is None else "sound")
    facts = [f"predicted {first_name(n)}, {percent(p)}" for n, p in one.predicted[:1]]
    facts += [one.model] if several else []
    return Panel(one, True, tuple(fit(name, width, NAME, 1, BOLD)), tuple(fit(f, width, SMALL)[0] for f in facts))


def aspect(one: "Explanation") -> float:
    """Height by width of what is drawn."""
    if one.picture is not None:
        return one.picture.height / one.picture.width
    return one.relevance.shape[0] / one.relevance.shape[1] if one.relevance.ndim == 2 else 0.5


def panel_width(one: "Explanation") -> float:
    """Narrower for upright pictures, so that they do not tower over the page."""
    return SOUND if one.axes is not None else max(NARROW, min(WIDE, HIGH / aspect(one)))
