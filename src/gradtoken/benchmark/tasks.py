"""What a run hands out, and what comes back: units of samples, wherever they are computed."""

import copy
import time
import traceback
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from gradtoken.benchmark.folder import RunFolder
from gradtoken.benchmark.plan import Plan
from gradtoken.benchmark.rows import packed
from gradtoken.benchmark.short import noted
from gradtoken.benchmark.work import Maps, measured
from gradtoken.errors import GradTokenError
from gradtoken.methods import METHODS
from gradtoken.models.model import need
from gradtoken.registry import Entry


@dataclass(frozen=True)
class Task:
    """number: of the unit. wanted: keys of the methods that each plan lacks there. pairs: of sample and method."""

    number: int
    wanted: tuple[tuple[str, ...], ...]
    pairs: int


@dataclass(frozen=True)
class Done:
    """files: contents by key, for each plan. lost: why there are none. worker: who computed. notes: what was halved."""

    task: Task
    files: tuple[dict[str, bytes], ...]
    seconds: float
    worker: str = ""
    notes: tuple[dict[str, Any], ...] = ()
    lost: str = ""


@dataclass(frozen=True, eq=False)
class Job:
    """All that computing takes. folders: of the plans, for what their files say. threads: of PyTorch.

    Numbers hang on the threads by rounding, so each worker has as many.
    """

    plans: tuple[Plan, ...]
    folders: tuple[RunFolder, ...]
    device: str
    threads: int

    @classmethod
    def of(cls, plans: Sequence[Plan], folders: Sequence[RunFolder], device: str | None = None) -> "Job":
        """device: where workers compute, if not where the first model is."""
        own = next(plans[0].model.net.parameters()).device.type
        return cls(tuple(plans), tuple(folders), device or own, torch.get_num_threads())

    @property
    def name(self) -> str:
        """Of its protocols."""
        return ", ".join(plan.protocol.name for plan in self.plans)


def carried_out(job: Job, task: Task, worker: str = "") -> Done:
    """Compute one unit. What a method says of a sample and class is computed once for plans with the same network."""
    maps: Maps | None = {} if len(job.plans) > 1 else None
    start, files = time.monotonic(), []
    with noted() as notes:
        for plan, folder, keys in zip(job.plans, job.folders, task.wanted, strict=True):
            found = {}
            if keys:
                unit = plan.units[task.number]
                rows = measured(plan, unit, [v for v in plan.variants if v.key in keys], maps)
                found = {key: packed(some, folder.facts(unit)) for key, some in rows.items()}
            files.append(found)
    return Done(task, tuple(files), time.monotonic() - start, worker, tuple(notes))


def attempted(job: Job, task: Task, worker: str) -> Done | GradTokenError:
    """The same where another process waits for the answer: an error is handed back."""
    try:
        return carried_out(job, task, worker)
    except GradTokenError as error:
        return error
    except Exception:  # whatever it is, the other units go on without it
        return Done(task, ({},) * len(job.plans), 0.0, worker, lost=traceback.format_exc())


def shipped(job: Job) -> bytes:
    """A job for another process, its networks in main memory, with the methods of its plans."""
    known: dict[int, nn.Module] = {}
    plans = []
    for plan in job.plans:
        net = plan.model.net
        known.setdefault(id(net), net if job.device == "cpu" else copy.deepcopy(net).cpu())
        plans.append(replace(plan, model=replace(plan.model, net=known[id(net)])))
    entries = {variant.method: METHODS[variant.method] for plan in plans for variant in plan.variants}
    content: bytes = need("cloudpickle", "benchmark").dumps((replace(job, plans=tuple(plans)), entries))
    return content


def unpacked(content: bytes) -> Job:
    """The job in a process that was started for it."""
    from gradtoken.models._torchvision import ensure_torchvision

    ensure_torchvision()  # before a pickled model imports its library
    found: tuple[Job, dict[str, Entry]] = need("cloudpickle", "benchmark").loads(content)
    job, entries = found
    for name, entry in entries.items():
        if name not in METHODS:  # of the user's own program
            METHODS.enter(entry)
    torch.set_num_threads(job.threads)
    for plan in job.plans:
        plan.model.net.to(job.device)
    return job


def here(job: Job, tasks: Sequence[Task]) -> Generator[Done]:
    """One unit after the other, in this process."""
    for task in tasks:
        yield carried_out(job, task)
