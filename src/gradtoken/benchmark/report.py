"""What a run's folder says: lines of numbers, ranked, and why samples have none."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, fields, replace
from typing import Any

from gradtoken.benchmark.columns import Column, column_of
from gradtoken.benchmark.folder import RunFolder
from gradtoken.benchmark.plan import Variant
from gradtoken.benchmark.store import Address
from gradtoken.benchmark.summary import BASELINE, Line, summarised
from gradtoken.errors import BadRun
from gradtoken.protocols import PROTOCOLS
from gradtoken.protocols.protocol import Number, Protocol

NUMERIC = re.compile(r"\d+(\.\d+)?")


@dataclass(frozen=True, eq=False)
class Refusal:
    """Samples without values for one reason. methods: whose; reason: as the first of them says it."""

    reason: str
    methods: tuple[str, ...]
    count: int


@dataclass(frozen=True, eq=False)
class Report:
    """What is known of a run. lines: best first by the protocol's first number."""

    folder: RunFolder
    protocol: Protocol
    lines: tuple[Line, ...]

    @classmethod
    def of(cls, root: Address, baseline: str = BASELINE, samples: Set[str] | None = None) -> "Report":
        """Read a run and draw its intervals. Raises BadRun where it holds nothing.

        baseline: title of the method that the others are compared with. samples: read these alone.
        """
        folder = RunFolder.open(root)
        protocol = protocol_of(folder)

        def read(variant: Variant) -> Column:
            column = column_of(folder, variant)
            return column if samples is None else column.among(samples)

        base = next((v for v in folder.variants if v.title == baseline), None)
        compared = read(base) if base else None
        columns = (compared if compared and v == base else read(v) for v in folder.variants)
        lines = ranked(list(summarised(started(columns), protocol, compared)), protocol.numbers[0])
        if not lines:
            raise BadRun(f"{root} holds no results yet; go on with the run")
        return cls(folder, protocol, tuple(lines))

    @property
    def settings(self) -> dict[str, Any]:
        """Of the run, as its manifest has them."""
        settings: dict[str, Any] = self.folder.manifest["settings"]
        return settings

    @property
    def changed(self) -> dict[str, tuple[Any, Any]]:
        """Settings of the protocol that are not the published ones: what they are, and were."""
        published, settings = plain(PROTOCOLS[self.protocol.name]), plain(self.protocol)
        names = [name for name in published if name not in ("summary", "paper") and published[name] != settings[name]]
        return {name: (settings[name], published[name]) for name in names}

    @property
    def refusals(self) -> list[Refusal]:
        """Why samples have no values; reasons that differ in numbers alone are one."""
        counts, first, methods = Counter[str](), dict[str, str](), dict[str, dict[str, None]]()
        for one in {line.title: line for line in self.lines}.values():
            for reason, count in one.reasons.items():
                kind = NUMERIC.sub("#", reason)
                counts[kind] += count
                first.setdefault(kind, reason)
                methods.setdefault(kind, {})[one.title] = None
        return [Refusal(first[kind], tuple(methods[kind]), count) for kind, count in counts.most_common()]

    @property
    def failed(self) -> int:
        """Pairs of sample and method without values that the protocol meant to use."""
        return sum({line.title: line.failed for line in self.lines}.values())

    @property
    def measured(self) -> bool:
        """Whether there is a number at all."""
        return any(line.samples for line in self.lines)


def started(columns: Iterable[Column]) -> Iterator[Column]:
    """Methods of which there is something."""
    return (column for column in columns if column.measured or column.reasons)


def protocol_of(folder: RunFolder) -> Protocol:
    """The protocol that a run followed: the published one, with the settings that this run changed."""
    settings = folder.manifest["settings"]["protocol"]
    published = PROTOCOLS[settings["name"]]
    own = {field.name for field in fields(published)} & settings.keys()
    values = {name: tupled(settings[name]) for name in changed(settings, published) if name in own - {"version"}}
    protocol = replace(published, **values)
    left = changed(settings, protocol)
    if left:
        raise BadRun(
            f"{folder.root} was run with another version of {published.name}, which differs in {', '.join(left)}; "
            "run it again, or read it with the gradtoken that made it"
        )
    return protocol


def changed(settings: dict[str, Any], protocol: Protocol) -> list[str]:
    """Names of the settings of a run that are not those of a protocol."""
    known = plain(protocol)
    return [name for name in {**settings, **known} if settings.get(name) != known.get(name)]


def plain(protocol: Protocol) -> dict[str, Any]:
    """The settings as a manifest has them."""
    settings: dict[str, Any] = json.loads(json.dumps(protocol.describe()))
    return settings


def tupled(value: Any) -> Any:
    """JSON has lists where settings have tuples."""
    return tuple(map(tupled, value)) if isinstance(value, list) else value


def ranked(lines: list[Line], first: Number) -> list[Line]:
    """Best first; each ask by itself, in the order of the asks."""
    asks = list(dict.fromkeys(line.ask for line in lines))
    sign = 1 if first.better == "lower" else -1

    def key(line: Line) -> tuple[int, float]:
        value = line.numbers[first.name].value if line.numbers else float("nan")
        return asks.index(line.ask), sign * value if value == value else float("inf")

    return sorted(lines, key=key)
