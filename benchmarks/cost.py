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
    return {"rows": [memory_row(pixels) for pixels in PIXELS]}


def memory_row(pixels: int) -> dict[str, Any]:
    """Peaks of each form without the arithmetic of attention; at the smallest size how much that changes."""
    measure = partial(peak_bytes, hollow=True)
    net, x = network("vit_small_patch16_224", pixels), picture(pixels)
    L, H, N, C = len(net.blocks), net.blocks[0].attn.num_heads, (pixels // 16) ** 2 + 1, net.embed_dim
    row: dict[str, Any] = {"pixels": pixels, "tokens": N - 1, "plain": measure(lambda: plain(net, x))}
    row |= first_and_later(measure, lambda: explained(net, x))
    row |= {"q and k": 2 * L * N * C * 4, "matrices": L * H * N * N * 4}
    if pixels == min(PIXELS):
        row["hollow differs by"] = peak_bytes(lambda: explained(net, x)) - row["later"]
    return row


def count_textbook() -> dict[str, Any]:
    """The textbook form on the same network and pictures, and how far both maps differ."""
    return {"rows": [textbook_row(pixels) for pixels in TEXTBOOK_PIXELS]}


def textbook_row(pixels: int) -> dict[str, Any]:
    net, x = network("vit_small_patch16_224", pixels), picture(pixels)
    unfused, ours = network("vit_small_patch16_224", pixels, fused=False), explained(net, x).flatten(1)
    theirs: list[Tensor] = []
    peak = peak_bytes(lambda: theirs.append(textbook(unfused, x, 0)))
    difference = float((ours - theirs[0]).abs().max() / theirs[0].abs().max())
    return {"pixels": pixels, "textbook": peak, "difference": difference}


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


def measure_time(device: str = "cpu", dtype: str = "float32") -> dict[str, Any]:
    """ViT-B/16 at 224, plain and explained in turn."""
    net = network("vit_base_patch16_224", 224).to(device, getattr(torch, dtype))
    batches = ((1, 15), (8, 5)) if device == "cpu" else ((1, 50), (8, 50), (64, 30))
    return {"rows": [time_row(net, batch, repeats) for batch, repeats in batches]}


def time_row(net: nn.Module, batch: int, repeats: int) -> dict[str, Any]:
    weight = next(net.parameters())
    x = picture(224, batch).to(weight.device, weight.dtype)
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
    float(run().sum())  # which waits for a GPU
    return time.perf_counter() - start


FORMS: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "plain": plain,
    "explained": explained,
    "textbook": lambda net, x: textbook(net, x, 0),
}
PARTS: dict[str, Callable[..., dict[str, Any]]] = {
    "flops": count_flops,
    "memory": count_memory,
    "textbook": count_textbook,
    "resident": measure_resident,
    "time": measure_time,
}


def all_parts() -> dict[str, Callable[..., dict[str, Any]]]:
    """Those of this file, and those that are made with it."""
    from benchmarks import growth

    return PARTS | growth.PARTS


def write(results: dict[str, Any]) -> None:
    """The page and its figure."""
    from benchmarks.growing import draw, sections

    PAGE.write_text(page(results, sections(results)))
    if "growth" in results:
        draw(results)


def store(part: str, **how: str) -> None:
    """Measure a part and put it in the file, beside the others."""
    measured = {**all_parts()[part](**how), "torch": torch.__version__, "date": time.strftime("%Y-%m-%d")}
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    name = part if how.get("device", "cpu") == "cpu" else f"{part} on {torch.cuda.get_device_name()}, {how['dtype']}"
    RESULTS.write_text(json.dumps(known | {name: measured}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Counted FLOPs, counted bytes and seconds of an explanation.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join([*all_parts(), "page"]) + "; default: all")
    parser.add_argument("--form", choices=FORMS, help="print the peak resident memory of one call and stop")
    parser.add_argument("--device", default="cpu", help="of the part `time`")
    parser.add_argument("--dtype", default="float32", help="of the part `time`")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.form:
        print(resident(options.form))
        return
    for part in options.parts or [*all_parts(), "page"]:
        if part == "page":
            write(json.loads(RESULTS.read_text()))
        elif part == "time":
            store(part, device=options.device, dtype=options.dtype)
        elif part in all_parts():
            store(part)
        else:
            parser.error(f"no part {part!r}; there are {', '.join([*all_parts(), 'page'])}")


if __name__ == "__main__":
    main()
