"""The sections of `docs/performance.md` on growth, on keeping less and on rounding, and their figure."""

from pathlib import Path
from typing import Any

from benchmarks.growth import exponent
from benchmarks.page import Results, megabytes, table, verdict

PAGE, FIGURE = Path("docs/performance.md"), Path("docs/figures/growth.png")
KEPT_LIMIT, RANK_LIMIT = 1.5, 0.99


def sections(results: Results) -> str:
    """What was measured of these."""
    known = {"keeping": keeping, "rounding": rounding, "growth": growth}
    return "\n\n".join(write(results) for part, write in known.items() if part in results)


# Keeping less ---------------------------------------------------------------------------------------------------------


def keeping(results: Results) -> str:
    rows = results["keeping"]["rows"]
    ways = ("keep", "bfloat16", "float16", "recompute")
    lines = [[row["tokens"], f'`"{way}"`', *of_way(row, way)] for row in rows for way in ways]
    worst = max((row["keep"][1] - row["plain"][1]) / row["q and k"] for row in rows)
    head = ["tokens", "`memory`", "memory", "above the plain pass", "x queries and keys", "work"]
    return f"""## Queries and keys kept, rounded or computed again

ViT-S/16, one picture, one class, later calls; [how to](how-to/memory.md#time-for-memory). `recompute` gives the same
map to the last bit.

{table(head, lines)}

- As they are: at most {worst:.2f} x the bytes of all queries and keys above the plain pass; limit {KEPT_LIMIT} x,
  {verdict(worst <= KEPT_LIMIT)}.
- Each earlier block's attention is computed once more for the propagation, `recompute` or not. At 197 tokens that is
  little beside all else; at thousands of tokens attention is most of the work, and the ratio goes to 2."""


def of_way(row: Results, way: str) -> list[str]:
    (flops, held), (plain_flops, plain) = row[way], row["plain"]
    extra = held - plain
    return [megabytes(held), megabytes(extra), f"{extra / row['q and k']:.2f}", f"{flops / plain_flops:.2f} x"]


def rounding(results: Results) -> str:
    lines = [
        [
            *(r["model"].removeprefix("timm:"), r["way"], f"{r['mean']:.5f}", f"{r['lowest']:.5f}"),
            *(f"{r['above']} of {r['pictures']}", verdict(r["above"] == r["pictures"])),
        ]
        for r in results["rounding"]["rows"]
    ]
    head = ["network", "rounded", "mean", "lowest", f"above {RANK_LIMIT}", "limit"]
    return f"""## Rounded numbers

Spearman's rank correlation of GradToken's map of the predicted class with the one in float32, on photographs of
ImageNet's validation part; a map of zeros alone has no order and is left out.

{table(head, lines)}

Most of what changes in bfloat16 is the network itself: rounding its weights alone does much of it. Looked at once, on
the first 24 pictures with vit_tiny: the whole network in bfloat16 gave 0.992 in the mean and 0.909 at the lowest, where
80 % of the patches are clipped to 0 and have no order; with its last block and head in float32 0.994 and 0.930; and
signed maps (`heads="mean"`), where nothing is clipped, 0.998 and 0.989.

<!-- needs: time -->
```sh
python -m benchmarks.rounding photos/ --model bundled --most 8
```"""


# Growth ---------------------------------------------------------------------------------------------------------------


def growth(results: Results) -> str:
    part = results["growth"]
    over = {"tokens": "tokens, batch 1", "batch": "batch, 196 tokens", "classes": "classes, 196 tokens"}
    lines = []
    for key, title in over.items():
        rows = part[key]
        names = [f"{form} {what}" for what in ("flops", "bytes") for form in ("plain", "explained")]
        span = f"{rows[0]['x']} to {rows[-1]['x']:,}"
        lines.append([title, span, *(f"{exponent(rows, name):.2f}" for name in names)])
    head = ["over", "from", "work, plain", "work, explained", "memory, plain", "memory, explained"]
    return f"""## Growth

Exponents p of y = c x^p, fitted by least squares on logarithms: ViT-Ti/16, later calls, counted as above. Attention's
work grows with the square of the tokens, and that of all else with their number; memory is linear.

{table(head, lines)}

{further(part["classes"])}
{clock(results["clock"]) if "clock" in results else ""}
![Work and memory over tokens, batch and classes](figures/growth.png)

Drawn by `python -m benchmarks.cost page`."""


def further(rows: list[Results]) -> str:
    first, last = rows[0], rows[-1]
    work, held = (
        (last[f"explained {what}"] - first[f"explained {what}"]) / (last["x"] - 1) / first[f"plain {what}"]
        for what in ("flops", "bytes")
    )
    return f"""Each class after the first adds {work:.3f} of the plain pass's work and {held:.2f} of its memory
on this network, the mean over {last["x"]}.
"""


def clock(part: Results) -> str:
    rows = part["rows"]
    lines = [
        [f"{r['x']:,}", f"{r['plain']:.2f} s", f"{r['explained']:.2f} s", f"{r['explained'] / r['plain']:.2f}"]
        for r in rows
    ]
    fitted = " and ".join(
        f"{exponent(rows, form):.2f} ({name})" for form, name in (("plain", "plain"), ("explained", "explained"))
    )
    return f"""Processor seconds of one thread on a ViT-Ti/16 with {part["blocks"]} blocks; the last, whose attention
has a backward pass, weighs four times what it does in twelve. Exponents {fitted}.

{table(["tokens", "plain forward", "explained", "ratio"], lines)}
"""


def draw(results: Results) -> None:
    """Memory and work over tokens, batch and classes."""
    import matplotlib.pyplot as plt

    part = results["growth"]
    figure, axes = plt.subplots(2, 3, figsize=(10, 5.4), sharey="row", layout="constrained")
    for column, key in enumerate(("tokens", "batch", "classes")):
        for line, (what, unit, scale) in enumerate((("flops", "GFLOP", 1e9), ("bytes", "MB", 1e6))):
            panel: Any = axes[line][column]
            for form, colour in (("plain", "#888888"), ("explained", "#0072b2")):
                rows = part[key]
                p = exponent(rows, f"{form} {what}")
                panel.loglog(
                    [r["x"] for r in rows],
                    [r[f"{form} {what}"] / scale for r in rows],
                    marker="o",
                    color=colour,
                    label=f"{form}, p = {p:.2f}",
                )
            panel.set_xlabel(key if line else "")
            panel.set_ylabel(unit if not column else "")
            panel.grid(alpha=0.3)
            panel.legend(frameon=False, fontsize=8)
    FIGURE.parent.mkdir(exist_ok=True)
    figure.savefig(FIGURE, dpi=110)
    plt.close(figure)
