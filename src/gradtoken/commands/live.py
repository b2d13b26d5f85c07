"""What a run shows while it works: rate, time left, and a line for each worker; lines now and then without a screen."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from gradtoken.commands.shared import complain, err

QUIET = 60.0  # seconds between two lines where no screen is
SPAN = 600.0  # seconds that the rate looks back


class Rate(ProgressColumn):
    """Pairs of sample and method in a second."""

    def render(self, task: Task) -> Text:
        """Nothing where there is no rate yet."""
        return Text(f"{task.speed:.3g}/s" if task.speed else "")


@dataclass
class Screen:
    """Listens to the events of a run."""

    progress: Progress
    start: float = field(default_factory=time.monotonic)
    said: float = field(default_factory=time.monotonic)
    total: Any = None
    pairs: int = 0
    done: int = 0
    workers: dict[str, Any] = field(default_factory=dict)

    def __call__(self, event: dict[str, Any]) -> None:
        """One event."""
        if event["event"] == "begin":
            self.pairs, self.start = event["pairs"], time.monotonic()
            self.total = self.progress.add_task(f"{event['name']}, samples x methods", total=event["pairs"])
        elif event["event"] == "unit":
            self.unit(event)
        elif event["event"] == "damaged":
            complain(f"{event['key']}, samples from {event['first']}: {event['reason']}; it is computed again")
        elif event["event"] == "halved":
            some = event.get("samples") or event.get("pictures")
            complain(f"memory was short for {some} at once ({event.get('method', 'pictures')}); taken in halves", "dim")
        elif event["event"] == "lost":
            last = event["reason"].strip().splitlines()[-1]
            complain(f"unit {event['number']} gave nothing and stays missing: {last}", "red")

    def unit(self, event: dict[str, Any]) -> None:
        """A unit is done."""
        self.done += event["pairs"]
        self.progress.advance(self.total, event["pairs"])
        if event["worker"]:
            told = f"  {event['worker']}: unit {event['number']} in {event['seconds']:.1f} s"
            if event["worker"] not in self.workers:
                self.workers[event["worker"]] = self.progress.add_task(told, total=None)
            known = self.workers[event["worker"]]
            self.progress.update(known, description=told, advance=event["pairs"])
        now = time.monotonic()
        if not err.is_terminal and now - self.said > QUIET:
            self.said, rate = now, self.done / (now - self.start)
            left = (self.pairs - self.done) / rate / 60
            complain(f"{self.done} of {self.pairs} samples x methods, {rate:.3g}/s, {left:.0f} min left", "dim")


@contextmanager
def live() -> Iterator[Callable[[dict[str, Any]], None]]:
    """A listener while the block lasts. Steps within a unit are shown below, where they are taken in this process."""
    from gradtoken.progress import showing

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, speed_estimate_period=SPAN) as progress:

        def show(steps: Any, what: str) -> Iterator[Any]:
            task = progress.add_task(f"  {what}", total=len(steps))
            try:
                for step in steps:
                    yield step
                    progress.advance(task)
            finally:
                progress.remove_task(task)

        with showing(show):
            yield Screen(progress)
