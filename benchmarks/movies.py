"""Movie Reviews: the F1 of each k with paired differences from GradToken, and what erasing words does.

    python -m benchmarks.movies --rationales runs/movies --rationales runs/movies-few --faithfulness runs/erased

reads runs of `gradtoken benchmark rationales` and writes benchmarks/results/movies.csv, docs/figures/movies.png and the
part of docs/movies.md below its mark. The first of the runs of one protocol is the main one.
"""

import argparse
import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from benchmarks.localisation import between_marks
from gradtoken.benchmark.columns import column_of
from gradtoken.benchmark.report import Report
from gradtoken.benchmark.summary import BASELINE, Estimate, Line, summarised
from gradtoken.benchmark.written import table as markdown
from gradtoken.benchmark.written import told
from gradtoken.protocols.protocol import Array, Means, Number
from gradtoken.protocols.rationales import TENS, Rationales

ROOT = Path(__file__).parent.parent
HEAD = [
    "protocol",
    "data",
    "model",
    "method",
    "explained",
    "texts",
    "refused",
    "number",
    "better",
    "value",
    "low",
    "high",
]
HEAD += ["difference", "difference_low", "difference_high", "texts_of_both"]
COLOURS = {BASELINE: "#e8262c", "random": "black", "raw_attention": "C0", "rollout": "C1", "gradcam": "C2", "lrp": "C8"}
COLOURS |= {"partial_lrp": "C4", "transattrib": "C5", "generic_attention": "C6", "attcat": "C9"}


@dataclass(frozen=True, kw_only=True)
class EachK(Rationales):
    """The same with one number for each k."""

    @property
    def numbers(self) -> tuple[Number, ...]:
        return (*super().numbers, *(Number(at(k), "higher") for k in self.averaged))

    def conclude(self, means: Means) -> dict[str, Array]:
        return super().conclude(means) | {at(k): means["f1"][..., self.ks.index(k)] for k in self.averaged}


def at(k: int) -> str:
    return f"token-F1 at k = {k}"


def lines_of(report: Report) -> list[Line]:
    """The report's lines, of rationales with the F1 of each k."""
    protocol = report.protocol
    if not isinstance(protocol, Rationales):
        return list(report.lines)
    each = EachK(**{field.name: getattr(protocol, field.name) for field in fields(protocol)})
    columns = {variant.title: column_of(report.folder, variant) for variant in report.folder.variants}
    found = {line.title: line for line in summarised(columns.values(), each, columns[BASELINE])}
    return [found[line.title] for line in report.lines]


# The table ------------------------------------------------------------------------------------------------------------


def rows(report: Report, lines: Sequence[Line]) -> Iterator[list[Any]]:
    """One for each method and number; shares, not percent."""
    better = {number.name: number.better for number in report.protocol.numbers}
    data, model = (report.settings[name] for name in ("data", "model"))
    for line in lines:
        same = [report.protocol.name, data["name"], model["weights"], line.title, line.ask, line.samples]
        for name, one in line.numbers.items():
            apart = line.differences.get(name)
            paired = [apart.value, apart.low, apart.high, line.common] if apart else [""] * 4
            values = [one.value, one.low, one.high]
            yield [*same, sum(line.reasons.values()), name, better.get(name, "higher"), *values, *paired]


def table(report: Report, lines: Sequence[Line], names: Sequence[str]) -> str:
    """Markdown: each number, and its difference from GradToken."""
    head = ["method", "n", *(title for name in names for title in (name, "difference"))]
    body = [
        [f"`{line.title}`", str(line.samples), *(cell for name in names for cell in cells(line, name))]
        for line in lines
        if line.numbers
    ]
    refused = [f"`{line.title}`" for line in lines if not line.numbers]
    data = report.settings["data"]
    text = f"{report.protocol.name}, {data['name']}, {data['samples']} texts\n\n" + markdown(head, body)
    return text + (f"\n\nRefused, for they need pictures: {', '.join(refused)}." if refused else "")


def cells(line: Line, name: str) -> list[str]:
    apart = line.differences.get(name)
    return [told(line.numbers[name]), told(apart, signed=True) if apart else ""]


def ordering(lines: Sequence[Line]) -> str:
    """For each k, the methods above GradToken, and of which the interval of the difference tells."""
    body = []
    for k in TENS:
        apart = {line.title: line.differences[at(k)] for line in lines if line.differences}
        cells = [shown(apart, lambda one: one.low > 0), shown(apart, lambda one: one.low <= 0 <= one.high)]
        body.append([str(k), *cells, str(sum(one.high < 0 for one in apart.values()))])
    return markdown(["k", "above GradToken", "not told apart from it", "below it"], body)


def shown(found: dict[str, Estimate], which: Any) -> str:
    return ", ".join(f"`{name.split()[0]}`" for name, one in found.items() if which(one)) or "none"


def figure(lines: Sequence[Line], path: Path) -> None:
    """F1 over k as in the paper's Figure 6: GradToken, what the paper compares it with, and the others in grey."""
    from matplotlib.figure import Figure

    sheet = Figure(figsize=(7, 4.5), layout="constrained")
    ax = sheet.add_subplot()
    for line in sorted((line for line in lines if line.curves), key=lambda line: line.title == BASELINE):
        one, name = line.curves["token-F1"], line.title.split()[0]
        ax.plot(one.x, 100 * one.y, label=name if name in COLOURS else None, **look(name))
        if name == BASELINE:
            ax.fill_between(one.x, 100 * one.low, 100 * one.high, color="#e8262c", alpha=0.15, lw=0)
    ax.set(xlabel="k, words taken", ylabel="token-F1, %", xlim=(5, 80), ylim=(0, None))
    ax.grid(alpha=0.2)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=8, ncols=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.savefig(path, dpi=130)


def look(name: str) -> dict[str, Any]:
    """Of a method's curve."""
    return {"color": COLOURS.get(name, "0.8"), "lw": 2.2 if name == BASELINE else 1.2, "zorder": 2 + (name in COLOURS)}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Movie Reviews: tables and the curves of F1.")
    parser.add_argument("--rationales", type=Path, action="append", required=True, help="runs of movies/eraser")
    parser.add_argument("--faithfulness", type=Path, action="append", default=[], help="runs of faithfulness/eraser")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "movies.md")
    parser.add_argument("--csv", type=Path, default=ROOT / "benchmarks" / "results" / "movies.csv")
    parser.add_argument("--figure", type=Path, default=ROOT / "docs" / "figures" / "movies.png")
    options = parser.parse_args(arguments)
    marked = [(report, lines_of(report)) for report in map(Report.of, options.rationales)]
    erased = [(report, lines_of(report)) for report in map(Report.of, options.faithfulness)]
    with options.csv.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([HEAD, *(row for one in marked + erased for row in rows(*one))])
    figure(marked[0][1], options.figure)
    first = [marked[0][0].protocol.numbers[0].name, "AUPRC"]
    parts = [table(*one, first) for one in marked] + [ordering(marked[0][1])]
    parts += [table(*one, ["comprehensiveness", "sufficiency"]) for one in erased]
    between_marks(options.page, "\n\n".join(["", *parts, ""]))


if __name__ == "__main__":
    main()
