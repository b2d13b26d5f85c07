"""A benchmark of all methods that needs no data: the bundled model on the bundled pictures."""

from dataclasses import replace
from pathlib import Path

from gradtoken.benchmark.folder import RunFolder
from gradtoken.benchmark.plan import planned
from gradtoken.benchmark.running import run
from gradtoken.data.bundled import open_bundled
from gradtoken.models.load import load
from gradtoken.protocols import PROTOCOLS
from gradtoken.protocols.mosaics import GridPointing

ROUNDS = 2  # of mosaics, each of another four of the five pictures
QUICK = {
    "gradient_shap": {"samples": 8},
    "integrated_gradients": {"steps": 8},
    "self_attention_attribution": {"steps": 4},
    "tis": {"masks": 64},
}  # fewer passes than published, as the report says


def run_demo(root: Path) -> list[RunFolder]:
    """Class selectivity on mosaics, and perturbation. Five pictures show how it works, not which method is best."""
    model, data = load("bundled"), open_bundled()
    mosaics, erasing = PROTOCOLS["grid-pointing-game/2x2"], PROTOCOLS["perturbation/gradtoken2025"]
    assert isinstance(mosaics, GridPointing)
    protocols = [replace(mosaics, rounds=ROUNDS), erasing]
    plans = [planned(protocol, data, model, options=QUICK) for protocol in protocols]
    return [run(plan, root / plan.protocol.name.replace("/", "-")) for plan in plans]
