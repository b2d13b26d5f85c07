"""What every method holds in memory on a picture of 4096 tokens: counted bytes, attention's arithmetic left out.

    python -m benchmarks.large [--methods NAME ...]

ViT-S/16 at 1024 x 1024 pixels, one target, later calls. Results go to `benchmarks/results/large.json`, one for each
method; what is there is not measured again. `python -m benchmarks.methods --page` writes them into `docs/costs.md`. A
method is stopped at `MOST` bytes. Methods that take thousands of passes on so many tokens are left out.
"""

import argparse
import json
import time
from pathlib import Path
from textwrap import fill
from typing import Any

import torch

from benchmarks.cost import network, picture, plain
from benchmarks.meter import Bytes, Run
from benchmarks.page import table
from gradtoken import METHODS, attribute
from gradtoken.errors import GradTokenError

RESULTS, PAGE = Path("benchmarks/results/large.json"), Path("docs/costs.md")
PIXELS = 1024
MOST = 2**32
FEW = {  # passes that are made one after the other hold no more than a few of them
    "gradient_shap": {"samples": 2},
    "integrated_gradients": {"steps": 2},
    "self_attention_attribution": {"steps": 2},
    "transition_attention_maps": {"steps": 2},
    "beyond_intuition": {"steps": 2},
    "tis": {"masks": 4},
}
LONG = {"occlusion", "reciprocam", "vit_cx"}  # a pass or more for each token or mask


class TooMuch(Exception):
    """More than `MOST` bytes are alive."""


class Capped(Bytes):
    """Counts until `MOST`."""

    def add(self, storage: torch.UntypedStorage) -> None:
        super().add(storage)
        if self.live > MOST:
            raise TooMuch


def peak(run: Run, hollow: bool = True) -> dict[str, Any]:
    """Peak bytes; how many at least, where it was stopped; or why there is no map.

    hollow: fused attention gives ones, which rules that open it notice; then it is computed.
    """
    with Capped(hollow) as meter:
        try:
            run()
        except TooMuch:
            return {"bytes": meter.peak, "stopped": True}
        except GradTokenError as error:
            return peak(run, hollow=False) if hollow else {"refused": str(error)}
    return {"bytes": meter.peak}


def measure(methods: list[str]) -> None:
    """Measure what is not in the file yet, and put it there."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"rows": {}}
    net, x = network("vit_small_patch16_224", PIXELS), picture(PIXELS)
    results["plain"] = peak(lambda: plain(net, x))["bytes"]
    attribute(net, x, 0, "raw_attention")  # learns the layout
    for method in methods:
        if method not in results["rows"]:
            options: dict[str, Any] = FEW.get(method, {})
            found = peak(lambda: attribute(net, x, 0, method, allow_blank=True, **options))  # noqa: B023
            results["rows"][method] = found
            results |= {"torch": torch.__version__, "date": time.strftime("%Y-%m-%d")}
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
            print(method, found, flush=True)


# The section of the page ----------------------------------------------------------------------------------------------

HEAD = """
## On 4096 tokens

Peak bytes on ViT-S/16 at 1024 x 1024 pixels, one picture and target, later calls, counted while the arithmetic of fused
attention is left out (`python -m benchmarks.large`). A single attention matrix of all heads takes 403 MB here, those of
all blocks 4,834 MB: methods form the rows that they read, some at a time. Methods that repeat passes were run with the
fewest. Above 4 GiB a method was stopped."""
WHY = {
    "abs_lrp": "each operation's relevance is scaled by its sum over the sample, so that rows of attention cannot be "
    "taken apart, and its double pass keeps every matrix",
    "alti": "the vectors that each token gives to each are formed for all tokens of a block",
    "globenc": "the vectors that each token gives to each are formed for all tokens of a block",
    "lrp": "a whole graph in float64",
}


def section(results: dict[str, Any]) -> str:
    """Markdown of what was measured."""
    rows, plain = results["rows"], results["plain"]
    known = [m for m in METHODS if "bytes" in rows.get(m, {})]
    lines = [
        [f"`{m}`", f"> {MOST / 1e6:,.0f} MB", "-"]
        if rows[m].get("stopped")
        else [f"`{m}`", f"{rows[m]['bytes'] / 1e6:,.0f} MB", f"{rows[m]['bytes'] / plain:.1f}"]
        for m in known
    ]
    told = [f"- `{m}`: {WHY[m]}." for m in known if rows[m].get("stopped")]
    rest = fill(f"Not measured, for their length: {', '.join(f'`{m}`' for m in METHODS if m not in known)}.", 120)
    text = f"{HEAD}\n\n" + table(["method", "memory", "x the plain pass"], lines) + "\n"
    text += "\nAbove 4 GiB, because\n\n" + "\n".join(told) + "\n" if told else ""
    return f"{text}\n{rest}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Peak bytes of every method on 4096 tokens.")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=[m for m in METHODS if m not in LONG])
    options = parser.parse_args()
    torch.set_num_threads(1)
    measure(options.methods)


if __name__ == "__main__":
    main()
