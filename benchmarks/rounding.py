"""Rank correlation of GradToken's maps with those in float32, where numbers are rounded: on real pictures.

    python -m benchmarks.rounding FOLDER --model timm:deit_tiny_patch16_224 --weights FILE [--most 64]

Of the predicted class; queries and keys kept in 16 bits, or the whole network in bfloat16. Numbers go to
`benchmarks/results/cost.json`; `python -m benchmarks.cost page` writes them into `docs/performance.md`.
"""

import argparse
import copy
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.cost import RESULTS
from gradtoken import attribute, load
from gradtoken.metrics.sanity import spearman
from gradtoken.models.model import Model
from gradtoken.models.pictures import find_pictures, open_picture

BATCH = 8


def ways_of(model: Model) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """Maps of pictures and classes, by how they are rounded."""
    half = copy.deepcopy(model.net).bfloat16()
    rounded = copy.deepcopy(half).float()
    return {
        "queries and keys kept in bfloat16": lambda x, c: attribute(
            model.net, x, c, memory="bfloat16", allow_blank=True
        ),
        "queries and keys kept in float16": lambda x, c: attribute(model.net, x, c, memory="float16", allow_blank=True),
        "the weights in bfloat16, all arithmetic in float32": lambda x, c: attribute(rounded, x, c, allow_blank=True),
        "the whole network in bfloat16": lambda x, c: attribute(half, x.bfloat16(), c, allow_blank=True),
    }


def measured(model: Model, files: list[Path]) -> list[dict[str, Any]]:
    """Of each way the mean, the lowest, and how many are above 0.99."""
    ways = ways_of(model)
    found: dict[str, list[Tensor]] = {way: [] for way in ways}
    for start in range(0, len(files), BATCH):
        x = torch.stack([model.for_pictures(open_picture(f)).pixels for f in files[start : start + BATCH]])
        with torch.no_grad():
            classes = model.net(x).argmax(dim=1)
        expected = attribute(model.net, x, classes, allow_blank=True).flatten(1)
        drawn = expected.any(dim=1)  # a map of zeros alone has no order
        for way, run in ways.items():
            found[way].append(spearman(expected[drawn], run(x, classes).float().flatten(1)[drawn]))
    rows = []
    for way, parts in found.items():
        r = torch.cat(parts)
        above = int((r > 0.99).sum())
        rows.append({"way": way, "mean": float(r.mean()), "lowest": float(r.min()), "above": above, "pictures": len(r)})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="Rank correlation of rounded maps with those in float32.")
    parser.add_argument("pictures")
    parser.add_argument("--model", required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--most", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load(options.model, weights=options.weights)
    rows = measured(model, find_pictures([options.pictures])[: options.most])
    results = json.loads(RESULTS.read_text())
    part = results.get("rounding", {"rows": []})
    known = [row for row in part["rows"] if row["model"] != options.model]
    told = {"torch": torch.__version__, "date": time.strftime("%Y-%m-%d")}
    results["rounding"] = {"rows": known + [{"model": options.model, **row} for row in rows], **told}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
