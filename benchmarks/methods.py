"""What every method costs: processor seconds, bytes and FLOPs as ratios to the plain forward pass, all in one run.

    python -m benchmarks.methods [--nets tiny base] [--batches 1 8] [--methods NAME ...] [--page]

Results go to `benchmarks/results/methods.json`, one row for each network, batch and method, kept as they come; rows
that are there are not measured again. `--page` writes `docs/costs.md` from them, with the peers' where these were
measured. Random weights: no cost depends on them.

A method that makes many passes in a row is measured with two small numbers of them and continued on the straight line
to the published number; such rows are marked.
"""

import argparse
import json
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks import large
from benchmarks.cost import network, picture, plain
from benchmarks.meter import Bytes, Run, flops
from benchmarks.page import table
from gradtoken import METHODS, attribute
from gradtoken.errors import GradTokenError

RESULTS = Path("benchmarks/results/methods.json")
OTHERS = Path("benchmarks/results/peers.json")
PAGE = Path("docs/costs.md")
NETS = {"tiny": "deit_tiny_patch16_224", "base": "vit_base_patch16_224"}
NAMES = {"tiny": "DeiT-tiny", "base": "ViT-B/16"}
SLOW = 30  # a method that takes this many forward passes is timed once


class Line(NamedTuple):
    """An option that counts passes: two small values to measure, and the published one."""

    option: str
    few: int
    more: int
    published: int


LINES = {
    "gradient_shap": Line("samples", 4, 10, 50),
    "tis": Line("masks", 8, 24, 1024),
    "integrated_gradients": Line("steps", 4, 10, 50),
    "self_attention_attribution": Line("steps", 2, 4, 20),
    "transition_attention_maps": Line("steps", 4, 8, 20),
    "beyond_intuition": Line("steps", 4, 8, 20),
}


def measured(net: nn.Module, x: Tensor, method: str, repeats: int, **options: Any) -> dict[str, float]:
    """Ratios to the plain forward pass: time of paired runs, counted FLOPs, peak bytes."""
    run: Run = partial(attribute, net, x, 0, method, allow_blank=True, **options)
    base: Run = partial(plain, net, x)
    run()  # the first call learns the layout
    pairs = [(seconds(base), seconds(run))]
    if pairs[0][1] < SLOW * pairs[0][0]:
        pairs += [(seconds(base), seconds(run)) for _ in range(repeats - 1)]
    times = statistics.median(ours / theirs for theirs, ours in pairs)
    (count, peak), (plain_count, plain_peak) = counted(run), counted(base)
    return {"time": times, "flops": count / plain_count, "bytes": peak / plain_peak}


def counted(run: Run) -> tuple[int, int]:
    """FLOPs and peak bytes of one run."""
    with Bytes() as meter:
        count = flops(run)
    return count, meter.peak


def seconds(run: Run) -> float:
    """Processor seconds of one thread, which a busy machine does not stretch as it does the clock's."""
    start = time.process_time()
    run()
    return time.process_time() - start


def row(net: nn.Module, x: Tensor, method: str, repeats: int) -> dict[str, Any]:
    """One method; on a straight line where it counts its passes."""
    line = LINES.get(method)
    try:
        if line is None:
            return measured(net, x, method, repeats)
        few, more = (measured(net, x, method, 1, **{line.option: n}) for n in (line.few, line.more))
    except GradTokenError as error:
        return {"refused": str(error)}
    steps = (line.published - line.more) / (line.more - line.few)
    return {"time": more["time"] + steps * (more["time"] - few["time"]), "bytes": more["bytes"], "line": True} | {
        "flops": more["flops"] + steps * (more["flops"] - few["flops"])
    }


def measure(nets: list[str], batches: list[int], methods: list[str], repeats: int) -> None:
    """Measure what is not in the file yet, and put it there."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"rows": []}
    known = {(r["net"], r["batch"], r["method"]) for r in results["rows"]}
    for name in nets:
        net = network(NETS[name], 224)
        for batch in batches:
            x = picture(224, batch)
            for method in methods:
                if (name, batch, method) not in known:
                    found = row(net, x, method, repeats)
                    results["rows"].append({"net": name, "batch": batch, "method": method, **found})
                    results |= {"torch": torch.__version__, "date": time.strftime("%Y-%m-%d")}
                    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
                    print(results["rows"][-1], flush=True)


# The page -------------------------------------------------------------------------------------------------------------


HEAD = """# What every method costs

Written by `python -m benchmarks.methods --page`. Each cell: processor seconds x the plain forward pass of the same
batch (median of paired runs, one thread); in brackets peak bytes of tensors x those of the plain pass. `~`: a method
that repeats passes was measured with a few and continued on the line to its published number. One target, later calls
(the first on a shape also learns where the patches are). FLOPs are counted; elementwise operations count as nothing.
`-`: not measured, for its length."""

PEERS = """
## Beside other packages

Written from `python -m benchmarks.peers`: the same explanation by other packages, on the same network and in turn;
both maps brought to the coarser resolution for the correlation. grad-cam returns its map enlarged and rescaled, which
takes from the correlation. Where ours takes longer, it is the Python around each operation, which a larger network
hides."""


def cell(found: dict[str, Any] | None) -> str:
    if found is None or "refused" in found:
        return "-" if found is None else "refused"
    mark = "~" if found.get("line") else ""
    return f"{mark}{figures(found['time'])} ({figures(found['bytes'])})"


def figures(x: float) -> str:
    return f"{x:.1f}" if x < 100 else f"{x:,.0f}"


def page(results: dict[str, Any]) -> str:
    """Markdown of all rows."""
    found = {(r["net"], r["batch"], r["method"]): r for r in results["rows"]}
    columns = sorted({(net, batch) for net, batch, _ in found}, key=lambda c: (list(NETS).index(c[0]), c[1]))
    head = ["method", "FLOPs, ViT-B/16", *(f"{NAMES[net]}, batch {batch}" for net, batch in columns)]
    lines = []
    for method in METHODS:
        counted = found.get(("base", 1, method), {})
        count = figures(counted["flops"]) if "flops" in counted else "-"
        lines.append([f"`{method}`", count, *(cell(found.get((*column, method))) for column in columns)])
    return f"{HEAD}\n\nMeasured on {results['date']} with torch {results['torch']} on a shared 2-core CPU.\n\n" + (
        table(head, lines) + "\n"
    )


def held(r: dict[str, Any]) -> str:
    """Peak bytes, ours over theirs."""
    return f"{r['bytes ours'] / r['bytes theirs']:.2f}" if "bytes ours" in r else "-"


def section(results: dict[str, Any]) -> str:
    """Markdown of all rows."""
    head = ["method", "peer", "network", "batch", "ours / theirs, seconds", "bytes", "correlation of the maps"]
    lines = [
        [
            *(f"`{r['method']}`", f"{r['package']}: {r['theirs']}", NAMES[r["net"]], r["batch"]),
            *(f"{r['ratio']:.2f}", held(r), f"{r['correlation']:.4f}"),
        ]
        for r in results["rows"]
    ]
    return table(head, lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="What every method costs beside the plain forward pass.")
    parser.add_argument("--nets", nargs="*", choices=NETS, default=list(NETS))
    parser.add_argument("--batches", nargs="*", type=int, default=[1, 8])
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--page", action="store_true", help="write the page from what was measured")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.page:
        peers = f"{PEERS}\n\n{section(json.loads(OTHERS.read_text()))}\n" if OTHERS.exists() else ""
        big = large.section(json.loads(large.RESULTS.read_text())) if large.RESULTS.exists() else ""
        PAGE.write_text(page(json.loads(RESULTS.read_text())) + big + peers)
    else:
        measure(options.nets, options.batches, options.methods, options.repeats)


if __name__ == "__main__":
    main()
