"""All protocols, all methods, the real models at hand: run folders, tables and one page.

    python -m benchmarks.evaluation run --pictures FOLDER --masks FOLDER --weights NAME=FILE bundled ... --runs DIR
    python -m benchmarks.evaluation page --runs DIR

`run` goes on with what DIR holds; `--methods`, `--experiments` and `--limit` (the first samples of the same run) choose
what is done now. `--part` takes every other sample: those to choose a method on, or those to report on, each in a DIR
of its own. `page` writes benchmarks/results/evaluation.csv and docs/results.md from whatever is there.

FOLDERs are data sets as `gradtoken data kinds` lists them: photographs with labels and boxes, and with masks.
"""

import argparse
import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from gradtoken import load
from gradtoken.batch import bars, probe_of
from gradtoken.benchmark.plan import Plan
from gradtoken.benchmark.report import Report
from gradtoken.benchmark.request import Request
from gradtoken.benchmark.running import run_all
from gradtoken.benchmark.written import as_csv, table, told
from gradtoken.data.sample import DataSet
from gradtoken.errors import BadRun
from gradtoken.methods import METHODS
from gradtoken.models.model import Model

RESULTS, PAGE = Path("benchmarks/results/evaluation.csv"), Path("docs/results.md")
NAMES = {
    "deit_tiny_patch16_224": "DeiT-tiny (LayerNorm rounded)",
    "vit_tiny_patch16_224": "ViT-Ti (stored in float16)",
}


PARTS = ("choose", "report")


@dataclass(frozen=True)
class Experiment:
    """One protocol on one data set. grid: an option of GradToken that takes all its values, instead of all methods."""

    protocol: str
    data: str
    grid: str | None = None

    @property
    def name(self) -> str:
        """Of its folder."""
        return self.protocol.replace("/", "-") + (f"-{self.grid}" if self.grid else "")


EXPERIMENTS = [
    Experiment("grid-pointing-game/2x2", "pictures"),
    Experiment("grid-pointing-game/3x3", "pictures"),
    Experiment("imagenet-segmentation/gradtoken2025", "masks"),
    Experiment("segmentation/largest-object", "masks"),
    Experiment("voc2012/gradtoken2025", "masks"),
    Experiment("energy-in-mask", "pictures"),
    Experiment("pointing-game", "pictures"),
    Experiment("localisation/agcam2024", "pictures"),
    Experiment("perturbation/chefer2021", "pictures"),
    Experiment("confidence/chattopadhyay2018", "pictures"),
    Experiment("class-sensitivity/rebuffi2020", "pictures"),
    Experiment("weight-randomisation/adebayo2018", "pictures"),
    Experiment("max-sensitivity/yeh2019", "pictures"),
    *(Experiment("imagenet-segmentation/gradtoken2025", "masks", grid) for grid in ("propagation", "heads", "depth")),
    *(Experiment("perturbation/gradtoken2025", "pictures", grid) for grid in ("propagation", "heads", "depth")),
]


def carry_out(options: argparse.Namespace) -> None:
    """What is asked for; the experiments of one data set share their maps."""
    torch.set_num_threads(options.threads)
    asked = chosen(options.experiments)
    for item in options.weights:
        name = item.partition("=")[0]
        for data in ("masks", "pictures"):
            model = loaded(item)
            plans, roots = [], []
            for experiment in asked:
                if experiment.data == data:
                    plan = planned(experiment, model, options)
                    model = plan.model  # its classes may be groups by now
                    plans.append(plan)
                    roots.append(options.runs / name / experiment.name)
                    print(
                        f"{experiment.name}, {name}: {len(plan.data)} samples, {len(plan.variants)} methods", flush=True
                    )
            if plans:
                with bars():
                    run_all(plans, roots, options.limit)


def loaded(item: str) -> Model:
    """NAME=FILE, or the name of a model that needs no file of weights."""
    name, _, file = item.partition("=")
    return load(f"timm:{name}", weights=file) if file else load(name)


def planned(experiment: Experiment, model: Model, options: argparse.Namespace) -> Plan:
    """One experiment on one model."""
    methods = ("gradtoken",) if experiment.grid else tuple(options.methods)
    data = getattr(options, experiment.data)
    request = Request(experiment.protocol, data, methods=methods, grid=experiment.grid, batch=options.batch)
    blocks = len(probe_of(model).earlier) + 1 if experiment.grid == "depth" else 0
    protocol, found = request.checked()
    return request.plan(protocol, part_of(found, options.part), model, blocks)


def part_of(data: DataSet, part: str) -> DataSet:
    """Every other sample: `choose` the first, the third ..., `report` the others; `all` takes both."""
    if part == "all":
        return data
    numbers = range(len(data))[PARTS.index(part) :: 2]
    return replace(
        data, name=f"{data.name}, {part}", ids=[data.ids[i] for i in numbers], read=lambda i: data.read(numbers[i])
    )


def chosen(parts: list[str]) -> list[Experiment]:
    """Experiments whose name begins with one of these; all for none."""
    return [one for one in EXPERIMENTS if not parts or any(one.name.startswith(part) for part in parts)]


def reports(runs: Path) -> Iterator[tuple[Experiment, str, Report]]:
    """What is there, in the order of the experiments."""
    for experiment in EXPERIMENTS:
        for name in NAMES:
            try:
                yield experiment, name, Report.of(runs / name / experiment.name)
            except BadRun as error:
                print(f"{experiment.name}, {name}: {error}")


def write(options: argparse.Namespace) -> None:
    """Both files."""
    lines: list[list[str]] = []
    parts = [PAGE.read_text().partition("<!-- measured -->")[0] + "<!-- measured -->"]
    for experiment, name, report in reports(options.runs):
        head, *rows = csv.reader(io.StringIO(as_csv(report)))
        lines = lines or [["grid", *head]]
        lines += [[experiment.grid or "", *row] for row in rows]
        parts.append(section(experiment, name, report))
    with RESULTS.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(lines)
    PAGE.write_text("\n\n".join(parts) + "\n")


def section(experiment: Experiment, name: str, report: Report) -> str:
    """One table: the two first numbers with their intervals, and the first's difference from GradToken."""
    protocol, settings = report.protocol, report.settings
    first, *others = protocol.numbers
    second = others[:1]
    head = ["method", "explained", "n", first.name, "difference", *(number.name for number in second)]
    rows = []
    for line in report.lines:
        if line.numbers:
            apart = line.differences.get(first.name)
            values = [told(line.numbers[number.name]) for number in second]
            told_apart = told(apart, signed=True) if apart else ""
            rows.append(
                [f"`{line.title}`", line.ask, str(line.samples), told(line.numbers[first.name]), told_apart, *values]
            )
    about = f"{settings['data']['name']}; {first.name}: {first.better} is better."
    refused = [f"{one.count} x {one.reason} ({', '.join(one.methods[:3])})" for one in report.refusals]
    notes = f"\n\nWithout values: {'; '.join(refused)}." if refused else ""
    grid = f", {experiment.grid}" if experiment.grid else ""
    return f"## {protocol.name}{grid}: {NAMES[name]}\n\n{about}\n\n{table(head, rows)}{notes}"


def main() -> None:
    parser = argparse.ArgumentParser(description="All protocols on real models.")
    tasks = parser.add_subparsers(dest="task", required=True)
    work, page = tasks.add_parser("run"), tasks.add_parser("page")
    for task in (work, page):
        task.add_argument("--runs", type=Path, required=True, help="folder of run folders")
    work.add_argument("--pictures", type=Path, required=True)
    work.add_argument("--masks", type=Path, required=True)
    work.add_argument("--weights", nargs="+", required=True, metavar="NAME=FILE", help=", ".join(NAMES) + "; bundled")
    work.add_argument("--methods", nargs="+", default=list(METHODS))
    work.add_argument("--experiments", nargs="+", default=[], help="beginnings of their names")
    work.add_argument("--limit", type=int)
    work.add_argument("--part", choices=("all", *PARTS), default="all")
    work.add_argument("--batch", type=int, default=8)
    work.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    if options.task == "run":
        carry_out(options)
    else:
        write(options)


if __name__ == "__main__":
    main()
