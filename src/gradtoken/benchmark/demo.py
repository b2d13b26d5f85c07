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
from gradtoken.protocols.perturbation import Perturbation

ROUNDS = 2  # of mosaics, each of another four of the five pictures
SHARES = (0.2, 0.4, 0.6, 0.8)  # erased: fewer than published, as the report says
QUICK = {
    "beyond_intuition": {"steps": 5},
    "gradient_shap": {"samples": 5},
    "integrated_gradients": {"steps": 5},
    "self_attention_attribution": {"steps": 2},
    "tis": {"masks": 32},
    "transition_attention_maps": {"steps": 5},
}  # fewer passes than published, as the report says


def run_demo(root: Path) -> list[RunFolder]:
    """Class selectivity on mosaics, and perturbation. Five pictures show how it works, not which method is best."""
    model, data = load("bundled"), open_bundled()
    mosaics, erasing = PROTOCOLS["grid-pointing-game/2x2"], PROTOCOLS["perturbation/gradtoken2025"]
    assert isinstance(mosaics, GridPointing)
    assert isinstance(erasing, Perturbation)
    protocols = [replace(mosaics, rounds=ROUNDS), replace(erasing, shares=SHARES)]
    plans = [planned(protocol, data, model, options=QUICK) for protocol in protocols]
    return [run(plan, root / plan.protocol.name.replace("/", "-")) for plan in plans]
