"""Units in processes of this machine. One that dies is replaced, and its unit is given out again."""

import contextlib
import os
import signal
from collections import Counter, deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import torch

from gradtoken.benchmark.tasks import Done, Job, Task, attempted, shipped, unpacked
from gradtoken.errors import BadRun, GradTokenError

TRIES = 3  # of one unit before it is left for another run
HOPELESS = 10  # workers that end one after the other, while no unit is done
VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass
class Worker:
    """A process, and the unit that it computes."""

    name: str
    environment: dict[str, str]
    process: BaseProcess
    pipe: Connection
    task: Task

    @classmethod
    def start(cls, content: bytes, number: int, environment: dict[str, str], task: Task) -> "Worker":
        """With its first unit. The process begins anew (spawn): CUDA and threads do not survive a fork."""
        context = get_context("spawn")
        mine, its = context.Pipe()
        name = f"worker {number}" + "".join(f", GPU {value}" for value in environment.values())
        process = context.Process(target=serve, args=(its, content, environment, name), daemon=True)
        process.start()
        its.close()  # so that the end of the process ends the connection
        found = cls(name, environment, process, mine, task)
        found.give(task)
        return found

    def give(self, task: Task) -> None:
        """The next unit; that a process died before is found where its answer is read."""
        self.task = task
        with contextlib.suppress(OSError):
            self.pipe.send(task)

    def answer(self) -> Done | GradTokenError | None:
        """What it computed, or nothing from one that died."""
        try:
            found: Done | GradTokenError = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            return None
        return found


@dataclass
class Team:
    """Workers, and what is left to do."""

    content: bytes
    tasks: deque[Task]
    workers: dict[int, Worker] = field(default_factory=dict)
    tries: Counter[int] = field(default_factory=Counter)
    deaths: int = 0

    def employ(self, number: int, environment: dict[str, str]) -> None:
        """A worker for the next unit, if there is one."""
        if self.tasks:
            self.workers[number] = Worker.start(self.content, number, environment, self.tasks.popleft())

    def receive(self, number: int) -> Done | None:
        """What a worker says or that it died; it gets the next unit."""
        worker = self.workers.pop(number)
        found, task = worker.answer(), worker.task
        if isinstance(found, GradTokenError):
            raise found
        if found is not None and not found.lost:
            self.deaths = 0
            if self.tasks:
                worker.give(self.tasks.popleft())
                self.workers[number] = worker
            else:
                worker.pipe.close()
            return found
        self.tries[task.number] += 1
        self.deaths += 1
        reason = found.lost if found else f"its process ended with code {worker.process.exitcode}"
        if self.deaths == HOPELESS:
            raise BadRun(f"{HOPELESS} workers ended one after the other; try without --workers; the last: {reason}")
        again = self.tries[task.number] < TRIES
        if again:
            self.tasks.append(task)
        self.employ(number, worker.environment)
        return None if again else Done(task, ({},) * len(task.wanted), 0.0, worker.name, lost=reason)


def in_processes(job: Job, tasks: Sequence[Task], count: int) -> Generator[Done]:
    """Units in whatever order they are done, by `count` processes; on GPUs these take turns."""
    team = Team(shipped(job), deque(tasks))
    devices = visible(job.device)
    try:
        for number in range(count):
            team.employ(number, {VISIBLE: devices[number % len(devices)]} if devices else {})
        while team.workers:
            pipes = {worker.pipe: number for number, worker in team.workers.items()}
            for pipe in wait(list(pipes)):
                done = team.receive(pipes[pipe])  # type: ignore[index]
                if done:
                    yield done
    finally:
        for worker in team.workers.values():
            worker.process.kill()
            worker.process.join()


def visible(device: str) -> list[str]:
    """The names of the GPUs that this process may use, for its workers."""
    if device != "cuda":
        return []
    known = os.environ.get(VISIBLE)
    return known.split(",") if known else [str(i) for i in range(torch.cuda.device_count())]


def serve(pipe: Connection, content: bytes, environment: dict[str, str], name: str) -> None:
    """Compute what comes through the pipe until it ends. The first process alone answers to Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(environment)  # before CUDA is begun
    job = unpacked(content)
    while True:
        try:
            found = attempted(job, pipe.recv(), name)
            pipe.send(found)
        except (EOFError, OSError):
            return
        if isinstance(found, GradTokenError) or found.lost:  # whatever state this process is in now
            return
