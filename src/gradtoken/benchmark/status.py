"""How a run goes, from another shell: what the logs in its folder say of each process."""

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from gradtoken.benchmark.folder import RunFolder
from gradtoken.benchmark.log import Event, events


@dataclass(frozen=True)
class Process:
    """One that works or worked on a run. pairs: of sample and method that it set out to do, and did.

    seconds: between its first line and its last. heard: wall clock seconds since its last line, 0 if clocks differ.
    """

    name: str
    share: str
    pairs: tuple[int, int]
    seconds: float
    heard: float
    ended: bool
    workers: dict[str, int]

    @property
    def rate(self) -> float:
        """Pairs in a second; 0 where nothing is done yet."""
        return self.pairs[1] / self.seconds if self.seconds > 0 else 0.0

    @property
    def left(self) -> float | None:
        """Seconds that its rate leaves, where it has one."""
        return (self.pairs[0] - self.pairs[1]) / self.rate if self.rate else None


def processes(folder: RunFolder) -> Iterator[Process]:
    """Those whose logs are there, the oldest first."""
    for lines in events(folder.store):
        starts = [number for number, line in enumerate(lines) if line.get("event") == "begin"]
        if starts:
            yield process_of(lines[starts[-1] :])


def process_of(lines: list[Event]) -> Process:
    """What the lines from `begin` on say."""
    first, last = lines[0], lines[-1]
    workers: dict[str, int] = {}
    for line in lines:
        if line.get("event") == "unit":
            workers[line["worker"]] = workers.get(line["worker"], 0) + line["pairs"]
    return Process(
        name=f"{first['host']} {first['pid']}",
        share=first["share"],
        pairs=(first["pairs"], sum(workers.values())),
        seconds=last["clock"] - first["clock"],
        heard=max(0.0, (datetime.now(UTC) - datetime.fromisoformat(last["time"])).total_seconds()),
        ended=last["event"] == "end" or is_gone(first["host"], first["pid"]),
        workers={name: count for name, count in sorted(workers.items()) if name},
    )


def is_gone(host: str, pid: int) -> bool:
    """Whether a process of this machine is no more; of another machine nothing is known."""
    if host != socket.gethostname():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
