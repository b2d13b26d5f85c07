"""Run a plan in this process: unit after unit, each kept as soon as it is done."""

from pathlib import Path

from gradtoken.benchmark.folder import RunFolder
from gradtoken.benchmark.plan import Plan
from gradtoken.benchmark.work import measured
from gradtoken.progress import track


def run(plan: Plan, root: Path, limit: int | None = None) -> RunFolder:
    """Compute what the folder lacks; what it has is kept. limit: only units that begin before this sample."""
    folder = RunFolder.begin(root, plan)
    units = [unit for unit in plan.units if limit is None or unit.start < limit]
    for unit in track(units, f"{plan.protocol.name}, units of {plan.unit}"):
        missing = folder.missing(plan.variants, unit)
        if missing:
            for key, rows in measured(plan, unit, missing).items():
                variant = next(variant for variant in missing if variant.key == key)
                folder.keep(variant, unit, rows)
    return folder
