"""The paper's numbers beside those of runs, each with the protocol that made it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from gradtoken.benchmark.plan import Variant
from gradtoken.benchmark.published import CHEFER, FIGURES, TABLES, Exhibit, Known, Quantity
from gradtoken.benchmark.report import Report
from gradtoken.benchmark.request import Request
from gradtoken.benchmark.summary import Line
from gradtoken.benchmark.written import facts, table, title, told
from gradtoken.data.opening import open_data
from gradtoken.errors import BadTarget, UnknownName

NOT_RUN = "not run"


@dataclass(frozen=True, eq=False)
class Ours:
    """One of our numbers that answers a quantity of the paper. run: its number in the list of runs, from 1."""

    run: int
    report: Report
    number: str

    def __str__(self) -> str:
        return f"ours [{self.run}]: {self.number}"


def exhibits(tables: Iterable[str], figures: Iterable[str]) -> list[Exhibit]:
    """The tables and figures that are asked for."""
    found = []
    for kind, known, asked in (("table", TABLES, tables), ("figure", FIGURES, figures)):
        for name in asked:
            if name not in known:
                raise UnknownName.among(f"{kind} with numbers", name, known)
            found.append(known[name])
    if not found:
        raise BadTarget(f"name a table ({', '.join(TABLES)}) or a figure ({', '.join(FIGURES)})")
    return found


def beside(exhibit: Exhibit, reports: Sequence[Report]) -> str:
    """The exhibit as Markdown: a table for each quantity, and which runs the columns are of."""
    parts = [f"## {exhibit.name}: {exhibit.caption}", ""]
    used: dict[int, Report] = {}
    for quantity in exhibit.quantities:
        ours = list(answers(quantity, reports))
        used |= {one.run: one.report for one in ours}
        titles = list(map(str, ours)) or [f"ours: {quantity.protocol}"]
        rows = [compared(known, quantity, ours) for known in rows_for(exhibit, ours)]
        parts += [f"### {quantity.title}", "", table(["method", "paper", "paper's protocol", *titles], rows), ""]
    parts += [f"{exhibit.note}\n"] if exhibit.note else []
    parts += [f"[{number}] {described(report)}\n" for number, report in sorted(used.items())]
    others = [f"[{i}] {report.protocol.name}" for i, report in enumerate(reports, start=1) if i not in used]
    parts += [f"Without a number for this: {', '.join(others)}.\n"] if others else []
    if used:
        parts += ["Percent; ours with 95 % intervals. The paper's model is ViT-B/16 of ImageNet-21k.", ""]
    return "\n".join(parts)


def described(report: Report) -> str:
    """Protocol, model and data of a run."""
    known = facts(report)
    return f"{title(report)}; model {known['model']}; data {known['data']}"


def answers(quantity: Quantity, reports: Sequence[Report]) -> Iterator[Ours]:
    """Our numbers for a quantity, under every rule that the protocols have."""
    accepted = {quantity.protocol, CHEFER.get(quantity.protocol)}
    for run, report in enumerate(reports, start=1):
        for number in report.protocol.numbers if report.protocol.name in accepted else ():
            if number.name == quantity.number or number.name.startswith(f"{quantity.number},") or not quantity.number:
                yield Ours(run, report, number.name)


def rows_for(exhibit: Exhibit, ours: Sequence[Ours]) -> list[Known]:
    """The paper's rows; every method of ours where it prints none."""
    if exhibit.rows:
        return list(exhibit.rows)
    titles = dict.fromkeys(line.title for one in ours for line in one.report.lines)
    return [Known(name, name, {}, "curve only") for name in titles]


def compared(known: Known, quantity: Quantity, ours: Sequence[Ours]) -> list[str]:
    """One row."""
    value = known.values.get(quantity.title)
    paper = "-" if value is None else f"{value:.2f}"
    cells = [cell(one, known.title, quantity.ask) for one in ours] or [NOT_RUN]
    name = known.name if known.name == known.title else f"{known.name} ({known.title})"
    return [name, paper, known.rule if value is not None else "-", *cells]


def line_of(report: Report, name: str, ask: str) -> Line | None:
    """The line of a method, which may have options of the protocol. ask: "" for the only one."""
    titles = {name, Variant(name, report.protocol.options.get(name, {})).title}
    return next((line for line in report.lines if line.title in titles and (not ask or line.ask == ask)), None)


def cell(one: Ours, name: str, ask: str) -> str:
    """A number with its interval and the samples it is of; "-" for a map that is the same for every class."""
    line = line_of(one.report, name, ask)
    if line is None:
        return "-" if line_of(one.report, name, "") else NOT_RUN
    return f"{told(line.numbers[one.number], digits=2)}, n {line.samples}" if line.numbers else "no sample"


def requests(wanted: Sequence[Exhibit], one: Request) -> Iterator[Request]:
    """What fills some exhibits from one data set; those that share a protocol share a folder.

    one: names the data and the sizes.
    """
    opened = open_data(one.data, one.kind, **one.options).name.partition("/")[0]
    for exhibit in wanted:
        protocol = exhibit.kinds.get(opened) or exhibit.kinds.get("") or exhibit.quantities[0].protocol
        methods = tuple(known.title for known in exhibit.rows) if not exhibit.grid else ()
        yield replace(one, protocol=protocol, methods=methods, grid=exhibit.grid)
