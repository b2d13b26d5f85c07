"""What an explanation costs: counted FLOPs, counted bytes, and seconds. The numbers of `docs/performance.md`.

    python -m benchmarks.cost [flops] [memory] [resident] [time] [page]

Each part stores its numbers in `benchmarks/results/cost.json`; `page` writes the page from them. `memory` needs about
10 GB for the textbook form. Random weights: no cost depends on them.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.meter import Run, flops, peak_bytes, resident_bytes
from benchmarks.page import page
from benchmarks.textbook import textbook
from gradtoken import attribute
from gradtoken.models._torchvision import ensure_torchvision
from gradtoken.probe import LEARNT

RESULTS = Path("benchmarks/results/cost.json")
PAGE = Path("docs/performance.md")
PIXELS = (512, 1024, 2048)
TEXTBOOK_PIXELS = (512, 1024)
RESIDENT_PIXELS = 1024
RETURNING = {"MALLOC_MMAP_THRESHOLD_": "100000"}  # glibc then gives every freed tensor back to the system at once


def network(name: str, pixels: int, fused: bool = True, **options: Any) -> nn.Module:
    """A timm model with random weights, the same for the same name and pixels."""
    ensure_torchvision()
    import timm

    torch.manual_seed(0)
    timm.layers.set_fused_attn(fused)
    net: nn.Module = timm.create_model(name, img_size=pixels, **options).eval()
    timm.layers.set_fused_attn(True)
    return net


def picture(pixels: int, batch: int = 1) -> Tensor:
    return torch.randn(batch, 3, pixels, pixels, generator=torch.Generator().manual_seed(0))


def plain(net: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return net(x)  # type: ignore[no-any-return]


def explained(net: nn.Module, x: Tensor, classes: int = 1) -> Tensor:
    return attribute(net, x, [list(range(classes))] * len(x), allow_blank=True)


def first_and_later(measure: Callable[[Run], int], run: Run) -> dict[str, int]:
    """The call that learns the layout of a model's tokens, and one that knows it."""
    LEARNT.clear()
    return {"first": measure(run), "later": measure(run)}


# The three parts ------------------------------------------------------------------------------------------------------


def count_flops() -> dict[str, Any]:
    """ViT-B/16, one picture of 224 x 224."""
    net, x = network("vit_base_patch16_224", 224), picture(224)
    rows = [{"classes": K, **first_and_later(flops, lambda K=K: explained(net, x, K))} for K in (1, 2, 5, 10)]
    pooled = network("vit_base_patch16_224", 224, global_pool="avg")
    one, two = (first_and_later(flops, lambda K=K: explained(pooled, x, K))["later"] for K in (1, 2))
    return {"plain": flops(lambda: plain(net, x)), "rows": rows, "pooled": two - one}


def count_memory() -> dict[str, Any]:
    """ViT-S/16, one picture, one class."""
    rows = [memory_row(pixels, hollow=pixels not in TEXTBOOK_PIXELS) for pixels in PIXELS]
    return {"rows": rows}


def memory_row(pixels: int, hollow: bool) -> dict[str, Any]:
    """Peaks of each form; `hollow` skips the arithmetic of attention, and the textbook form."""
    measure = partial(peak_bytes, hollow=hollow)
    net, x = network("vit_small_patch16_224", pixels), picture(pixels)
    L, H, N, C = len(net.blocks), net.blocks[0].attn.num_heads, (pixels // 16) ** 2 + 1, net.embed_dim
    row: dict[str, Any] = {"pixels": pixels, "tokens": N - 1, "plain": measure(lambda: plain(net, x))}
    row |= first_and_later(measure, lambda: explained(net, x))
    row |= {"q and k": 2 * L * N * C * 4, "matrices": L * H * N * N * 4, "hollow": hollow}
    if not hollow:
        row["hollow differs by"] = peak_bytes(lambda: explained(net, x), hollow=True) - row["later"]
        unfused, ours = network("vit_small_patch16_224", pixels, fused=False), explained(net, x).flatten(1)
        theirs: list[Tensor] = []
        row["textbook"] = peak_bytes(lambda: theirs.append(textbook(unfused, x, 0)))
        row["difference"] = float((ours - theirs[0]).abs().max() / theirs[0].abs().max())
    return row


def measure_resident() -> dict[str, Any]:
    """The same seen by the operating system, each form in a process of its own: a first call."""
    as_it_is, returning = ({form: resident_elsewhere(form, extra) for form in FORMS} for extra in ({}, RETURNING))
    return {"pixels": RESIDENT_PIXELS, "as it is": as_it_is, "returning": returning}


def resident_elsewhere(form: str, extra: dict[str, str]) -> int:
    """`resident` in a fresh process with these environment variables."""
    command = [sys.executable, "-m", "benchmarks.cost", "--form", form]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **extra})
    return int(done.stdout)


def resident(form: str) -> int:
    """Peak resident memory of one call in this process, above the model and the picture."""
    net = network("vit_small_patch16_224", RESIDENT_PIXELS, fused=form != "textbook")
    x = picture(RESIDENT_PIXELS)
    return resident_bytes(lambda: FORMS[form](net, x))


def measure_time() -> dict[str, Any]:
    """ViT-B/16 at 224, plain and explained in turn."""
    net = network("vit_base_patch16_224", 224)
    return {"rows": [time_row(net, batch, repeats) for batch, repeats in ((1, 15), (8, 5))]}


def time_row(net: nn.Module, batch: int, repeats: int) -> dict[str, Any]:
    x = picture(224, batch)
    plain(net, x), explained(net, x)
    pairs = [(seconds(lambda: plain(net, x)), seconds(lambda: explained(net, x))) for _ in range(repeats)]
    ratios = [b / a for a, b in pairs]
    return {
        "batch": batch,
        "repeats": repeats,
        "plain": statistics.median(a for a, _ in pairs),
        "explained": statistics.median(b for _, b in pairs),
        "ratio": statistics.median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
    }


def seconds(run: Run) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


FORMS: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "plain": plain,
    "explained": explained,
    "textbook": lambda net, x: textbook(net, x, 0),
}
PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "flops": count_flops,
    "memory": count_memory,
    "resident": measure_resident,
    "time": measure_time,
}


def store(part: str) -> None:
    """Measure a part and put it in the file, beside the others."""
    measured = {**PARTS[part](), "torch": torch.__version__, "date": time.strftime("%Y-%m-%d")}
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps(known | {part: measured}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Counted FLOPs, counted bytes and seconds of an explanation.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join([*PARTS, "page"]) + "; default: all")
    parser.add_argument("--form", choices=FORMS, help="print the peak resident memory of one call and stop")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.form:
        print(resident(options.form))
        return
    for part in options.parts or [*PARTS, "page"]:
        if part == "page":
            PAGE.write_text(page(json.loads(RESULTS.read_text())))
        elif part in PARTS:
            store(part)
        else:
            parser.error(f"no part {part!r}; there are {', '.join([*PARTS, 'page'])}")


if __name__ == "__main__":
    main()
