"""From what a user asks for to a plan."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from gradtoken import manual
from gradtoken.benchmark.plan import UNIT, Plan, Variant, planned, variants_of
from gradtoken.data.opening import open_data
from gradtoken.data.sample import DataSet
from gradtoken.errors import BadTarget, UnknownName
from gradtoken.explaining import options_of
from gradtoken.methods import METHODS
from gradtoken.methods.gradtoken import Heads, Propagation
from gradtoken.models.model import Model
from gradtoken.protocols import PROTOCOLS
from gradtoken.protocols.protocol import Protocol

GRIDS = ("propagation", "heads", "depth")
FILES = 200  # of one method, before units become larger: small files are slow to read
LARGEST = 256  # samples in a unit: it is held in memory, and a crash costs one


@dataclass(frozen=True)
class Request:
    """methods: names, or all where there is no grid either. settings: as --set gives them. limit: only so many samples.

    grid: which option of GradToken takes all its values. options: those of the kind of data.
    """

    protocol: str
    data: Path
    kind: str | None = None
    methods: tuple[str, ...] = ()
    grid: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    limit: int | None = None
    batch: int = 8
    unit: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def checked(self) -> tuple[Protocol, DataSet]:
        """All that can be refused before a model is loaded."""
        protocol = PROTOCOLS[self.protocol]
        if self.grid is not None and self.grid not in GRIDS:
            raise UnknownName.among("grid", self.grid, GRIDS)
        if self.grid and self.grid in self.settings:
            raise BadTarget(f"{self.grid}={self.settings[self.grid]!r} was given and is varied too; leave one out")
        if self.limit is not None and self.limit < 1:
            raise BadTarget(f"expected a limit of at least 1 sample, got {self.limit}")
        options_of(self.names, self.settings)
        return protocol, first(open_data(self.data, self.kind, **self.options), self.limit)

    @property
    def names(self) -> list[str]:
        """Methods that are asked for, GradToken where it is varied."""
        found = list(METHODS) if self.methods == ("all",) or not (self.methods or self.grid) else list(self.methods)
        return list(dict.fromkeys([*found, *(["gradtoken"] if self.grid else [])]))

    def plan(self, protocol: Protocol, data: DataSet, model: Model, blocks: int) -> Plan:
        """The plan. blocks: how many the model has, for the grid of depths."""
        options = options_of(self.names, self.settings)
        found = variants_of(self.names, protocol, options)
        if self.grid:
            base = next(variant for variant in found if variant.method == "gradtoken")
            found += varied(base, self.grid, blocks)
        unique = tuple({variant.key: variant for variant in found}.values())
        plan = planned(protocol, data, model, self.names, options, batch=self.batch)
        return replace(plan, variants=unique, unit=self.unit or unit_of(len(plan.data)))


def first(data: DataSet, limit: int | None) -> DataSet:
    """The first samples; the name says so."""
    if limit is None or limit >= len(data):
        return data
    return replace(data, name=f"{data.name}, first {limit}", ids=data.ids[:limit])


def unit_of(samples: int) -> int:
    """Samples in one file: from UNIT to LARGEST, a power of two that keeps the files few."""
    return min(LARGEST, max(UNIT, 1 << max(0, math.ceil(math.log2(max(samples, 1) / FILES)))))


def varied(base: Variant, grid: str, blocks: int) -> list[Variant]:
    """GradToken with every value of one option; the usual value is left unsaid, as in the method itself."""
    values: dict[str, Sequence[Any]] = {
        "propagation": get_args(Propagation),
        "heads": get_args(Heads),
        "depth": range(1, blocks + 1),
    }
    usual = {option.name: option.default for option in manual.options(METHODS["gradtoken"])}
    return [
        Variant("gradtoken", {**base.options, **({} if value == usual[grid] else {grid: value})})
        for value in values[grid]
    ]


def place_of(plan: Plan) -> Path:
    """The folder of a run that was given none: the same for the same request."""
    parts = (plan.protocol.name, plan.data.name, Path(plan.model.name).name)
    return Path("runs") / "_".join(re.sub(r"[^\w.]+", "-", part).strip("-") for part in parts)
