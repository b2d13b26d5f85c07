"""Tiny data and runs for tests of reports."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from gradtoken.benchmark.columns import Column, Measured
from gradtoken.benchmark.plan import Variant
from gradtoken.benchmark.request import Request
from gradtoken.benchmark.running import run
from gradtoken.models.load import load

PROTOCOL = "abpc/agcam2024"


def pictures(folder: Path, count: int = 5, broken: bool = True) -> Path:
    """Noise with labels of the bundled model's classes; the last is no picture, and its name is hostile."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    rows = [("file", "class_index", "name")]
    for i in range(count):
        Image.fromarray(rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(folder / f"{i}.png")
        rows.append((f"{i}.png", str(i % 3), f"kind {i % 3}"))
    if broken:
        (folder / "<b>&|.png").write_text("no picture")
        rows.append(("<b>&|.png", "1", "kind 1"))
    with open(folder / "labels.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


def made(data: Path, place: Path, methods=("gradtoken", "random", "raw_attention"), **more):
    """A run on such pictures."""
    request = Request(PROTOCOL, data, methods=tuple(methods), **more)
    protocol, samples = request.checked()
    return run(request.plan(protocol, samples, load("bundled"), 12), place)


def column(title: str, ids, values, ask: str = "predicted", reasons=None) -> Column:
    """A method with values that were written by hand. values: by metric, (samples, n)."""
    measured = Measured(title, ask, tuple(ids), {name: np.asarray(v, dtype=float) for name, v in values.items()})
    return Column(Variant(title), (measured,) if ids else (), reasons or {}, (1, 1))
