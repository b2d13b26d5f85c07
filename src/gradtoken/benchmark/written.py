"""A report as Markdown and CSV."""

import csv
import io
from collections.abc import Sequence

from gradtoken.benchmark.report import Report
from gradtoken.benchmark.summary import BASELINE, DRAWS, Estimate, Line
from gradtoken.draw.words import MINUS, printable
from gradtoken.protocols.protocol import Number

HEAD = "protocol,version,data,samples,model,weights,method,explained,measured,refused,units_done,units,number,better,"
HEAD += "value,low,high,difference,difference_low,difference_high,common"


def percent(value: float, digits: int = 1, signed: bool = False) -> str:
    """`84.5`, `+1.2`: a share in percent."""
    if value != value:
        return "-"
    text = f"{round(100 * value, digits) + 0.0:{'+' if signed else ''}.{digits}f}"  # no minus zero
    return text.replace("-", MINUS)


def told(one: Estimate, digits: int = 1, signed: bool = False) -> str:
    """`84.5 [83.0, 86.1]`."""
    ends = ", ".join(percent(end, digits, signed) for end in (one.low, one.high))
    return f"{percent(one.value, digits, signed)} [{ends}]"


def title(report: Report) -> str:
    """`pointing-game (version 1)`, and what was changed of it."""
    changed = [f"{name}={value!r} instead of {was!r}" for name, (value, was) in report.changed.items()]
    return f"{report.protocol.name} (version {report.protocol.version}{''.join(f', {one}' for one in changed)})"


def facts(report: Report) -> dict[str, str]:
    """What must be known to read the numbers."""
    settings, protocol = report.settings, report.protocol
    data, model = settings["data"], settings["model"]
    return {
        "protocol": f"{title(report)}: {protocol.summary}",
        "paper": protocol.paper,
        "data": f"{printable(data['name'])}, {data['samples']} samples",
        "model": f"{printable(model['name'])}, weights {model['weights']}, {model['dtype'].removeprefix('torch.')}",
        "note": report.folder.manifest.get("note") or "",
        "versions": ", ".join(f"{name} {value}" for name, value in report.folder.manifest["versions"].items()),
        "run": f"fingerprint {report.folder.manifest['fingerprint']}",
    }


def notes(report: Report) -> list[str]:
    """How the numbers are to be read, and what is wrong with them."""
    better = "; ".join(f"{n.name}: {n.better} is better" for n in report.protocol.numbers if n.better)
    found = [
        f"Numbers in percent, with 95 % intervals: percentiles of {DRAWS} bootstrap draws over samples, the same draws "
        f"for every method. {better}.",
    ]
    if any(line.differences for line in report.lines):
        found.append(f"Differences from {BASELINE} are paired: on the samples that both have, draw by draw.")
    late = [line for line in report.lines if line.units[0] < line.units[1]]
    if late:
        titles = ", ".join(dict.fromkeys(f"{line.title} ({line.units[0]} of {line.units[1]})" for line in late))
        found.append(f"**Not finished**, units done: {titles}. These numbers are of a part of the data.")
    counts = {line.samples for line in report.lines}
    if len(counts) > 1:
        found.append("Methods were measured on different numbers of samples; compare them by the paired differences.")
    return found


def markdown(report: Report) -> str:
    """One table; the best value of each column is bold."""
    protocol, lines = report.protocol, report.lines
    head = ["method", "explained", "n", *(title for n in protocol.numbers for title in heads(n, lines))]
    head += ["refused"]
    rows = [cells(line, report) for line in lines]
    parts = [f"# {title(report)}", ""]
    parts += [f"- {name}: {value}" for name, value in facts(report).items() if value and name != "protocol"]
    parts[2:2] = [f"{protocol.summary[:1].upper()}{protocol.summary[1:]}.", ""]
    parts += ["", table(head, rows), "", *(f"{note}\n" for note in notes(report))]
    if report.refusals:
        refused = [[r.reason, str(r.count), short(r.methods)] for r in report.refusals]
        parts += ["## Without values", "", table(["reason", "samples x methods", "methods"], refused), ""]
    return "\n".join(parts)


def heads(number: Number, lines: Sequence[Line]) -> list[str]:
    """Titles of the columns of one number."""
    return [number.name, f"{number.name} - {BASELINE}"] if any(line.differences for line in lines) else [number.name]


def cells(line: Line, report: Report) -> list[str]:
    """A row of the table."""
    found = [line.title, line.ask, str(line.samples)]
    for number in report.protocol.numbers:
        one, apart = line.numbers.get(number.name), line.differences.get(number.name)
        text = told(one) if one else "-"
        found.append(f"**{text}**" if one and one.value == best(number, line.ask, report.lines) else text)
        if len(heads(number, report.lines)) > 1:
            found.append(told(apart, signed=True) if apart else "")
    return [*found, str(sum(line.reasons.values()))]


def best(number: Number, ask: str, lines: Sequence[Line]) -> float | None:
    """The best value of a column among the lines that explain the same class."""
    values = [line.numbers[number.name].value for line in lines if line.ask == ask and line.numbers]
    values = [value for value in values if value == value]
    if not values or not number.better:
        return None
    return min(values) if number.better == "lower" else max(values)


def short(names: Sequence[str], most: int = 4) -> str:
    """`a, b, c, d and 29 more`."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; bars inside cells are escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(" ".join(c.split()).replace("|", "\\|") for c in cells) + " |" for cells in lines
    )


def cell(name: str) -> str:
    """A name from outside as a cell that no spreadsheet takes for a formula."""
    text = printable(name)
    return f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@")) else text


def as_csv(report: Report) -> str:
    """One line for each method, ask and number; values are shares, not percent."""
    settings, out = report.settings, io.StringIO()
    write = csv.writer(out, lineterminator="\n").writerow
    write(HEAD.split(","))
    data, model = settings["data"], settings["model"]
    same = [report.protocol.name, report.protocol.version, cell(data["name"]), data["samples"]]
    same += [cell(model["name"]), model["weights"]]
    for line in report.lines:
        of_line = [line.title, line.ask, line.samples, sum(line.reasons.values()), *line.units]
        for number in report.protocol.numbers if line.numbers else ():
            one, apart = line.numbers[number.name], line.differences.get(number.name)
            ends = [one.value, one.low, one.high]
            paired = [apart.value, apart.low, apart.high, line.common] if apart else ["", "", "", ""]
            write([*same, *of_line, number.name, number.better, *ends, *paired])
    return out.getvalue()
