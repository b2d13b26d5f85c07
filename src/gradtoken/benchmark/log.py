"""What a run does, as lines of JSON in its folder: one file for each process, which `status` and programs read.

Every line has `event`, `time` (wall clock, for people) and `clock` (seconds since the process began, which no change of
the wall clock disturbs). Events: begin, damaged, unit, halved, lost, end.
"""

import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from gradtoken.benchmark.folder import RunFolder
from gradtoken.benchmark.store import Store

LOGS = "log"
PAUSE = 30.0  # seconds between two writings to an object store, which knows no appending
Event = dict[str, Any]


@dataclass
class Log:
    """Lines that are kept as they come; what cannot be written is left out, for a log must not stop a run."""

    folders: list[RunFolder]
    name: str = ""
    start: float = field(default_factory=time.monotonic)
    lines: list[str] = field(default_factory=list)
    written: float = 0.0

    def __post_init__(self) -> None:
        self.name = f"{LOGS}/{datetime.now(UTC):%Y%m%d-%H%M%S}-{socket.gethostname()}-{os.getpid()}.jsonl"

    def __call__(self, event: Event) -> None:
        """Add one line."""
        clock = time.monotonic() - self.start
        known = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "clock": round(clock, 3)}
        self.lines.append(json.dumps({"event": event["event"], **known, **event}, default=str) + "\n")
        if clock - self.written >= PAUSE or event["event"] in ("begin", "end") or self.can_append:
            self.written = clock
            self.write()

    @property
    def can_append(self) -> bool:
        """Whether lines can be added to the files."""
        return all(not isinstance(folder.root, str) for folder in self.folders)

    def write(self) -> None:
        """Put the lines where they belong."""
        for folder in self.folders:
            try:
                if isinstance(folder.root, str):
                    folder.store.write(self.name, "".join(self.lines).encode())
                else:
                    (folder.root / LOGS).mkdir(exist_ok=True)
                    with open(folder.root / self.name, "a") as file:
                        file.write("".join(self.lines))
            except OSError:
                continue
        if self.can_append:
            self.lines.clear()


def events(store: Store) -> Iterator[list[Event]]:
    """The events of each process that worked on a run, oldest process first; half a line is left out."""
    for name in store.names(LOGS):
        found = []
        for line in store.read(f"{LOGS}/{name}").decode(errors="replace").splitlines():
            try:
                found.append(dict(json.loads(line)))
            except ValueError:
                continue
        if found:
            yield found
