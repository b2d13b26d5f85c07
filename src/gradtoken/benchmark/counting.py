"""How much of a run is done, failed and missing, in pairs of sample and method."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gradtoken.benchmark.columns import unexplained
from gradtoken.benchmark.folder import RunFolder
from gradtoken.benchmark.plan import Variant
from gradtoken.benchmark.share import Share


@dataclass(frozen=True)
class Counts:
    """done: with values, left out on purpose, or of a method that refuses all. failed: tried without success."""

    done: int = 0
    failed: int = 0
    missing: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.done + other.done, self.failed + other.failed, self.missing + other.missing)

    def __str__(self) -> str:
        return f"{self.done} done, {self.failed} failed, {self.missing} missing"


def counted(folder: RunFolder, variants: Iterable[Variant], share: Share | None = None) -> Counts:
    """Of a run, or of a share of it, file by file."""
    units = [unit for number, unit in enumerate(folder.units) if share is None or share.has(number)]
    return sum((of_variant(folder, variant, units) for variant in variants), Counts())


def of_variant(folder: RunFolder, variant: Variant, units: Sequence[range]) -> Counts:
    """Of one method."""
    tried = missing = 0
    reasons, measured = list[str](), False
    for unit in units:
        table = folder.table(variant, unit, ["reason"])
        if table is None:
            missing += len(unit)
        else:
            tried += len(unit)
            found = table.column("reason").to_pylist()
            measured |= "" in found
            reasons += filter(None, found)
    failed = unexplained(reasons, measured)
    return Counts(tried - failed, failed, missing)


def has_failures(folder: RunFolder, variant: Variant, unit: range) -> bool:
    """Whether a sample of a unit failed with a method."""
    table = folder.table(variant, unit, ["reason"])
    return table is not None and unexplained(filter(None, table.column("reason").to_pylist()), True) > 0
