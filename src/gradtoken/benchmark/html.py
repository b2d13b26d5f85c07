"""A report as one web page that fetches nothing: a table to sort, curves, refusals, pictures."""

import math
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING

from gradtoken.benchmark import plots
from gradtoken.benchmark.report import Report
from gradtoken.benchmark.summary import BASELINE, Estimate, Line
from gradtoken.benchmark.written import best, facts, notes, percent, short, title
from gradtoken.draw.html import text
from gradtoken.draw.words import MINUS, TIMES
from gradtoken.protocols.protocol import Number

if TYPE_CHECKING:
    from gradtoken.benchmark.pictures import Shown


def page(report: Report, pictures: "Sequence[Shown]" = ()) -> str:
    """The whole document. pictures: see `pictures.shown`."""
    protocol = report.protocol
    rows = "".join(f"<tr><th>{text(k)}</th><td>{text(v)}</td></tr>" for k, v in facts(report).items() if v)
    told = "".join(f"<p>{text(note).replace('**', '')}</p>" for note in notes(report))
    body = f"<h1>{text(title(report))}</h1><p>{text(protocol.summary)}</p>"
    numbers = f'<table class="numbers">{head(report)}<tbody>{lines(report)}</tbody></table>'
    body += f'<div class="wide">{numbers}</div><p><small>A click on a title sorts.</small></p>{told}'
    body += section("Curves", curves(report)) + section("Without values", refused(report))
    body += section("Worst and best pictures", gallery(pictures)) + section(
        "How it was made", f'<table class="facts">{rows}</table>'
    )
    return filled({"title": text(title(report)), "body": body})


def section(name: str, content: str) -> str:
    """Nothing where there is no content."""
    return f"<h2>{name}</h2>{content}" if content else ""


def filled(parts: dict[str, str]) -> str:
    """The page with its contents."""
    first, *pieces = template().split("{{")
    return first + "".join(parts[name] + rest for name, rest in (piece.split("}}", 1) for piece in pieces))


@lru_cache
def template() -> str:
    """`{{name}}` marks where the contents go."""
    return files("gradtoken.benchmark").joinpath("report.html").read_text(encoding="utf-8")


# The table ------------------------------------------------------------------------------------------------------------


def head(report: Report) -> str:
    """Titles that sort."""
    titles = [column("method"), column("explained"), column("n", "number")]
    for number in report.protocol.numbers:
        arrow = {"higher": "↑", "lower": "↓"}.get(number.better, "")
        titles.append(column(f"{number.name} {arrow}".strip(), "number", number.better))
        if paired(report):
            titles.append(column(f"{number.name} {MINUS} {BASELINE}", "number", number.better))
    return f"<thead><tr>{''.join(titles)}{column('refused', 'number', 'lower')}</tr></thead>"


def column(name: str, kind: str = "word", better: str = "") -> str:
    return f'<th data-kind="{kind}" data-better="{better}"><button>{text(name)}</button></th>'


def paired(report: Report) -> bool:
    return any(line.differences for line in report.lines)


def lines(report: Report) -> str:
    """Rows, with an interval drawn in each cell; all of a column are on one scale."""
    numbers = report.protocol.numbers
    scales = {n.name: spread([line.numbers.get(n.name) for line in report.lines]) for n in numbers}
    apart = {n.name: spread([line.differences.get(n.name) for line in report.lines], zero=True) for n in numbers}
    return "".join(row(report, i, scales, apart) for i, line in enumerate(report.lines))


Span = tuple[float, float]


def row(report: Report, i: int, scales: dict[str, Span], apart: dict[str, Span]) -> str:
    """One method and ask."""
    line, refusals = report.lines[i], sum(report.lines[i].reasons.values())
    key = f'<span class="key" style="background:{plots.colour_of(line, report.lines)}"></span>' if line.curves else ""
    found = [f'<th data-v="{text(line.title)}">{key}{text(line.title)}</th>', cell(line.ask), cell(line.samples)]
    for number in report.protocol.numbers:
        found.append(estimate(line.numbers.get(number.name), scales[number.name], top(report, line, number)))
        if paired(report):
            found.append(difference(line.differences.get(number.name), apart[number.name]))
    kind = "base" if line.title == BASELINE else ""
    return f'<tr class="{kind}" data-line="{i}">{"".join(found)}{cell(refusals)}</tr>'


def cell(value: object) -> str:
    return f'<td data-v="{text(str(value))}">{text(str(value))}</td>'


def top(report: Report, line: Line, number: Number) -> bool:
    """Whether a number is the best of its column."""
    return bool(line.numbers) and line.numbers[number.name].value == best(number, line.ask, report.lines)


def estimate(one: Estimate | None, scale: Span, first: bool) -> str:
    """A number, its interval in words and as a bar."""
    if one is None or math.isnan(one.value):
        return "<td data-v=''>-</td>"
    kind = ' class="best"' if first else ""
    words = f"<span{kind}>{percent(one.value)}</span> <small>[{percent(one.low)}, {percent(one.high)}]</small>"
    return f'<td data-v="{one.value:.6g}">{words}{bar(one, scale)}</td>'


def difference(one: Estimate | None, scale: Span) -> str:
    """As `estimate`, signed, with a mark at zero."""
    if one is None or math.isnan(one.value):
        return "<td data-v=''></td>"
    ends = f"[{percent(one.low, signed=True)}, {percent(one.high, signed=True)}]"
    words = f"{percent(one.value, signed=True)} <small>{ends}</small>"
    return f'<td data-v="{one.value:.6g}">{words}{bar(one, scale, zero=True)}</td>'


def bar(one: Estimate, scale: Span, zero: bool = False) -> str:
    """The interval on the scale of its column."""
    low, high = scale
    if math.isnan(one.low) or high <= low:
        return ""
    a, b, v, z = (f"{100 * (x - low) / (high - low):.1f}%" for x in (one.low, one.high, one.value, 0.0))
    mark = f'<u style="--z:{z}"></u>' if zero else ""
    return f'<span class="bar">{mark}<i style="--a:{a};--b:{b}"></i><b style="--v:{v}"></b></span>'


def spread(found: Sequence[Estimate | None], zero: bool = False) -> Span:
    """From the lowest to the highest end of any interval."""
    ends = [end for one in found if one for end in (one.low, one.high, one.value) if not math.isnan(end)]
    ends += [0.0] if zero else []
    return (min(ends), max(ends)) if ends else (0.0, 0.0)


# The rest -------------------------------------------------------------------------------------------------------------


def curves(report: Report) -> str:
    """The drawing, and how to read it."""
    found = "".join(plots.drawings(report.lines))
    told = "Every method with its 95 % interval; point at a row of the table, or click rows, to see them alone."
    return f'<p>{told}</p><div class="panels">{found}</div>' if found else ""


def refused(report: Report) -> str:
    """Reasons and how often."""
    rows = "".join(
        f"<tr><td>{text(one.reason)}</td><td>{one.count}</td><td>{text(short(one.methods))}</td></tr>"
        for one in report.refusals
    )
    titles = f"<tr><th>reason</th><th>samples {TIMES} methods</th><th>methods</th></tr>"
    return f'<div class="wide"><table class="refused">{titles}{rows}</table></div>' if rows else ""


def gallery(pictures: "Sequence[Shown]") -> str:
    """Groups of maps over their pictures."""
    found = ""
    for heading in dict.fromkeys(one.heading for one in pictures):
        figures = "".join(
            f'<figure><img src="{one.uri}" alt="{text(one.caption)}"><figcaption>{text(one.caption)}</figcaption>'
            "</figure>"
            for one in pictures
            if one.heading == heading
        )
        found += f'<p><b>{text(heading)}</b></p><div class="pictures">{figures}</div>'
    return found
