"""What a run does, as lines of JSON in its folder: one file for each process, which `status` and programs read.

Every line has `event`, `time` (wall clock, for people) and `clock` (seconds since the process began, which no change of
the wall clock disturbs). Events: begin, damaged, unit, halved, lost, end.
"""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from gradtoken.benchmark.folder import RunFolder
from gradtoken.benchmark.store import Store
from gradtoken.outside import decoded

LOGS = "log"
PAUSE = 30.0  # seconds between two writings to an object store, which knows no appending
Event = dict[str, Any]
HELD: dict[str, dict[str, Any]] = {  # what is read of every event, and of some
    "": {"event": str, "time": str, "clock": int | float},
    "begin": {"host": str, "pid": int, "share": str, "pairs": int},
    "unit": {"worker": str, "pairs": int},
}


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
    """The events of each process that worked on a run, oldest process first; other lines are left out."""
    for name in store.names(LOGS):
        found = []
        with suppress(OSError):  # of a folder
            for line in store.read(f"{LOGS}/{name}").decode(errors="replace").split("\n"):
                with suppress(ValueError):
                    event = decoded(line)
                    found += [event] if is_event(event) else []
        if found:
            yield found


def is_event(line: Any) -> bool:
    """Whether a line holds what is read of it, each of its type. Raises ValueError for a time that is none."""
    held = HELD[""] | HELD.get(str(line.get("event")), {}) if isinstance(line, dict) else {}
    return bool(held) and all(fits(line.get(name), kind) for name, kind in held.items()) and is_time(line["time"])


def fits(value: Any, kind: Any) -> bool:
    """Of this type; a number is not negative, and not larger than any that is counted."""
    return isinstance(value, kind) and (isinstance(value, str) or 0 <= value < 2**53)  # nan fails too


def is_time(text: str) -> bool:
    """A moment, which a time without its zone is not."""
    return datetime.fromisoformat(text).tzinfo is not None
