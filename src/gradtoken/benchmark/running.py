"""Run plans in this process: unit after unit, each kept as soon as it is done."""

from collections.abc import Sequence
from pathlib import Path

from gradtoken.benchmark.folder import RunFolder
from gradtoken.benchmark.plan import Plan
from gradtoken.benchmark.work import Maps, measured
from gradtoken.progress import track


def run(plan: Plan, root: Path, limit: int | None = None) -> RunFolder:
    """Compute what the folder lacks; what it has is kept. limit: only units that begin before this sample."""
    return run_all([plan], [root], limit)[0]


def run_all(plans: Sequence[Plan], roots: Sequence[Path], limit: int | None = None) -> list[RunFolder]:
    """Several protocols at once, a folder each.

    Within a unit, what a method says of a sample and class is computed once for all plans that have the same network
    and show it the same pixels.
    """
    folders = [RunFolder.begin(root, plan) for plan, root in zip(plans, roots, strict=True)]
    count = max(len(plan.units) for plan in plans)
    names = ", ".join(plan.protocol.name for plan in plans)
    for number in track(range(count), f"{names}, units of {plans[0].unit}"):
        maps: Maps | None = {} if len(plans) > 1 else None
        for plan, folder in zip(plans, folders, strict=True):
            for unit in plan.units[number : number + 1]:
                if limit is None or unit.start < limit:
                    fill(plan, folder, unit, maps)
    return folders


def fill(plan: Plan, folder: RunFolder, unit: range, maps: Maps | None) -> None:
    """Compute and keep the methods that a unit lacks."""
    missing = folder.missing(plan.variants, unit)
    if missing:
        for key, rows in measured(plan, unit, missing, maps).items():
            variant = next(variant for variant in missing if variant.key == key)
            folder.keep(variant, unit, rows)
