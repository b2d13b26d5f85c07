"""Run plans: what their folders lack is computed, here or elsewhere, and kept as soon as it is done."""

import contextlib
import os
import socket
from collections.abc import Callable, Generator, Iterator, Sequence, Set
from dataclasses import dataclass, field
from functools import partial

from gradtoken.benchmark.cluster import on_ray
from gradtoken.benchmark.counting import has_failures
from gradtoken.benchmark.folder import RunFolder
from gradtoken.benchmark.lock import locked
from gradtoken.benchmark.log import Event, Log
from gradtoken.benchmark.plan import Plan
from gradtoken.benchmark.share import Share
from gradtoken.benchmark.store import Address
from gradtoken.benchmark.tasks import Done, Job, Task, here
from gradtoken.benchmark.workers import in_processes
from gradtoken.errors import BadRun, UnknownName
from gradtoken.progress import track

ENGINES = ("here", "ray")


@dataclass(frozen=True)
class How:
    """Where and how units are computed, which changes no number.

    workers: processes of this machine; 0 computes in this one. address: of a Ray cluster. share: which units are taken.
    device: where workers compute, if not where the model is. again: also units in which samples failed.
    """

    engine: str = "here"
    workers: int = 0
    address: str | None = None
    share: Share = field(default_factory=Share)
    device: str | None = None
    again: bool = False

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise UnknownName.among("engine", self.engine, ENGINES)
        if self.engine == "ray" and self.workers:
            raise BadRun("Ray places its own workers; leave --workers out")

    @property
    def compute(self) -> Callable[[Job, Sequence[Task]], Generator[Done]]:
        """The engine."""
        if self.engine == "ray":
            return partial(on_ray, address=self.address)
        return partial(in_processes, count=self.workers) if self.workers else here


def run(plan: Plan, root: Address, limit: int | None = None, how: How | None = None) -> RunFolder:
    """Compute what the folder lacks; what it has is kept. limit: only units that begin before this sample."""
    return run_all([plan], [root], limit, how)[0]


def run_all(
    plans: Sequence[Plan],
    roots: Sequence[Address],
    limit: int | None = None,
    how: How | None = None,
    tell: Callable[[Event], None] | None = None,
) -> list[RunFolder]:
    """Several protocols at once, a folder each. tell: gets the events of the log too."""
    how = how or How()
    folders = [RunFolder.begin(root, plan) for plan, root in zip(plans, roots, strict=True)]
    log = Log(folders)

    def say(event: Event) -> None:
        log(event)
        if tell:
            tell(event)

    with contextlib.ExitStack() as stack:
        for folder in folders:
            stack.enter_context(locked(folder.root, how.share))
        job = Job.of(plans, folders, how.device)
        tasks = list(pending(job, how, limit, say))
        say({"event": "begin", **about(job, how, tasks)})
        computed = stack.enter_context(contextlib.closing((how.compute if tasks else here)(job, tasks)))
        lost, steps = 0, tasks if tell else track(tasks, f"{job.name}, units of {plans[0].unit}")
        try:
            for _, done in zip(steps, computed, strict=True):
                lost += bool(done.lost)
                keep(job, done, say)
        finally:
            say({"event": "end", "lost": lost})
    return folders


def about(job: Job, how: How, tasks: Sequence[Task]) -> Event:
    """What a process sets out to do."""
    return {
        "name": job.name,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "share": str(how.share),
        "engine": how.engine,
        "workers": how.workers,
        "device": job.device,
        "threads": job.threads,
        "units": len(tasks),
        "pairs": sum(task.pairs for task in tasks),
    }


def pending(job: Job, how: How, limit: int | None, say: Callable[[Event], None]) -> Iterator[Task]:
    """What is left to do; files that are damaged are said."""
    surveys = [Survey.of(plan, folder, how.again) for plan, folder in zip(job.plans, job.folders, strict=True)]
    for number in filter(how.share.has, range(max(len(plan.units) for plan in job.plans))):
        wanted, pairs = [], 0
        marked = {key for survey in surveys for key in survey.marked(number)}
        for survey in surveys:
            units, keys = survey.plan.units, tuple[str, ...]()
            if number < len(units) and (limit is None or units[number].start < limit):
                keys = survey.lacking(units[number], marked, say)
                pairs += len(keys) * len(units[number])
            wanted.append(keys)
        if pairs:
            yield Task(number, tuple(wanted), pairs)


@dataclass(frozen=True, eq=False)
class Survey:
    """What a folder holds of a plan. names: of the files that are there. again: files with failures are not enough."""

    plan: Plan
    folder: RunFolder
    again: bool
    names: set[str]

    @classmethod
    def of(cls, plan: Plan, folder: RunFolder, again: bool) -> "Survey":
        """As it is now."""
        return cls(plan, folder, again, folder.marks.union(*map(folder.names, plan.variants)))

    def marked(self, number: int) -> list[str]:
        """Keys of the methods whose files of a unit were being put in place when a run stopped."""
        units = self.plan.units
        there = number < len(units) and self.folder.mark(units[number]) in self.names
        return self.folder.interrupted(units[number]) if there else []

    def lacking(self, unit: range, marked: Set[str], say: Callable[[Event], None]) -> tuple[str, ...]:
        """Keys of the methods that a unit lacks, in the order of the plan. marked: in any folder, so all make them."""
        variants, folder = self.plan.variants, self.folder
        there = [variant for variant in variants if folder.name(variant, unit) in self.names]
        bad = folder.missing(there, unit)
        for key, reason in bad.items():
            say({"event": "damaged", "folder": str(folder.root), "key": key, "first": unit.start, "reason": reason})
        good = {variant.key: variant for variant in there if variant.key not in bad and variant.key not in marked}
        if self.again:
            good = {key: variant for key, variant in good.items() if not has_failures(folder, variant, unit)}
        return tuple(variant.key for variant in variants if variant.key not in good)


def keep(job: Job, done: Done, say: Callable[[Event], None]) -> None:
    """Put the files of a unit in place, and say so."""
    about = {"number": done.task.number, "worker": done.worker}
    for note in done.notes:
        say({**note, **about})
    if done.lost:
        say({"event": "lost", **about, "reason": done.lost})
        return
    given = [
        (folder, plan.units[done.task.number], files)
        for plan, folder, files in zip(job.plans, job.folders, done.files, strict=True)
        if files
    ]
    if len(given) > 1:  # protocols that shared maps are asked for together if this is interrupted
        for folder, unit, files in given:
            folder.begin_keeping(unit, files)
    for folder, unit, files in given:
        folder.keep(unit, files)
    for folder, unit, files in given:
        folder.end_keeping(unit, files)
    say({"event": "unit", **about, "pairs": done.task.pairs, "seconds": round(done.seconds, 3)})
