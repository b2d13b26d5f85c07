"""What a large run costs beside its arithmetic: memory and time of the first process, and the share of the machinery.

    python -m benchmarks.scale memory 10000 100000 1000000
    python -m benchmarks.scale overhead --data FOLDER --model timm:deit_tiny_patch16_224 --weights FILE

`memory` plans, resumes and merges a run whose rows are made up, each size in a process of its own. `overhead` says
which part of a run is not the bare loop over its units, both clocked in the same run.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.page import table
from gradtoken import load
from gradtoken.benchmark.columns import merge
from gradtoken.benchmark.counting import counted
from gradtoken.benchmark.plan import Plan, Variant
from gradtoken.benchmark.request import Request, unit_of
from gradtoken.benchmark.rows import Row, packed
from gradtoken.benchmark.running import How, run
from gradtoken.benchmark.tasks import Done, Job, Task
from gradtoken.benchmark.work import measured
from gradtoken.data.sample import DataSet, Sample
from gradtoken.protocols import PROTOCOLS

PROTOCOL = "abpc/agcam2024"


@dataclass(frozen=True)
class Names(Sequence[str]):
    """Names of samples that nobody has to remember."""

    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number):
        return f"pictures/{range(self.count)[number]:09d}.jpg"


class MadeUp(How):
    """An engine that computes nothing."""

    @property
    def compute(self) -> Callable[[Job, Sequence[Task]], Generator[Done]]:
        def rows(job: Job, tasks: Sequence[Task]) -> Generator[Done]:
            (plan,), (folder,) = job.plans, job.folders
            for task in tasks:
                unit = plan.units[task.number]
                some = [Row(plan.data.ids[i], "predicted", "abpc", [i / 7]) for i in unit]
                yield Done(task, ({key: packed(some, folder.facts(unit)) for key in task.wanted[0]},), 0.0)

        return rows


def no_sample(number: int) -> Sample:
    raise NotImplementedError("no sample is read here")


def simulated(count: int) -> dict[str, float]:
    """Plan, run, resume and merge; processor seconds of each, and the most memory that this process had."""
    data = DataSet("simulated", Names(count), no_sample)
    seconds, start = {}, time.process_time()

    def lap(name: str) -> None:
        nonlocal start
        seconds[name], start = time.process_time() - start, time.process_time()

    model = load("bundled")
    before = peak()
    start = time.process_time()
    plan = Plan(PROTOCOLS[PROTOCOL], data, model, (Variant("gradtoken"),), unit=unit_of(count))
    plan.manifest()
    lap("plan")
    with tempfile.TemporaryDirectory() as place:
        run(plan, Path(place) / "run", how=MadeUp())
        lap("write")
        folder = run(plan, Path(place) / "run", how=MadeUp())
        lap("resume")
        rows, missing = merge(folder, Path(place) / "all.parquet")
        lap("merge")
        assert (rows, missing) == (count, 0)
        assert counted(folder, plan.variants).done == count
        lap("count")
    return seconds | {"samples": count, "units": len(plan.units), "before": before, "peak": peak()}


def peak() -> float:
    """MB that this process had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def apart(count: int) -> dict[str, float]:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.scale", "simulated", str(count)]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def memory(counts: Sequence[int]) -> str:
    """One line for each size."""
    names = ("plan", "write", "resume", "merge", "count")
    rows = []
    for count in counts:
        found = apart(count)
        times = [f"{found[name]:.1f} s" for name in names]
        rows.append([f"{count:,}", f"{found['units']}", *times, f"{found['before']:.0f} MB", f"{found['peak']:.0f} MB"])
    return table(["samples", "units", *names, "before", "peak"], rows)


def overhead(options: argparse.Namespace) -> str:
    """Seconds of a run, and of them those in the bare loop: samples through the model, methods, metrics."""
    torch.set_num_threads(1)
    request = Request(options.protocol, options.data, methods=tuple(options.methods), limit=options.pictures)
    protocol, data = request.checked()
    plan = replace(request.plan(protocol, data, load(options.model, weights=options.weights), 0), unit=options.unit)
    measured(plan, plan.units[0], plan.variants)  # the first pass learns what the others know
    clock = Clock()
    with tempfile.TemporaryDirectory() as place, patch("gradtoken.benchmark.tasks.measured", clock):
        whole = Clock(lambda: run(plan, Path(place) / "run"))
        whole()
    more = [f"{w / b - 1:.2%}" for w, b in zip(whole.seconds, clock.seconds, strict=True)]
    rows = [
        [name, *(f"{value:.2f} s" for value in one.seconds)] for name, one in (("run", whole), ("bare loop", clock))
    ]
    return table(["", "processor", "wall"], [*rows, ["more", *more]])


@dataclass
class Clock:
    """A function that counts its seconds: of the processor, and of the wall clock."""

    call: Callable[..., Any] = measured
    seconds: tuple[float, float] = (0.0, 0.0)

    def __call__(self, *args: Any) -> Any:
        """As the function."""
        cpu, wall = time.process_time(), time.perf_counter()
        found = self.call(*args)
        self.seconds = (self.seconds[0] + time.process_time() - cpu, self.seconds[1] + time.perf_counter() - wall)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description="What a large run costs beside its arithmetic.")
    tasks = parser.add_subparsers(dest="task", required=True)
    for name in ("memory", "simulated"):
        tasks.add_parser(name).add_argument("counts", type=int, nargs="+")
    work = tasks.add_parser("overhead")
    work.add_argument("--data", type=Path, required=True)
    work.add_argument("--model", default="timm:deit_tiny_patch16_224")
    work.add_argument("--weights", type=Path)
    work.add_argument("--protocol", default=PROTOCOL)
    work.add_argument("--methods", nargs="+", default=["gradtoken", "rollout"])
    work.add_argument("--pictures", type=int, default=64)
    work.add_argument("--unit", type=int, default=32)
    options = parser.parse_args()
    if options.task == "simulated":
        print(json.dumps(simulated(options.counts[0])))
    else:
        print(memory(options.counts) if options.task == "memory" else overhead(options))


if __name__ == "__main__":
    main()
