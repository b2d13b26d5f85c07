"""One table of all methods: the first number of every protocol, on the samples that no method was chosen on.

    python -m benchmarks.evaluation run --part report ... --runs DIR
    python -m benchmarks.beyond --runs DIR

writes benchmarks/results/beyond.csv, the tables below the mark in docs/beyond-gradtoken.md and that of README.md. With
`--whole` a protocol of single pictures is read from runs of all samples instead, those of the part alone.
"""

import argparse
import csv
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.evaluation import EXPERIMENTS, Experiment, part_of
from gradtoken.benchmark.report import Report
from gradtoken.benchmark.summary import BASELINE, Estimate, Line
from gradtoken.benchmark.written import table
from gradtoken.data.opening import open_data
from gradtoken.errors import BadRun

RESULTS, PAGE, MARK = Path("benchmarks/results/beyond.csv"), Path("docs/beyond-gradtoken.md"), "<!-- measured -->"
README, MARKS = Path("README.md"), ("<!-- held-out -->", "<!-- end -->")
BRIEF, SHOWN = ("mosaic 2 x 2", "object mIoU", "energy in box", "positive", "negative"), 4  # of the README
SHORT = {"deit_tiny_patch16_224": "DeiT", "vit_tiny_patch16_224": "ViT-Ti", "bundled": "bundled"}
TITLES = {
    "grid-pointing-game/2x2": ("mosaic 2 x 2", "share in the right cell"),
    "grid-pointing-game/3x3": ("mosaic 3 x 3", "share in the right cell"),
    "segmentation/largest-object": ("object mIoU", "mIoU, best threshold"),
    "imagenet-segmentation/gradtoken2025": ("foreground mIoU", "mIoU, best threshold"),
    "voc2012/gradtoken2025": ("classes mIoU", "mIoU, best threshold"),
    "energy-in-mask": ("energy in box", "energy inside"),
    "pointing-game": ("pointing", "hits within 15 px"),
    "localisation/agcam2024": ("box IoU", "IoU"),
    "perturbation/chefer2021": ("positive", "positive"),
}
SINGLE = ("energy-in-mask", "pointing-game", "localisation/agcam2024", "perturbation/chefer2021")
HEAD = "number model better samples method value low high from_best from_best_low from_best_high"
EXTRA = {"perturbation/chefer2021": ("negative", "negative")}


@dataclass(frozen=True)
class Column:
    """One number of one protocol on one model. better: which end is good. values, apart: by method, the second from the
    best method's on the same samples.
    """

    title: str
    model: str
    better: str
    values: dict[str, Estimate]
    apart: dict[str, Estimate]
    samples: int

    def wins(self, method: str) -> bool:
        """Whether it is the best, or not told apart from it."""
        if method not in self.apart:
            return method in self.values
        return self.apart[method].low <= 0 <= self.apart[method].high


@dataclass(frozen=True)
class Held:
    """Where the held-out samples are: runs of these alone, or `whole` runs of which only `samples` are read."""

    runs: Path
    whole: Path | None
    samples: frozenset[str]

    def report(self, model: str, experiment: Experiment, baseline: str = BASELINE) -> Report:
        """Of the run of all samples where there is one."""
        parts = (model, experiment.name)
        if self.whole and experiment.protocol in SINGLE and self.whole.joinpath(*parts).is_dir():
            return Report.of(self.whole.joinpath(*parts), baseline, self.samples)
        return Report.of(self.runs.joinpath(*parts), baseline)


def columns(held: Held) -> list[Column]:
    """What is there, protocol by protocol."""
    found = []
    for experiment in EXPERIMENTS:
        for name, model in SHORT.items():
            wanted = [one.get(experiment.protocol) for one in (TITLES, EXTRA)]
            for title, number in (pair for pair in wanted if pair and not experiment.grid):
                try:
                    found.append(column(partial(held.report, name, experiment), title, number, model))
                except BadRun as error:
                    print(f"{experiment.name}, {name}: {error}")
    return found


def column(read: Callable[..., Report], title: str, number: str, model: str) -> Column:
    """Read a run twice: for its best method, and for the differences from that."""
    report = read()
    (better,) = (one.better for one in report.protocol.numbers if one.name == number)
    kept = by_method(report.lines)
    values = {method: line.numbers[number] for method, line in kept.items()}
    best = (max if better == "higher" else min)(values, key=lambda method: values[method].value)
    again = by_method(read(best).lines)
    apart = {method: line.differences[number] for method, line in again.items() if line.differences}
    return Column(title, model, better, values, apart, max(line.samples for line in kept.values()))


def by_method(lines: tuple[Line, ...]) -> dict[str, Line]:
    """The line of the label where several classes were explained, else the only one."""
    kept: dict[str, Line] = {}
    for line in lines:
        if line.numbers and (line.title not in kept or line.ask == "label"):
            kept[line.title] = line
    return kept


def told(one: Column, method: str) -> str:
    """In percent; bold where nothing is told apart from the best."""
    if method not in one.values:
        return "-"
    text = f"{100 * one.values[method].value:.1f}"
    return f"**{text}**" if one.wins(method) else text


def page(found: list[Column]) -> str:
    """A table for each model: methods by how often they are first or tied first on all of them, then by name."""
    order, wins = ranked(found)
    parts = []
    for model in dict.fromkeys(one.model for one in found):
        some = [one for one in found if one.model == model]
        rows = [[f"`{m}`", str(wins[m]), *(told(one, m) for one in some)] for m in order]
        sizes = ["samples", "", *(str(one.samples) for one in some)]
        head = ["method", "first or tied", *(one.title for one in some)]
        body = table(head, [["better", f"of {len(found)}", *(one.better for one in some)], sizes, *rows])
        parts.append(f"### {model}\n\n{body}")
    return "\n\n".join(parts)


def ranked(found: list[Column]) -> tuple[list[str], dict[str, int]]:
    """Methods, best first, and how many columns each wins."""
    wins = {m: sum(one.wins(m) for one in found) for m in sorted({m for one in found for m in one.values})}
    return sorted(wins, key=lambda m: -wins[m]), wins


def short(found: list[Column]) -> str:
    """The best methods and GradToken, with all models in a cell, for the README."""
    order, wins = ranked(found)
    models = list(dict.fromkeys(one.model for one in found))
    titles = [title for title in BRIEF if any(one.title == title for one in found)]
    rows = []
    for method in dict.fromkeys([*order[:SHOWN], BASELINE]):
        cells = [" / ".join(told(one, method) for one in found if one.title == title) for title in titles]
        rows.append([f"`{method}`", f"{wins[method]} of {len(found)}", *cells])
    better = {one.title: one.better for one in found}
    head = ["", "first or tied", *(f"{title} ({better[title]} is better)" for title in titles)]
    return f"{' / '.join(models)}, in percent:\n\n{table(head, rows)}"


def put(file: Path, begin: str, end: str, text: str) -> None:
    """Write a text between two marks of a file."""
    before, rest = file.read_text().split(begin)
    file.write_text(f"{before}{begin}\n\n{text}\n{end and chr(10) + end + rest.split(end)[1]}")


def write(found: list[Column]) -> None:
    """Both files."""
    with RESULTS.open("w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(HEAD.split())
        for one in found:
            for method, value in sorted(one.values.items()):
                apart = one.apart.get(method)
                ends = [apart.value, apart.low, apart.high] if apart else ["", "", ""]
                same = [one.title, one.model, one.better, one.samples, method]
                out.writerow([*same, value.value, value.low, value.high, *ends])
    put(PAGE, MARK, "", page(found))
    put(README, *MARKS, short(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True, help="folder of run folders of the part")
    parser.add_argument("--whole", type=Path, help="folder of run folders of all samples")
    parser.add_argument("--pictures", type=Path, help="the data set of these")
    options = parser.parse_args()
    if (options.whole is None) != (options.pictures is None):
        parser.error("--whole and --pictures go together")
    samples = part_of(open_data(options.pictures), "report").ids if options.whole else ()
    write(columns(Held(options.runs, options.whole, frozenset(samples))))


if __name__ == "__main__":
    main()
