"""Does the relevance fall on the object? Energy inside the box and the pointing game, on pictures with boxes.

    python -m benchmarks.localisation --data FOLDER --weights deit_tiny_patch16_224=FILE vit_tiny_patch16_224=FILE

FOLDER holds `labels.csv` (file, class_index, boxes_xyxy_fraction) and `images/`. The explained class is the label.
Add `--page docs/localisation.md` to write the table into the page.
"""

import argparse
import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from benchmarks.boxes import Box, enlarge, gaussian, hit, inside, share
from gradtoken import METHODS, Probe
from gradtoken.models._torchvision import ensure_torchvision

Method = Callable[[Probe], Tensor]
SIZE, GRID = 224, 14


class Recipe(NamedTuple):
    """How a model is called in the table, and the mean and standard deviation of the colours it was trained with."""

    label: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


RECIPES = {
    "deit_tiny_patch16_224": Recipe("DeiT-tiny (LayerNorm rounded)", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "vit_tiny_patch16_224": Recipe("ViT-tiny (stored in float16)", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
COMPARED: dict[str, Method] = {
    "GradToken": lambda probe: METHODS["gradtoken"].call(probe),
    "GradToken, propagation none": lambda probe: METHODS["gradtoken"].call(probe, propagation="none"),
    "raw attention": lambda probe: METHODS["raw_attention"].call(probe),
}


class Row(NamedTuple):
    """One picture, model and method. `share` in [0, 1]; `hit` 0 or 1, for a uniform map its expectation."""

    model: str
    method: str
    file: str
    share: float
    hit: float
    blank: bool


@dataclass(frozen=True)
class Sample:
    """A picture with the class it shows and the boxes of that class, as fractions of width and height."""

    path: Path
    label: int
    boxes: list[Box]


# Running --------------------------------------------------------------------------------------------------------------


def samples(folder: Path) -> list[Sample]:
    with (folder / "labels.csv").open(newline="") as file:
        return [
            Sample(folder / "images" / row["file"], int(row["class_index"]), json.loads(row["boxes_xyxy_fraction"]))
            for row in csv.DictReader(file)
        ]


def pixels(path: Path) -> Tensor:
    """The whole picture at 224 x 224, not cropped. (3, 224, 224), 0 to 1"""
    with Image.open(path) as image:
        picture = image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255


def network(name: str, weights: Path) -> nn.Module:
    """The timm model with these weights, in float32."""
    ensure_torchvision()
    import timm

    net: nn.Module = timm.create_model(name)
    net.load_state_dict({key: value.float() for key, value in load_file(weights).items()}, strict=True)
    return net.eval()


def measured(model: str, method: str, sample: Sample, R: Tensor) -> Row:
    """Both measures of one enlarged map. R (224, 224)"""
    if not R.isfinite().all():
        raise SystemExit(f"{method} gave values that are not finite on {sample.path.name}")
    mask, blank = inside(sample.boxes, (SIZE, SIZE)), not bool((R > 0).any())
    return Row(model, method, sample.path.name, share(R, mask), 0.0 if blank else hit(R, mask), blank)


def without_model(chosen: list[Sample]) -> Iterator[Row]:
    """What a map that knows nothing of the picture gets."""
    for name, R in (("uniform map, random point", torch.ones(GRID, GRID)), ("centred Gaussian", gaussian(GRID))):
        enlarged = enlarge(R[None], (SIZE, SIZE))[0]
        yield from (measured("no model", name, sample, enlarged) for sample in chosen)


def with_model(net: nn.Module, recipe: Recipe, batch: list[Sample]) -> tuple[list[Row], int]:
    """Every method on one batch, from one forward pass; and how many predictions are right."""
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (recipe.mean, recipe.std))
    x = torch.stack([(pixels(sample.path) - mean) / std for sample in batch])
    labels = torch.tensor([sample.label for sample in batch])
    probe = Probe(net, x, labels)
    rows = []
    for name, method in COMPARED.items():
        maps = enlarge(probe.layout.to_map(method(probe))[:, 0], (SIZE, SIZE))
        rows += [measured(recipe.label, name, sample, R) for sample, R in zip(batch, maps, strict=True)]
    assert probe.logits is not None
    return rows, int((probe.logits.argmax(dim=1) == labels).sum())


# Summing up -----------------------------------------------------------------------------------------------------------


def interval(values: np.ndarray, draws: int = 10_000, seed: int = 0) -> tuple[float, float, float]:
    """Mean and its 95 % bootstrap interval over pictures (percentiles); the same resamples for every row."""
    rng = np.random.default_rng(seed)
    means = np.array([values[rng.integers(0, len(values), len(values))].mean() for _ in range(draws)])
    low, high = np.percentile(means, [2.5, 97.5])
    return float(values.mean()), float(low), float(high)


def summary(found: list[Row]) -> list[dict[str, str | int | float]]:
    """One line per model and method, in percent."""
    lines: list[dict[str, str | int | float]] = []
    for model, method in dict.fromkeys((row.model, row.method) for row in found):
        own = [row for row in found if (row.model, row.method) == (model, method)]
        line: dict[str, str | int | float] = {"model": model, "method": method, "pictures": len(own)}
        for measure in ("share", "hit"):
            values = interval(100 * np.array([getattr(row, measure) for row in own]))
            names = (measure, f"{measure}_low", f"{measure}_high")
            line |= {name: round(value, 2) for name, value in zip(names, values, strict=True)}
        lines.append(line | {"blank": sum(row.blank for row in own)})
    return lines


def write(path: Path, lines: list[dict[str, str | int | float]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def table(lines: list[dict[str, str | int | float]]) -> str:
    """Markdown: means with their intervals."""
    head = ["model", "method", "relevance inside the boxes, %", "pointing game, %", "blank maps"]
    body = [
        [
            line["model"],
            line["method"],
            *(f"{line[m]:.1f} [{line[f'{m}_low']:.1f}, {line[f'{m}_high']:.1f}]" for m in ("share", "hit")),
            line["blank"],
        ]
        for line in lines
    ]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in [head, ["---"] * len(head), *body])


def between_marks(page: Path, text: str) -> None:
    """Replace what stands between the page's two marks."""
    before, _, rest = page.read_text().partition("<!-- measured -->\n")
    _, mark, after = rest.partition("<!-- end of measured -->")
    if not mark:
        raise SystemExit(f"{page} lacks the lines <!-- measured --> and <!-- end of measured -->")
    page.write_text(f"{before}<!-- measured -->\n{text}\n{mark}{after}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Relevance inside the true boxes, and the pointing game.")
    parser.add_argument("--data", type=Path, required=True, help="folder with labels.csv and images/")
    parser.add_argument("--weights", nargs="+", required=True, metavar="NAME=FILE", help=", ".join(RECIPES))
    parser.add_argument("--out", type=Path, help="CSV with one row per picture, model and method")
    parser.add_argument("--summary", type=Path, default=Path("benchmarks/results/localisation-ilsvrc650.csv"))
    parser.add_argument("--page", type=Path, help="page to write the table into")
    parser.add_argument("--limit", type=int, help="the first pictures only")
    parser.add_argument("--batch", type=int, default=26)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    chosen = samples(options.data)[: options.limit]
    found, notes = list(without_model(chosen)), []
    for name, weights in (item.split("=", 1) for item in options.weights):
        net, recipe, right = network(name, Path(weights)), RECIPES[name], 0
        for start in range(0, len(chosen), options.batch):
            rows, hits = with_model(net, recipe, chosen[start : start + options.batch])
            found, right = found + rows, right + hits
        notes.append(f"Top-1 of {recipe.label} on these {len(chosen)} pictures: {right / len(chosen):.1%}.")
    lines = summary(found)
    text = "\n".join([table(lines), "", *notes])
    print(text)
    write(options.summary, lines)
    if options.out:
        write(options.out, [row._asdict() for row in found])
    if options.page:
        between_marks(options.page, text)


if __name__ == "__main__":
    main()
