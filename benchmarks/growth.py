"""How work, memory and time of GradToken grow with tokens, batch and classes, and what keeping less saves.

    python -m benchmarks.cost keeping growth clock page

Parts of `benchmarks.cost`, which stores their numbers, draws `docs/figures/growth.png` and writes the page. Work and
memory are counted on whole networks while fused attention, whose results do not matter for that, is left out; time is
that of the processor, on a network of few blocks.
"""

import math
import statistics
import time
from collections.abc import Callable
from typing import Any, get_args

from torch import Tensor, nn

from benchmarks.cost import explained, network, picture, plain
from benchmarks.meter import Bytes, Run, flops
from gradtoken import attribute
from gradtoken.keeping import Memory

PIXELS = (224, 512, 1024, 1536, 2048)
TIMED, REPEATS, BLOCKS = (224, 512, 1024, 2048), (9, 3, 1, 1), 3
BATCHES = (1, 2, 4, 8, 16, 32)
CLASSES = (1, 2, 5, 10, 20, 50, 100)
KEPT_PIXELS = (512, 1024)
TINY, SMALL = "vit_tiny_patch16_224", "vit_small_patch16_224"
Row = dict[str, Any]


def counted(run: Run) -> tuple[int, int]:
    """FLOPs and peak bytes of one run without the arithmetic of fused attention."""
    with Bytes(hollow=True) as meter:
        count = flops(run)
    return count, meter.peak


def both(net: nn.Module, x: Tensor, classes: int = 1) -> Row:
    """The plain forward pass and a later call."""
    explained(net, x, 1)
    found = {"plain": counted(lambda: plain(net, x)), "explained": counted(lambda: explained(net, x, classes))}
    return {
        f"{form} {what}": n for form, pair in found.items() for what, n in zip(("flops", "bytes"), pair, strict=True)
    }


def count_growth() -> Row:
    """ViT-Ti/16: tokens at batch 1, batch and classes at 224 pixels."""
    at = {size: network(TINY, size) for size in PIXELS}
    return {
        "tokens": [{"x": (s // 16) ** 2, **both(at[s], picture(s))} for s in PIXELS],
        "batch": [{"x": B, **both(at[224], picture(224, B))} for B in BATCHES],
        "classes": [{"x": K, **both(at[224], picture(224), K)} for K in CLASSES],
    }


def measure_clock() -> Row:
    """Processor seconds of a ViT-Ti/16 with few blocks."""
    rows = []
    for size, repeats in zip(TIMED, REPEATS, strict=True):
        net, x = network(TINY, size, depth=BLOCKS), picture(size)
        explained(net, x)
        pairs = [(seconds(lambda: plain(net, x)), seconds(lambda: explained(net, x))) for _ in range(repeats)]  # noqa: B023
        found = dict(zip(("plain", "explained"), map(statistics.median, zip(*pairs, strict=True)), strict=True))
        rows.append({"x": (size // 16) ** 2, "repeats": repeats, **found})
    return {"rows": rows, "blocks": BLOCKS}


def seconds(run: Run) -> float:
    """Of this process on a processor, which a busy machine does not stretch as it does the clock's."""
    start = time.process_time()
    run()
    return time.process_time() - start


def count_keeping() -> Row:
    """ViT-S/16, one picture: each way of keeping queries and keys."""
    rows = []
    for size in KEPT_PIXELS:
        net, x = network(SMALL, size), picture(size)
        row = {"tokens": (size // 16) ** 2, "q and k": 2 * 12 * ((size // 16) ** 2 + 1) * 384 * 4}
        row |= {"plain": counted(lambda: plain(net, x))}  # noqa: B023
        for way in get_args(Memory):

            def run(way: Memory = way, net: nn.Module = net, x: Tensor = x) -> Tensor:
                return attribute(net, x, 0, allow_blank=True, memory=way)

            run()
            row[way] = counted(run)
        rows.append(row)
    return {"rows": rows}


PARTS: dict[str, Callable[[], Row]] = {"keeping": count_keeping, "growth": count_growth, "clock": measure_clock}


def exponent(rows: list[Row], what: str) -> float:
    """Slope of log y over log x by least squares."""
    x, y = ([math.log(row[key]) for row in rows] for key in ("x", what))
    return statistics.linear_regression(x, y).slope
