"""What was tried before `gaze` and `halo` were chosen, on the part of the samples that is for choosing.

    python -m benchmarks.search --pictures FOLDER --masks FOLDER --weights NAME=FILE ... --runs DIR [--limit N]

goes on with what DIR holds and writes benchmarks/results/search.csv from it: a line for each candidate, protocol,
number and model. The protocols are those of `benchmarks.beyond`; `--limit` holds for perturbation.
"""

import argparse
import csv
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.beyond import EXTRA, SHORT, TITLES, by_method
from benchmarks.candidates import CANDIDATES, Candidate
from benchmarks.evaluation import EXPERIMENTS, Experiment, planned
from gradtoken import load
from gradtoken.batch import bars
from gradtoken.benchmark.report import Report
from gradtoken.benchmark.running import run_all
from gradtoken.methods import METHODS
from gradtoken.probe import Probe

RESULTS = Path("benchmarks/results/search.csv")
WANTED = ("grid-pointing-game/2x2", "segmentation/largest-object", "voc2012/gradtoken2025", "perturbation/chefer2021")
TRIED = [one for one in EXPERIMENTS if one.protocol in WANTED and not one.grid]


def register(title: str, candidate: Candidate) -> str:
    """A candidate as a method of this process; its name."""

    def method(probe: Probe) -> Tensor:
        return candidate(probe)

    method.__name__ = title.replace(", ", "-").replace(" ", "_")
    method.__doc__ = f"{title}.\n\nReturns (B, K, S)."
    paper = METHODS["gradtoken"].paper
    METHODS.add(paper=paper, formula=title, cost="1 F + K B", needs=("plain", "last"))(method)
    return method.__name__


def carry_out(options: argparse.Namespace) -> None:
    """Every candidate under every protocol."""
    torch.set_num_threads(1)
    for item in options.weights:
        name, file = item.split("=", 1)
        for experiment in TRIED:
            plan = planned(experiment, load(f"timm:{name}", weights=file), options)
            limit = options.limit if experiment.protocol.startswith("perturbation") else None
            with bars():
                run_all([plan], [options.runs / name / experiment.name], limit)


def lines(options: argparse.Namespace, experiment: Experiment, name: str) -> list[list[object]]:
    """The numbers of one run."""
    report = Report.of(options.runs / name / experiment.name)
    found = []
    for wanted in (TITLES, EXTRA):
        title, number = wanted.get(experiment.protocol, ("", ""))
        for method, line in sorted(by_method(report.lines).items()) if title else ():
            one = line.numbers[number]
            found.append([title, SHORT[name], method, line.samples, one.value, one.low, one.high])
    return found


def write(options: argparse.Namespace) -> None:
    """All of them."""
    names = [item.split("=", 1)[0] for item in options.weights]
    rows = [row for experiment in TRIED for name in names for row in lines(options, experiment, name)]
    with RESULTS.open("w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["number", "model", "candidate", "samples", "value", "low", "high"])
        out.writerows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--masks", type=Path, required=True)
    parser.add_argument("--weights", nargs="+", required=True, metavar="NAME=FILE")
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--limit", type=int)
    parser.set_defaults(part="choose", batch=8)
    options = parser.parse_args()
    options.methods = [
        "gradtoken",
        "generic_attention",
        *(register(title, candidate) for title, candidate in CANDIDATES.items()),
    ]
    carry_out(options)
    write(options)


if __name__ == "__main__":
    main()
