"""Curves and bars for print: told apart by colour, dashes and marks, so that a grey copy can be read too."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradtoken.draw.sheet import PRINT, Sheet, settings
from gradtoken.draw.words import fit

INK, PALE = "black", "0.72"
HUES = (INK, "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "0.5")  # Okabe and Ito, without yellow
DASHES = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 1.5, 1.5, 1.5)), "-", (0, (6, 2)), (0, (2, 1.5)), (0, (1, 2)))
MARKS = ("o", "s", "^", "D", "v", "P", "X", ".")
HATCHES = ("", "////", "....", "xxxx")
FONT = {"font.size": 7.0, "axes.labelsize": 7.0, "axes.titlesize": 7.0, "legend.fontsize": 6.5, "axes.linewidth": 0.6}
FONT |= {"xtick.labelsize": 6.5, "ytick.labelsize": 6.5, "hatch.linewidth": 0.4}
MOST = len(HUES)
PANEL = 1.05  # inches of a panel of bars
MARKED = 9  # most marks on a curve


@dataclass(frozen=True, eq=False)
class Series:
    """One line of a graph with its interval. look: number of its colour, dashes and mark."""

    name: str
    look: int
    x: Sequence[float]
    y: Any
    low: Any = None
    high: Any = None


@dataclass(frozen=True)
class Graph:
    """Axes with their lines."""

    title: str
    across: str
    up: str
    series: tuple[Series, ...]


@dataclass(frozen=True)
class Bar:
    """A value with its interval; strong: drawn darker."""

    name: str
    value: float
    low: float
    high: float
    strong: bool = False


def graphs(panels: Sequence[Graph], width: float) -> Sheet:
    """Graphs side by side, as many as have room, over one legend."""
    across = max(1, min(len(panels), int(width / 1.6)))
    down = -(-len(panels) // across)
    names = {one.name: one for panel in panels for one in panel.series}
    columns = max(1, min(len(names), int(width / (0.5 + 0.06 * max(map(len, names), default=1)))))
    with settings(**FONT):
        sheet = Sheet(
            width, 0.13 * -(-len(names) // columns) + 0.1 + down * min(0.8 * width / across + 0.3, 2.4), PRINT
        )
        sheet.set_layout_engine("constrained")
        axes = sheet.subplots(down, across, squeeze=False).ravel()
        for i, (ax, panel) in enumerate(zip(axes, panels, strict=False)):
            draw(ax, panel, first=i % across == 0)
        for ax in axes[len(panels) :]:
            ax.set_axis_off()
        handles = {line.get_label(): line for ax in axes for line in ax.get_lines()}
        sheet.legend(
            handles.values(), handles, loc="outside lower center", ncols=columns, frameon=False, handlelength=3.2
        )
        sheet.draw_without_rendering()  # which fixes the layout under these fonts
        sheet.set_layout_engine("none")
    return sheet


def draw(ax: Any, panel: Graph, first: bool) -> None:
    """One graph; the first line is on top. first: of its row, which says what the heights are."""
    for one in panel.series:
        share = -(-len(one.x) // MARKED)
        style: dict[str, Any] = {"color": HUES[one.look], "linestyle": DASHES[one.look], "marker": MARKS[one.look]}
        style |= {"markevery": (one.look % share, share), "zorder": 20 - one.look}
        ax.plot(one.x, one.y, label=one.name, lw=1.4 if one.look == 0 else 1.0, markersize=3.2, **style)
        if one.low is not None:
            ax.fill_between(one.x, one.low, one.high, color=HUES[one.look], alpha=0.12, lw=0, zorder=10 - one.look)
    ax.set(title=panel.title, xlabel=panel.across, ylabel=panel.up if first else "")
    ax.margins(x=0.02)
    plain(ax)
    ax.grid(alpha=0.25, lw=0.4)


def plain(ax: Any) -> None:
    """Two axes, thin."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(width=0.5, length=2)


def bars(panels: Sequence[tuple[str, Sequence[Bar]]], width: float) -> Sheet:
    """Panels of horizontal bars with whiskers and numbers, as many as have room beside the names at the left."""
    names = [bar.name for bar in panels[0][1]]
    left = 0.055 * max(map(len, names), default=1)
    panels = panels[: max(1, int((width - left) / PANEL))]
    each = (width - left) / len(panels)
    titles = [fit(title, each, 7, 3, 0.55) for title, _ in panels]
    with settings(**FONT):
        sheet = Sheet(width, 0.33 + 0.12 * max(map(len, titles)) + 0.14 * len(names), PRINT)
        sheet.set_layout_engine("constrained")
        axes = sheet.subplots(1, len(panels), squeeze=False, sharey=True).ravel()
        for ax, title, (_, found) in zip(axes, titles, panels, strict=True):
            draw_bars(ax, "\n".join(title), found)
        axes[0].set_yticks(range(len(names)), names)
        sheet.draw_without_rendering()
        sheet.set_layout_engine("none")
    return sheet


def draw_bars(ax: Any, title: str, found: Sequence[Bar]) -> None:
    """One panel; zero is in it, for the length of a bar is its value."""
    values = np.array([bar.value for bar in found])
    whiskers = np.clip([[bar.value - bar.low for bar in found], [bar.high - bar.value for bar in found]], 0, None)
    ax.barh(range(len(found)), values, height=0.72, color=["0.3" if bar.strong else PALE for bar in found], zorder=2)
    error = {"elinewidth": 0.7, "capsize": 1.5, "capthick": 0.7, "ecolor": INK, "zorder": 3}
    ax.errorbar(values, range(len(found)), xerr=whiskers, fmt="none", **error)
    far = max((abs(bar.high) for bar in found if np.isfinite(bar.high)), default=1.0)
    for i, bar in enumerate(found):
        if np.isfinite(bar.value):
            ax.text(max(bar.high, 0) + 0.03 * far, i, f"{bar.value:.1f}", va="center", fontsize=6)
    ax.set_title(title, loc="left")
    ax.set_ylim(len(found) - 0.4, -0.6)
    ax.set_xlim(min(0.0, *(1.1 * bar.low for bar in found if np.isfinite(bar.low))), 1.28 * far)
    plain(ax)
    ax.tick_params(axis="y", length=0)


def groups(
    names: Sequence[str], parts: Sequence[tuple[str, Sequence[float]]], labels: tuple[str, str], width: float
) -> Sheet:
    """Upright bars by name, one of each part side by side; parts are told apart by grey and hatching."""
    with settings(**FONT):
        sheet = Sheet(width, min(0.62 * width, 2.2), PRINT)
        sheet.set_layout_engine("constrained")
        ax = sheet.subplots()
        each = 0.8 / len(parts)
        for i, (name, values) in enumerate(parts):
            at = np.arange(len(names)) - 0.4 + (i + 0.5) * each
            look: dict[str, Any] = {
                "facecolor": HUES[(i + 1) % MOST],
                "edgecolor": INK,
                "hatch": HATCHES[i % len(HATCHES)],
            }
            ax.bar(at, values, each, label=name, lw=0.5, **look)
        ax.set_xticks(range(len(names)), names)
        ax.set(xlabel=labels[0], ylabel=labels[1])
        plain(ax)
        ax.tick_params(axis="x", length=0)
        sheet.legend(loc="outside upper left", ncols=4, frameon=False)
        sheet.draw_without_rendering()
        sheet.set_layout_engine("none")
    return sheet
