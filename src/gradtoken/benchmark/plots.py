"""The curves of a report: a drawing for each curve and explained class, with a line and a band for each method."""

import io
import re
from collections.abc import Sequence
from typing import Any

from gradtoken.benchmark.summary import BASELINE, Line

INK = "#010203"  # stands for the colour of the page's text
WIDE, HIGH = 4.2, 3.1  # inches of a panel
MOST = 60  # points of a curve that are drawn


def drawings(lines: Sequence[Line]) -> list[str]:
    """An SVG for each curve and class; what is of line i are the groups whose id ends in `-i`."""
    panels = [(ask, name) for ask in asks(lines) for name in names(lines, ask)]
    return [svg(lines, number, *panel) for number, panel in enumerate(panels)]


def svg(lines: Sequence[Line], number: int, ask: str, name: str) -> str:
    """One panel."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    look: dict[str, Any] = {"svg.fonttype": "none", "svg.hashsalt": f"panel {number}", "font.size": 9}
    look |= dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK)
    with rc_context(look):
        sheet = Figure(figsize=(WIDE, HIGH), layout="constrained")
        draw(sheet.add_subplot(), number, lines, ask, name)
        buffer = io.BytesIO()
        sheet.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return inline(buffer.getvalue().decode())


def asks(lines: Sequence[Line]) -> list[str]:
    return list(dict.fromkeys(line.ask for line in lines if line.curves))


def names(lines: Sequence[Line], ask: str) -> list[str]:
    return list(dict.fromkeys(name for line in lines if line.ask == ask for name in line.curves))


def draw(ax: Any, panel: int, lines: Sequence[Line], ask: str, name: str) -> None:
    """One panel; the baseline lies over the others."""
    for i, line in enumerate(lines):
        if line.ask != ask or name not in line.curves:
            continue
        one, colour = line.curves[name], colour_of(line, lines)
        step = -(-len(one.x) // MOST)
        some = slice(None, None, step)
        order = 3 if line.title == BASELINE else 2
        band = ax.fill_between(one.x[some], 100 * one.low[some], 100 * one.high[some], color=colour, lw=0, zorder=order)
        band.set_gid(f"{'base' if line.title == BASELINE else 'band'}-{panel}-{i}")
        (drawn,) = ax.plot(one.x[some], 100 * one.y[some], color=colour, lw=1.2, zorder=order)
        drawn.set_gid(f"line-{panel}-{i}")
    ax.set_title(f"{name}, {ask} class" if ask else name, fontsize=10)
    if ax.dataLim.x1 <= 1:  # else a count, which the protocol's summary names
        ax.set_xlabel("share of the input changed")
    ax.set_ylabel("%")
    ax.grid(alpha=0.15, color=INK)
    ax.spines[["top", "right"]].set_visible(False)


def colour_of(line: Line, lines: Sequence[Line]) -> Any:
    """Red for the baseline; twenty colours for the other methods, over and over."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    titles = sorted({one.title for one in lines})
    return "#e8262c" if line.title == BASELINE else to_hex(colormaps["tab20"](titles.index(line.title) % 20))


def inline(text: str) -> str:
    """The drawing alone, in the page's colours, with two digits after the point."""
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.S)
    text = re.sub(r'(?<=[ "ML])(-?\d+\.\d{2})\d+', r"\1", text)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1, flags=re.S)
    return re.sub(r'(<svg[^>]*?) width="([^"]*)pt"', r'\1 class="curves"', text, count=1, flags=re.S)
