"""Many explanations in one process: memory, threads and open files stay as they are.

    python -m benchmarks.soak 10000
    python -m benchmarks.soak 10000 --kernels

Each explanation is of a model that was made for it: another depth, width, number of heads, size of pictures, patches,
number format, batch, target and method each time. Some are refused, as in use. The first tenth is left out of the
growth: libraries are imported then. On a processor PyTorch keeps compiled kernels for each new shape (oneDNN), hundreds
of MiB for shapes without end; they are off unless `--kernels` asks for them, so that what grows is this package's.
"""

import argparse
import gc
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch

from gradtoken.attribution import attribute
from gradtoken.errors import GradTokenError
from gradtoken.methods import METHODS
from gradtoken.models.vit import VisionTransformer

CHEAP = {"tis": {"masks": 4}, "transition_attention_maps": {"steps": 2}, "self_attention_attribution": {"steps": 2}}
CHEAP |= {"beyond_intuition": {"steps": 2}, "integrated_gradients": {"steps": 2}, "gradient_shap": {"samples": 2}}
MARKS = 20  # measurements
FORMATS = (torch.float32, torch.float64, torch.bfloat16)


@dataclass(frozen=True)
class Mark:
    """What the process holds. memory: resident, MiB. tensors: that Python can reach."""

    count: int
    memory: float
    threads: int
    files: int
    tensors: int


def mark(count: int) -> Mark:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    tensors = sum(1 for thing in gc.get_objects() if type(thing) is torch.Tensor)
    memory = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    return Mark(count, memory, threading.active_count(), len(os.listdir("/proc/self/fd")), tensors)


def model(random: Random) -> tuple[VisionTransformer, tuple[int, int]]:
    """A tiny one of any depth, width and number of heads, and the size of its pictures."""
    heads, patch = random.randint(1, 3), random.choice([4, 8])
    size = patch * random.randint(2, 4)
    width, depth = heads * random.choice([4, 8]), random.randint(1, 3)
    net = VisionTransformer(classes=5, size=size, patch=patch, width=width, depth=depth, heads=heads, hidden=2 * width)
    return net.to(random.choice(FORMATS)).eval(), (size, size)


def explained(random: Random) -> bool:
    """One explanation of one or more pictures and classes; False where it was refused."""
    net, size = model(random)
    name, batch = random.choice(list(METHODS)), random.randint(1, 3)
    weight = next(net.parameters())
    x = torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(random.randint(0, 99))).to(weight)
    target = random.choice([None, 0, [1] * batch, [[0, 3]] * batch, 7])
    try:
        R = attribute(net, x, target, name, allow_blank=True, **CHEAP.get(name, {}))
    except GradTokenError:
        return False
    assert R.isfinite().all()
    return True


def soak(count: int, seed: int = 0) -> Iterator[tuple[Mark, int]]:
    """Measurements on the way, and how many explanations were refused so far."""
    random, refused = Random(seed), 0
    for done in range(1, count + 1):
        refused += not explained(random)
        if done % max(1, count // MARKS) == 0:
            yield mark(done), refused


def growth(marks: list[Mark]) -> float:
    """MiB in a thousand explanations: slope of a straight line through all measurements but the first tenth."""
    kept = [(m.count / 1000, m.memory) for m in marks if m.count > marks[-1].count / 10]
    mean = [sum(axis) / len(kept) for axis in zip(*kept, strict=True)]
    above = sum((x - mean[0]) * (y - mean[1]) for x, y in kept)
    return above / sum((x - mean[0]) ** 2 for x, _ in kept)


def main() -> None:
    """Print a line for each measurement, and the growth."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("count", type=int, nargs="?", default=10_000)
    parser.add_argument(
        "--kernels", action="store_true", help="let PyTorch keep kernels for each shape, as it usually does"
    )
    given = parser.parse_args()
    torch.set_num_threads(1)
    start, marks = time.monotonic(), list[Mark]()
    print("| explanations | refused | MiB | threads | open files | tensors |\n" + "| ---: " * 6 + "|")
    with torch.backends.mkldnn.flags(enabled=given.kernels):
        for one, refused in soak(given.count):
            marks.append(one)
            row = f"| {one.count:,} | {refused:,} | {one.memory:.1f} | {one.threads} | {one.files} | {one.tensors} |"
            print(row, flush=True)
    print(f"\n{growth(marks):+.3f} MiB in 1,000 explanations; {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
