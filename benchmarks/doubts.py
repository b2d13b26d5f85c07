"""How often the warnings of maps, and the verdicts of `--check`, speak up: the numbers behind docs/limits.md.

    python -m benchmarks.doubts rows.jsonl --model bundled --pictures FOLDER [--weights FILE] [--methods a,b] [--most 5]
    python -m benchmarks.doubts rows.jsonl            # the table of all rows

Each row is of one picture and method, for the predicted class and the next: correlation of the two maps, largest share
of one value, correlation and relative change under invisible noise (two draws), correlation with the map of the network
in bfloat16 and of two roundings in it, rank correlation with a network of random weights.
"""

import argparse
import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gradtoken import checking, doubts
from gradtoken.errors import GradTokenError
from gradtoken.methods import METHODS
from gradtoken.metrics.sanity import max_sensitivity, pearson, spearman
from gradtoken.models.load import load
from gradtoken.models.pictures import find_pictures, open_picture
from gradtoken.probe import Probe
from gradtoken.protocols.sanity import randomised

RADIUS, DRAWS = 0.02, 2
LIMITS = {
    "alike": lambda r: r["pearson"] >= doubts.ALIKE,
    "one patch": lambda r: r["share"][0] > doubts.ONE and r["n"] >= doubts.MANY,
    "rounding": lambda r: r["half_ulp"] < doubts.ROUNDED,
    "class": lambda r: 1 - r["spearman"] < checking.CLASS,
    "weights": lambda r: max(r["weights"], r["weights_abs"]) > checking.WEIGHTS,
    "noise": lambda r: r["maxsens"] > checking.NOISE,
}


def probes(nets: dict[str, Any], x: Tensor, classes: list[int]) -> dict[str, Probe]:
    """The network on the picture and with noise, in bfloat16 with two roundings, and with random weights."""
    generator = torch.Generator().manual_seed(0)
    z = RADIUS * (2 * torch.rand(DRAWS, *x.shape[1:], generator=generator) - 1)
    found = {"plain": Probe(nets["plain"], x, [classes]), "random": Probe(nets["random"], x, [classes])}
    found |= {f"noise {i}": Probe(nets["plain"], x + noise, [classes]) for i, noise in enumerate(z)}
    half = x.bfloat16()
    found["half"] = Probe(nets["half"], half, [classes])
    found["rounded"] = Probe(nets["half"], doubts.rounded_otherwise(half), [classes])
    return found


def row(method: str, of: dict[str, Probe]) -> dict[str, Any]:
    """The numbers of one method."""
    run = METHODS[method].bind({})
    maps = {name: run(probe)[0].float().flatten(1) for name, probe in of.items()}
    R = maps["plain"]
    one, other = R[:1], R[1:]
    near = torch.stack([maps[f"noise {i}"][:1] for i in range(DRAWS)])
    return {
        "n": R.shape[1],
        "aware": METHODS[method].class_aware,
        "pearson": float(pearson(one, other)),
        "spearman": float(spearman(one, other)),
        "share": (R.abs().amax(dim=1) / R.abs().sum(dim=1)).tolist(),
        "noise_pearson": [float(pearson(one, n)) for n in near],
        "noise_spearman": [float(spearman(one, n)) for n in near],
        "maxsens": float(max_sensitivity(one, near)),
        "half_true": float(pearson(one, maps["half"][:1])),
        "half_ulp": float(pearson(maps["half"][:1], maps["rounded"][:1])),
        "weights": float(spearman(one, maps["random"][:1])),
        "weights_abs": float(spearman(one.abs(), maps["random"][:1].abs())),
    }


def measured(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Rows of all pictures and methods."""
    model = load(arguments.model, weights=arguments.weights)
    nets = {"plain": model.net, "half": copy.deepcopy(model.net).bfloat16()}
    nets["random"] = next(iter(randomised(model.net, 1, 0)))
    for path in find_pictures([str(arguments.pictures)])[: arguments.most]:
        x = model.for_pictures(open_picture(path)).pixels[None]
        with torch.no_grad():
            classes = model.net(x)[0].topk(2).indices.tolist()
        of = probes(nets, x, classes)
        for method in arguments.methods.split(",") if arguments.methods else METHODS:
            try:
                found = row(method, of)
            except GradTokenError as error:
                found = {"error": str(error)}
            yield {"model": arguments.model, "picture": path.name, "method": method, **found}


def table(rows: list[dict[str, Any]]) -> str:
    """Of each method how often each limit is crossed, over all rows that have numbers."""
    rows = [r for r in rows if "error" not in r]
    lines = ["| method | maps | " + " | ".join(LIMITS) + " |", "| --- " * (len(LIMITS) + 2) + "|"]
    for method in dict.fromkeys(sorted(r["method"] for r in rows)):
        own = [r for r in rows if r["method"] == method]
        counts = [sum(map(crossed, own)) for crossed in LIMITS.values()]
        told = [str(c) if c else "" for c in counts]
        if not own[0]["aware"]:
            told[0], told[3] = "same by design", str(len(own))
        lines.append(f"| `{method}` | {len(own)} | " + " | ".join(told) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("rows", type=Path)
    parser.add_argument("--model", default="")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--methods", default="")
    parser.add_argument("--most", type=int)
    arguments = parser.parse_args()
    if arguments.pictures:
        with arguments.rows.open("a") as file:
            for found in measured(arguments):
                file.write(json.dumps(found) + "\n")
                file.flush()
    print(table([json.loads(line) for line in arguments.rows.read_text().splitlines()]))


if __name__ == "__main__":
    main()
