"""What a figure shows of a report: its curves and its numbers, in percent."""

from collections.abc import Sequence

from gradtoken.benchmark.report import Report
from gradtoken.benchmark.summary import BASELINE, Line
from gradtoken.draw.graphs import MOST, Bar, Graph, Series
from gradtoken.errors import BadRun, BadTarget, UnknownName
from gradtoken.protocols.perturbation import Perturbation

BETTER = {"higher": "\N{UPWARDS ARROW}", "lower": "\N{DOWNWARDS ARROW}"}


def graphs_of(report: Report, methods: Sequence[str] | None = None) -> list[Graph]:
    """A graph for each curve and explained class. methods: at most as many as can be told apart; None for the best."""
    panels = list(dict.fromkeys((line.ask, name) for line in report.lines for name in line.curves))
    if not panels:
        raise BadRun(f"{report.protocol.name} has no curves to draw; draw its numbers with figures.bars")
    titles = chosen(report, methods)
    if methods is None:
        titles = sorted(titles, key=lambda title: title != BASELINE)[:MOST]
    if len(titles) > MOST:
        raise BadTarget(f"expected at most {MOST} methods, which can be told apart without colours, got {len(titles)}")
    return [graph(report, titles, ask, name) for ask, name in panels]


def graph(report: Report, titles: Sequence[str], ask: str, name: str) -> Graph:
    """One curve of all these methods."""
    lines = [line_of(report, title, ask) for title in titles]
    series = tuple(drawn(line, name, look) for look, line in enumerate(lines) if line and name in line.curves)
    shares = all(one.x[-1] <= 1 for one in series)
    return Graph(
        f"{name}, {ask} class" if several(report) else name, "share erased" if shares else "k", up(report), series
    )


def up(report: Report) -> str:
    """What the heights of curves are."""
    what = report.protocol.score if isinstance(report.protocol, Perturbation) else "mean over samples"
    return f"{what} (%)"


def drawn(line: Line, name: str, look: int) -> Series:
    """A curve with its interval."""
    one = line.curves[name]
    return Series(line.title, look, tuple(one.x), 100 * one.y, 100 * one.low, 100 * one.high)


def bars_of(
    report: Report, methods: Sequence[str] | None = None, ask: str | None = None
) -> list[tuple[str, list[Bar]]]:
    """Each number that has a better end, with a bar for each method, best first by the first number."""
    asks = list(dict.fromkeys(line.ask for line in report.lines if line.numbers))
    if not asks:
        raise BadRun(f"{report.folder.root} has no numbers yet; go on with the run")
    if ask is not None and ask not in asks:
        raise UnknownName.among("explained class of this run", ask, asks)
    lines = [line_of(report, title, ask or asks[0]) for title in chosen(report, methods)]
    found = [line for line in lines if line and line.numbers]
    return [
        (f"{one.name} (%) {BETTER[one.better]}", [bar(line, one.name) for line in found])
        for one in report.protocol.numbers
        if one.better
    ]


def bar(line: Line, name: str) -> Bar:
    """One number with its interval; GradToken stands out."""
    one = line.numbers[name]
    return Bar(line.title, 100 * one.value, 100 * one.low, 100 * one.high, line.title == BASELINE)


def chosen(report: Report, methods: Sequence[str] | None) -> list[str]:
    """Titles of methods, best first where none are named."""
    known = list(dict.fromkeys(line.title for line in report.lines if line.numbers))
    for title in methods or ():
        if title not in known:
            raise UnknownName.among("method with numbers in this run", title, known)
    return known if methods is None else list(dict.fromkeys(methods))


def line_of(report: Report, title: str, ask: str) -> Line | None:
    """What is known of a method for a class; a map that is the same for all classes was measured for one alone."""
    own = {line.ask: line for line in report.lines if line.title == title and line.numbers}
    return own.get(ask) or next(iter(own.values()), None)


def several(report: Report) -> bool:
    """Whether the run asks for several classes."""
    return len({line.ask for line in report.lines if line.numbers}) > 1
