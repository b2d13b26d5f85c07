"""The page of `benchmarks.cost`, written from measured numbers only."""

from collections.abc import Iterable
from typing import Any

FLOPS_LIMIT, FURTHER_LIMIT, MEMORY_LIMIT, MEMORY_PIXELS = 1.15, 0.08, 1 / 15, 1024
Results = dict[str, Any]


def page(results: Results, more: str = "") -> str:
    """Markdown of all parts. more: sections before the last two."""
    parts = [
        HEAD,
        arithmetic(results["flops"]),
        memory(results["memory"]["rows"], results["textbook"]["rows"], results["resident"]),
        *([more] if more else []),
        clock(results["time"]),
        ELSEWHERE,
        repeat(results),
    ]
    return "\n\n".join(parts) + "\n"


def table(head: list[str], rows: Iterable[Iterable[Any]]) -> str:
    lines = [head, ["---:"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def verdict(met: bool) -> str:
    return "met" if met else "**not met**"


def megabytes(number: int) -> str:
    return f"{number / 1e6:,.0f} MB"


HEAD = """# What an explanation costs

Written by `python -m benchmarks.cost`. Arithmetic and memory are counted, not timed: the same on every machine. The
*first call* on a model and picture size also learns where the tokens of the patches are; *later calls* know it."""


ELSEWHERE = """## On a GPU

Not measured: no GPU was at hand, so there are no rows for one, in float32 or bfloat16. Counted work and memory are the
same there but for what a kernel needs for itself. The times are measured by

<!-- needs: GPU -->
```sh
python -m benchmarks.cost time --device cuda --dtype bfloat16
```

A model of `torch.compile` is explained by the module that was compiled, operation by operation, with the same maps;
its compiled form goes on serving predictions. CUDA graphs are not used: the recorder has to see each operation."""


# Arithmetic -----------------------------------------------------------------------------------------------------------


def arithmetic(part: Results) -> str:
    base, rows = part["plain"], part["rows"]
    one = rows[0]["later"] / base
    further = max((row["later"] / base - one) / (row["classes"] - 1) for row in rows[1:])
    cells = [
        [row["classes"], *(f"{row[call] / 1e9:.1f} G = {row[call] / base:.3f} x" for call in ("later", "first"))]
        for row in rows
    ]
    learning = (rows[0]["first"] - rows[0]["later"]) / base
    return f"""## Arithmetic

ViT-B/16, one picture of 224 x 224; the plain forward pass takes {base / 1e9:.1f} GFLOP.

{table(["classes", "later calls", "first call"], cells)}

- One class: {one:.3f} x the plain forward pass; limit {FLOPS_LIMIT} x, {verdict(one <= FLOPS_LIMIT)}.
- Each further class: at most +{further:.3f}; limit +{FURTHER_LIMIT}, {verdict(further <= FURTHER_LIMIT)}.
- The first call adds {learning:.3f}: the picture and up to nine copies, each changed in one patch, run up to the first
  attention, to see which token is which patch.

The price is the backward pass through the last attention, once per class, and one attention per earlier block, whose
values have room for as many maps as a head is wide: 64 here, 5 classes of 12 heads. The sixth class takes a second one.
Behind the last attention only the rows that the class reads have a gradient, and only their products are computed
(`gradtoken/rowwise.py`). Where a model reads the mean of its tokens these are all: each further class takes
+{part["pooled"] / base:.3f}.

*How it is counted.* `torch.utils.flop_counter.FlopCounterMode`: matrix products, convolutions and fused attention,
forward and backward, a multiplication and an addition as two. PyTorch's table lacks the fused attention of CPUs, which
would count as nothing; `benchmarks/meter.py` adds it with PyTorch's own formulas (two products forward, five backward,
all five also where only the query's gradient is wanted). Elementwise operations count as nothing on both sides."""


# Memory ---------------------------------------------------------------------------------------------------------------


def memory(ours: list[Results], theirs: list[Results], system: Results) -> str:
    textbook = {row["pixels"]: row for row in theirs}
    rows = [{**textbook.get(row["pixels"], {}), **row} for row in ours]
    judged = next(row for row in rows if row["pixels"] == MEMORY_PIXELS)
    worst = max(judged["later"], judged["first"])
    met = verdict(worst / judged["textbook"] <= MEMORY_LIMIT)
    per_token = [row["later"] / row["tokens"] / 1e3 for row in rows]
    head = [
        "pixels",
        "tokens",
        "plain forward",
        "later calls",
        "first call",
        "of it q and k",
        "textbook",
        "matrices alone",
    ]
    return f"""## Memory

ViT-S/16, one picture, one class, float32: peak bytes above what was there before (the weights and the picture).

{table(head, map(memory_cells, rows))}

- {judged["tokens"]} tokens, the larger of first and later calls: {fraction(judged["textbook"], worst)} of the textbook
  form, {fraction(judged["matrices"], worst)} of the attention matrices alone; limit 1/15 of the textbook form, {met}.
- Growth with the tokens: {", ".join(f"{value:.1f}" for value in per_token)} kB per token in later calls; constant means
  linear. The textbook form grows with the square.
- Both forms give the same map: largest difference {max(r.get("difference", 0) for r in rows):.0e} of the largest value.

What has to be kept is q and k of every block, since the propagation needs the gradient of the last block first. Where a
model computes q, k and v as one tensor, q and k are copied out of it, so that v is not kept alive with them.

*The textbook form* forms every attention matrix in the open, keeps all of them with the whole graph, and runs one
backward pass through the whole model (`benchmarks/textbook.py`). It does not keep the gradients of the matrices;
methods that need those (Generic Attention, TransAttrib) hold the *matrices alone* a second time. At the largest size it
was not run; "matrices alone" is arithmetic at every size: blocks x heads x tokens x tokens x 4 bytes.

*How it is counted.* A `TorchDispatchMode` sees the result of every operator below autograd and adds up the storages
that are alive; a storage is taken off when its last tensor is gone (`benchmarks/meter.py`). Scratch memory inside a
kernel is not seen.
{hollow(rows)}

{resident(system, judged)}"""


def hollow(rows: list[Results]) -> str:
    """What was not computed, and what that changes."""
    pixels, difference = next((row["pixels"], row["hollow differs by"]) for row in rows if "hollow differs by" in row)
    return f"""Fused attention allocated its results without computing them, to save time; computing them at {pixels}
pixels changes the count of a later call by {abs(difference):,} bytes."""


def memory_cells(row: Results) -> list[str]:
    theirs = megabytes(row["textbook"]) if "textbook" in row else "not run"
    ours = [megabytes(row[key]) for key in ("plain", "later", "first", "q and k")]
    return [str(row["pixels"]), str(row["tokens"]), *ours, theirs, megabytes(row["matrices"])]


def fraction(whole: int, piece: int) -> str:
    return f"1/{whole / piece:.1f}"


def resident(found: Results, counted: Results) -> str:
    """The cross-check with the operating system."""
    names = {"plain": "plain forward", "explained": "first call", "textbook": "textbook"}
    cells = [
        [name, *(megabytes(n) for n in (counted[key], found["returning"][form], found["as it is"][form]))]
        for (form, name), key in zip(names.items(), ("plain", "first", "textbook"), strict=True)
    ]
    return f"""Cross-check with the peak resident memory of a fresh process at {found["pixels"]} pixels. By default the
C library keeps freed memory, in pieces that do not fit the next tensor; `MALLOC_MMAP_THRESHOLD_=100000` forbids that.

{table(["", "counted", "resident, freed memory returned", "resident, default"], cells)}"""


# Time -----------------------------------------------------------------------------------------------------------------


def clock(part: Results) -> str:
    head = ["batch", "plain", "explained", "ratio, median", "lowest to highest", "pairs"]
    cells = [
        [
            row["batch"],
            *(f"{row[form]:.2f} s" for form in ("plain", "explained")),
            f"{row['ratio']:.2f}",
            f"{row['lowest']:.2f} to {row['highest']:.2f}",
            row["repeats"],
        ]
        for row in part["rows"]
    ]
    return f"""## Time (noisy)

ViT-B/16 at 224, one class, later calls, one thread; a plain forward pass and an explanation in turn, in one process on
a machine that other work may have kept busy. Trust the counts above.

{table(head, cells)}"""


def repeat(results: Results) -> str:
    dates = sorted({part["date"] for part in results.values()})
    versions = sorted({part["torch"] for part in results.values()})
    return f"""## Repeat it

<!-- needs: time -->
```sh
python -m benchmarks.cost
```

Measured {" and ".join(dates)} with PyTorch {" and ".join(versions)}, float32, on
two cores of an AMD EPYC processor, one of them used. Random weights: no cost depends on them."""
