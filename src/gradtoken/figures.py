"""Figures for a paper: exact widths, vector files with TrueType fonts, real numbers, readable as a grey copy.

Each function returns a `matplotlib.figure.Figure`, which `savefig("figure.pdf")` writes as it is. width: "column"
(90 mm) or "page" (190 mm), or a number of inches. style: see `gradtoken.draw.style.Style`.
"""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from torch import nn

from gradtoken.choosing import Class
from gradtoken.comparison import Comparison
from gradtoken.draw import caption as captions
from gradtoken.draw import graphs, table
from gradtoken.draw.graphs import Graph, Series
from gradtoken.draw.sheet import Sheet
from gradtoken.draw.sizes import Sizes
from gradtoken.draw.style import Style
from gradtoken.erasing import Curve
from gradtoken.erasing import curves as curves_of_erasing
from gradtoken.errors import BadTarget, GradTokenError, UnknownName
from gradtoken.explaining import Case, file_name, of_picture, options_of
from gradtoken.models.load import load
from gradtoken.models.model import Model, need
from gradtoken.models.pictures import Source, open_picture

if TYPE_CHECKING:
    from gradtoken.benchmark.report import Report

Width = Literal["column", "page"] | float
Run: TypeAlias = "str | os.PathLike[str] | Report"
WIDTHS: Mapping[str, float] = {"column": 90 / 25.4, "page": 190 / 25.4}  # inches


def maps(comparison: Comparison, width: Width = "page", **style: Any) -> Sheet:
    """Maps of `gradtoken.compare` as a table: methods for one class (the paper's Fig. 7) or two (Fig. 8), or with
    `vary=` the propagation schemes, heads or depths (Fig. 9 to 11).

    The caption is left to the text; `caption` proposes one.
    """
    return table.figure(comparison, Sizes.printed(inches(width), 1 + len(comparison.columns)), **style)


def caption(comparison: Comparison, **style: Any) -> str:
    """What a reader must know of these maps: the model, what the colours mean, what lies beyond their ends."""
    return captions.footer(comparison, Style.of(**style))


def contributions(comparison: Comparison, width: Width = "column") -> Sheet:
    """How much each head adds to the map, in percent: the sum of its positive part over that of all heads.

    comparison: `gradtoken.compare(..., vary="heads")`; one row of bars for each of its classes.
    """
    if not all("head" in column.options for column in comparison.columns):
        raise BadTarget('expected the heads of gradtoken; make the comparison with vary="heads"')
    names = [str(column.options["head"]) for column in comparison.columns]
    parts = []
    for row in comparison.rows:
        found = [0.0 if c.explanation is None else c.explanation.relevance.clip(0).sum() for c in row.cells]
        parts.append((row.name, (100 * np.array(found) / (sum(found) or 1.0)).tolist()))
    return graphs.groups(names, parts, ("head", "share of the map (%)"), inches(width))


def erasing(
    picture: Source,
    model: str | nn.Module | Model = "bundled",
    target: Class = None,
    method: str | Sequence[str] = "gradtoken",
    width: Width = "column",
) -> Sheet:
    """Probability of the class while patches of one picture are erased, in the order of the maps and at random."""
    methods = [method] if isinstance(method, str) else list(method)
    if len(methods) > 3:
        raise BadTarget(f"expected at most 3 methods in one graph, got {len(methods)}")
    loaded = model if isinstance(model, Model) else load(model)
    case = Case.of(open_picture(picture), file_name(picture), loaded, [target])
    found = of_picture(case, options_of(methods, {}), methods, allow_blank=False)
    series = tuple(erased(curve, i) for i, curve in enumerate(curves_of_erasing(case, found)))
    return graphs.graphs([Graph("", "share erased", f"probability of {found[0].name}", series)], inches(width))


def erased(curve: Curve, look: int) -> Series:
    """A curve of erasing; random order in grey."""
    x = np.linspace(0, 1, len(curve.probability)).tolist()
    order = {True: "most relevant first", False: "least relevant first", None: ""}[curve.most_first]
    name = ", ".join(filter(None, (curve.name, order)))
    return Series(name, graphs.MOST - 1 if curve.most_first is None else look, x, curve.probability)


def curves(run: Run, width: Width = "page", methods: Sequence[str] | None = None) -> Sheet:
    """Curves of a run with 95 % intervals, one graph each: perturbation, token-F1 (the paper's Fig. 6).

    run: its folder or its report. methods: at most 8 of its methods; None for GradToken and the best others.
    """
    need("fsspec", "benchmark")
    from gradtoken.benchmark.drawn import graphs_of

    return graphs.graphs(graphs_of(report_of(run), methods), inches(width))


def bars(run: Run, width: Width = "page", methods: Sequence[str] | None = None, ask: str | None = None) -> Sheet:
    """Numbers of a run in percent as bars with 95 % intervals, best method first; as many numbers as fit the width.

    run: its folder or its report. methods: of the run; None for all. ask: of which class, as in the report; None for
    the first.
    """
    need("fsspec", "benchmark")
    from gradtoken.benchmark.drawn import bars_of

    return graphs.bars(bars_of(report_of(run), methods, ask), inches(width))


def report_of(run: Run) -> "Report":
    """A report as it is, or that of a folder."""
    from gradtoken.benchmark.report import Report
    from gradtoken.benchmark.store import address

    return run if isinstance(run, Report) else Report.of(address(run))


def inches(width: Width) -> float:
    """A width in inches."""
    if isinstance(width, str):
        if width not in WIDTHS:
            raise UnknownName.among("width", width, WIDTHS)
        return WIDTHS[width]
    if not 2 <= width <= 20:
        raise GradTokenError(f"expected a width of 2 to 20 inches, or one of {', '.join(WIDTHS)}, got {width!r}")
    return float(width)
