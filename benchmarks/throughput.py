"""Where the time of a perturbation run goes, and what ImageNet's 50,000 validation pictures would take on one H200.

    python -m benchmarks.throughput --data FOLDER --model timm:deit_tiny_patch16_224 --weights FILE [--page]

`--page` writes docs/throughput.md. The share is that of wall time in the model's own forward passes; everything else is
reading, explaining, ordering, erasing and writing. Operations are counted by PyTorch.
"""

import argparse
import platform
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.cost import network, picture
from benchmarks.page import table
from gradtoken import attribute, load
from gradtoken.benchmark.plan import planned
from gradtoken.benchmark.running import run
from gradtoken.data import open_data
from gradtoken.protocols import PROTOCOLS

PROTOCOL = "perturbation/gradtoken2025"
PICTURES, TOP1 = 50_000, 0.818  # ImageNet's validation part, and the accuracy of the paper's weights on it
STEPS = 18  # nine in each direction
RATES = {"float32": 67e12, "bfloat16": 989e12}  # operations a second, from the data sheet of the H200, dense
REACHED = 0.5  # share of that rate which is assumed
PAGE = Path("docs/throughput.md")


class Clock(nn.Module):
    """The network, counting the seconds of its passes without a graph."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.seconds = net, 0.0

    def forward(self, x: Tensor) -> Tensor:
        """As the network's."""
        if not torch.is_inference_mode_enabled():
            return self.net(x)
        start = time.perf_counter()
        out: Tensor = self.net(x)
        self.seconds += time.perf_counter() - start
        return out


def shares(options: argparse.Namespace) -> list[list[str]]:
    """By method: wall seconds a picture, and how much of them the model's forward passes took."""
    data = open_data(options.data)
    data = replace(data, ids=data.ids[: options.pictures])
    model = load(options.model, weights=options.weights)
    rows = []
    for method in options.methods:
        clock = Clock(model.net)
        plan = planned(PROTOCOLS[PROTOCOL], data, replace(model, net=clock), [method])
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            run(plan, Path(folder))
            wall = time.perf_counter() - start
        rows.append([f"`{method}`", f"{wall / len(data):.2f} s", f"{clock.seconds / wall:.1%}"])
    return rows


def operations(net: nn.Module, x: Tensor, method: str = "") -> float:
    """Floating-point operations of a plain forward pass, or of an explanation."""

    def work() -> None:
        if method:
            attribute(net, x, 0, method)
        else:
            with torch.no_grad():
                net(x)

    work()  # the first call learns the layout
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def estimates(methods: list[str]) -> list[list[str]]:
    """By method: operations a picture of ViT-B/16, and minutes for all pictures at the assumed rates."""
    net, x = network("vit_base_patch16_224", 224), picture(224)
    forward = operations(net, x)
    asks = 1 + (1 - TOP1)  # the label is another class than the prediction for the pictures that are wrong
    rows = []
    for method in methods:
        whole = operations(net, x, method) + forward * (1 + STEPS * asks)
        minutes = [f"{PICTURES * whole / (REACHED * rate) / 60:.1f} min" for rate in RATES.values()]
        rows.append(
            [f"`{method}`", f"{whole / 1e12:.2f} TFLOP", f"{forward * (1 + STEPS * asks) / whole:.1%}", *minutes]
        )
    return rows


def page(options: argparse.Namespace) -> str:
    """Markdown of both tables."""
    head = (
        "# Throughput of the perturbation test\n\nWritten by `python -m benchmarks.throughput`; "
        f"PyTorch {torch.__version__}, {platform.machine()}, {torch.get_num_threads()} thread(s).\n\n"
        f"## Where the time goes\n\n`{PROTOCOL}`, {options.model}, the first {options.pictures} pictures of "
        f"{Path(options.data).name}, wall time:"
    )
    middle = (
        f"## 50,000 pictures through ViT-B/16 on one H200\n\nNot measured: counted operations of a picture (untouched, "
        f"{STEPS} erased pictures for the prediction, and again for the label of the {1 - TOP1:.0%} where that is "
        f"another class), at {REACHED:.0%} of the rates of the card's data sheet. Reading 50,000 pictures is "
        "not in it."
    )
    first = table(["method", "a picture", "in forward passes"], shares(options))
    rates = [f"{name}, {rate / 1e12:.0f} TFLOP/s" for name, rate in RATES.items()]
    second = table(["method", "a picture", "in forward passes", *rates], estimates(options.methods))
    return "\n\n".join([head, first, middle, second]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Throughput of the perturbation test.")
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", default="timm:deit_tiny_patch16_224")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--methods", nargs="+", default=["gradtoken", "rollout", "gradcam", "attn_lrp", "transattrib"])
    parser.add_argument("--pictures", type=int, default=32)
    parser.add_argument("--page", action="store_true")
    options = parser.parse_args()
    text = page(options)
    print(text)
    if options.page:
        PAGE.write_text(text)


if __name__ == "__main__":
    main()
