"""Train a model to say which of a data set's classes are in a picture: a new head, then the whole network.

    python scripts/train_head.py --model timm:vit_base_patch16_224 --data VOCdevkit/VOC2012 --kind voc2012 \
        --split trainaug --val-split val --out voc-vit --epochs 10
    python scripts/train_head.py --model bundled --data FOLDER --hold-out 0.3 --out FOLDER --freeze

The head is one linear layer with a sigmoid for each class, under binary cross-entropy; any class may be true of a
picture with any other. It is fitted first, by L-BFGS on features that are computed once (pictures and their mirror
images, preprocessed as the model says). Unless --freeze, the whole network is then trained for --epochs epochs, by
AdamW with warm-up and a cosine, on random crops and mirror images, in mixed precision where there is a GPU: a fitted
head keeps the first steps from damaging the features (Kumar et al., arXiv 2202.10054).

The mean over classes of average precision on the validation part is printed, beside that of equal scores (chance):
before, where the model knows ImageNet's classes and the data set says which of them mean its own; after the head; and
after each epoch. OUT/checkpoint.pt is written at the same times; the same command continues from it after an
interruption, to the same weights as without one. At the end OUT holds the model, labels.json and facts.json, whose
entry "load" is the call that loads it.
"""

import argparse
import importlib.metadata
import json
import math
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import ImageOps
from sklearn.metrics import average_precision_score
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import gradtoken
from gradtoken.data.sample import DataSet
from gradtoken.errors import BadData
from gradtoken.models._torchvision import ensure_torchvision
from gradtoken.models.grouped import Grouped
from gradtoken.models.head import head_of, headless, save, with_head
from gradtoken.models.model import Model
from gradtoken.models.preprocess import Preprocess
from gradtoken.targets import logits_of

CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class Recipe:
    """rate: the peak. warmup: share of all steps. crop: the smallest share of the area. l2: of the fitted head."""

    epochs: int = 10
    batch: int = 64
    rate: float = 2e-5
    decay: float = 0.05
    warmup: float = 0.1
    crop: float = 0.5
    l2: float = 1e-2
    seed: int = 0


# Pictures -------------------------------------------------------------------------------------------------------------


class Views(Dataset[tuple[Tensor, Tensor]]):
    """Pictures as the model reads them, and which classes are true of them: (3, H, W), (classes,) of 0 and 1."""

    def __init__(self, data: DataSet, preprocess: Preprocess, mirrored: bool = False) -> None:
        self.data, self.preprocess, self.mirrored = data, preprocess, mirrored

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        sample = self.data[number]
        truth = torch.zeros(len(self.data.classes))
        truth[list(sample.labels)] = 1
        return self.pixels(sample.input, number), truth

    def pixels(self, image: Any, _number: int) -> Tensor:
        return self.preprocess(ImageOps.mirror(image) if self.mirrored else image).pixels


class RandomViews(Views):
    """Random crops, half of them mirrored; each depends only on the seed, the epoch and the number of the picture."""

    def __init__(self, data: DataSet, preprocess: Preprocess, recipe: Recipe, epoch: int) -> None:
        super().__init__(data, preprocess)
        ensure_torchvision()
        from torchvision.transforms import InterpolationMode, v2

        how = InterpolationMode(preprocess.interpolation)
        crop = v2.RandomResizedCrop(preprocess.size, (recipe.crop, 1.0), interpolation=how)
        self.change = v2.Compose([crop, v2.RandomHorizontalFlip()])
        self.key = (recipe.seed, epoch)

    def pixels(self, image: Any, number: int) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(*self.key, number))
            return self.preprocess.normalised(self.change(image))


def seed_of(*key: int) -> int:
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)


def loader(views: Views, batch: int, workers: int, order: Sequence[int] | None = None) -> DataLoader:
    context = "fork" if workers else None  # samples are read by functions that cannot be pickled
    return DataLoader(views, batch, sampler=order, num_workers=workers, multiprocessing_context=context)


def part_of(data: DataSet, numbers: Sequence[int]) -> DataSet:
    """The samples with these numbers."""
    return replace(data, ids=[data.ids[i] for i in numbers], read=lambda i: data.read(numbers[i]))


def halves(data: DataSet, share: float, seed: int) -> tuple[DataSet, DataSet]:
    """A random part to train on and the rest, `share` of all, to validate on."""
    order = np.random.default_rng(seed).permutation(len(data)).tolist()
    held = max(1, round(share * len(data)))
    return part_of(data, sorted(order[held:])), part_of(data, sorted(order[:held]))


# Scores ---------------------------------------------------------------------------------------------------------------


def mixed(device: torch.device) -> torch.autocast:
    """bfloat16 or, on GPUs without, float16; float32 on a CPU."""
    half = torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float16
    return torch.autocast(device.type, dtype=half, enabled=device.type == "cuda")


@torch.no_grad()
def answers(net: nn.Module, batches: DataLoader) -> tuple[Tensor, Tensor]:
    """What the network gives for each picture, and what is true of it, on the CPU."""
    device, found, truth = next(net.parameters()).device, [], []
    net.eval()
    for x, y in batches:
        with mixed(device):
            found.append(logits_of(net(x.to(device))).float().cpu())
        truth.append(y)
    return torch.cat(found), torch.cat(truth)


def precision(scores: Tensor, truth: Tensor) -> tuple[float, list[float | None]]:
    """Mean over classes of average precision, and that of each class; none for a class that is never true."""
    by_class = [
        float(average_precision_score(t, s)) if t.any() else None
        for s, t in zip(scores.T.numpy(), truth.T.numpy(), strict=True)
    ]
    known = [value for value in by_class if value is not None]
    return (sum(known) / len(known) if known else math.nan), by_class


# Training -------------------------------------------------------------------------------------------------------------


def fit_head(features: Tensor, truth: Tensor, head: nn.Linear, l2: float) -> float:
    """Logistic regression for each class: mean binary cross-entropy + l2 |w|^2. Returns the mean of the first."""
    X, W, b = features.double(), head.weight.detach().double().cpu(), head.bias.detach().double().cpu()
    W, b, Y = W.requires_grad_(), b.requires_grad_(), truth.double()
    optimiser = torch.optim.LBFGS([W, b], max_iter=300, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = len(W) * F.binary_cross_entropy_with_logits(X @ W.T + b, Y) + l2 * W.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    with torch.no_grad():
        head.weight.copy_(W)
        head.bias.copy_(b)
        return F.binary_cross_entropy_with_logits(X @ W.T + b, Y).item()


def rate_at(step: int, steps: int, recipe: Recipe) -> float:
    """Linear warm-up, then a cosine down to zero."""
    warm = max(1, round(recipe.warmup * steps))
    if step < warm:
        return recipe.rate * (step + 1) / warm
    return recipe.rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


class Run:
    """Everything that must survive an interruption, and the loops."""

    def __init__(self, model: Model, train: DataSet, val: DataSet, recipe: Recipe, out: Path, workers: int = 0) -> None:
        if not train.classes or train.classes != val.classes:
            raise BadData(f"expected classes, the same in both parts, got {train.classes[:5]} and {val.classes[:5]}")
        self.base, self.train, self.val, self.recipe, self.out, self.workers = model, train, val, recipe, out, workers
        out.mkdir(parents=True, exist_ok=True)
        self.history: list[dict[str, Any]] = []
        saved = self.read()
        if saved is None:
            self.before()
        self.model = with_head(model, train.classes)
        self.net = self.model.net
        self.device = next(self.net.parameters()).device
        decayed = [w for w in self.net.parameters() if w.ndim >= 2]
        plain = [w for w in self.net.parameters() if w.ndim < 2]
        groups = [{"params": decayed, "weight_decay": recipe.decay}, {"params": plain, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=recipe.rate)
        half = self.device.type == "cuda" and not torch.cuda.is_bf16_supported()
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=half)
        self.epoch = 0  # how many are done; 0 with a history: the head is fitted
        if saved is not None:
            self.resume(saved)

    @property
    def key(self) -> dict[str, Any]:
        """What must be the same for a run to go on."""
        key = {
            "model": self.base.name,
            "train": [self.train.name, len(self.train)],
            "classes": list(self.train.classes),
        }
        return key | {"val": [self.val.name, len(self.val)], "recipe": asdict(self.recipe)}

    def read(self) -> dict[str, Any] | None:
        path = self.out / CHECKPOINT
        if not path.exists():
            return None
        saved = torch.load(path, map_location="cpu", weights_only=True)
        if saved["key"] != self.key:
            raise BadData(
                f"{str(path)!r} is of another run: {saved['key']}; repeat its settings, or name another --out"
            )
        return saved

    def resume(self, saved: dict[str, Any]) -> None:
        self.net.load_state_dict(saved["net"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.scaler.load_state_dict(saved["scaler"])
        self.epoch, self.history = saved["epoch"], saved["history"]

    def write(self) -> None:
        state = {"key": self.key, "epoch": self.epoch, "history": self.history, "net": self.net.state_dict()}
        state |= {"optimiser": self.optimiser.state_dict(), "scaler": self.scaler.state_dict()}
        torch.save(state, self.out / "checkpoint.tmp")
        os.replace(self.out / "checkpoint.tmp", self.out / CHECKPOINT)

    def views(self, data: DataSet, mirrored: bool = False) -> DataLoader:
        return loader(Views(data, self.base.preprocess, mirrored), self.recipe.batch, self.workers)

    def report(self, stage: str, net: nn.Module, **more: float) -> None:
        """Print and keep the precision on the validation part."""
        scores, truth = answers(net, self.views(self.val))
        mean, by_class = precision(scores, truth)
        row = {"stage": stage, "mAP": mean, "chance": precision(torch.zeros_like(truth), truth)[0], **more}
        print("  ".join(f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)
        self.history.append(row | {"AP": dict(zip(self.val.classes, by_class, strict=True))})

    def before(self) -> None:
        """The model as it is, through the ImageNet classes that mean the data set's."""
        groups = self.train.groups
        if len(groups) == len(self.train.classes) and self.base.labels is not None and len(self.base.labels) == 1000:
            self.report("groups of ImageNet classes, untrained", Grouped(self.base.net, groups))

    def run(self, freeze: bool = False) -> dict[str, Any]:
        if not any(row["stage"] == "head" for row in self.history):
            self.fit()
            self.write()
        while not freeze and self.epoch < self.recipe.epochs:
            started = time.monotonic()
            loss = self.train_epoch()
            self.epoch += 1
            self.report(f"epoch {self.epoch}", self.net, loss=loss, seconds=time.monotonic() - started)
            self.write()
        return self.finish()

    def fit(self) -> None:
        """The head alone."""
        name = head_of(self.net, self.model.preprocess)
        with headless(self.net, name):
            found = [answers(self.net, self.views(self.train, mirrored)) for mirrored in (False, True)]
        features, truth = (torch.cat(tensors) for tensors in zip(*found, strict=True))
        loss = fit_head(features, truth, self.net.get_submodule(name), self.recipe.l2)
        self.report("head", self.net, loss=loss)

    def train_epoch(self) -> float:
        """One pass over the training part. Returns the mean loss."""
        seed = seed_of(self.recipe.seed, self.epoch)
        torch.manual_seed(seed)  # of dropout
        order = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(seed)).tolist()
        views = RandomViews(self.train, self.base.preprocess, self.recipe, self.epoch)
        batches, total = loader(views, self.recipe.batch, self.workers, order), 0.0
        self.net.train()
        for number, (x, y) in enumerate(batches):
            rate = rate_at(self.epoch * len(batches) + number, self.recipe.epochs * len(batches), self.recipe)
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            total += self.step(x.to(self.device), y.to(self.device)) * len(x)
        return total / len(self.train)

    def step(self, x: Tensor, y: Tensor) -> float:
        with mixed(self.device):
            logits = logits_of(self.net(x))
        loss = F.binary_cross_entropy_with_logits(logits.float(), y)
        self.optimiser.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimiser)
        nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return loss.item()

    def finish(self) -> dict[str, Any]:
        """Write the model and what is known of it."""
        self.net.eval()
        facts = {"load": save(self.model, self.out), "base": self.base.source, **self.key, "history": self.history}
        facts |= {"preprocess": self.base.preprocess.describe()}
        facts |= {"versions": {name: importlib.metadata.version(name) for name in ("gradtoken", "torch")}}
        (self.out / "facts.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        print(f"mAP {self.history[-1]['mAP']:.4f} on {self.val.name}; {facts['load']}", flush=True)
        return facts


def opened(args: argparse.Namespace) -> tuple[DataSet, DataSet]:
    """The parts to train and to validate on."""
    from gradtoken.data import open_data

    def part(split: str | None) -> DataSet:
        return open_data(args.data, args.kind, **({} if split is None else {"split": split}))

    if args.val_split is None:
        return halves(part(args.split), args.hold_out, args.seed)
    return part(args.split), part(args.val_split)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bundled", help="as gradtoken.load names it")
    parser.add_argument("--weights", type=Path, help="a file, with timm: and torchvision: names")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--kind", help="of data set; recognised where it is not given")
    parser.add_argument("--split", help="to train on, where the data set has several")
    parser.add_argument("--val-split", help="to validate on; without, a random part is held out")
    parser.add_argument("--hold-out", type=float, default=0.2, help="share of the pictures, without --val-split")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--freeze", action="store_true", help="fit the head alone")
    parser.add_argument("--workers", type=int, default=0, help="processes that read pictures")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    for name, default in asdict(Recipe()).items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    args = parser.parse_args(arguments)
    recipe = Recipe(**{name: getattr(args, name) for name in asdict(Recipe())})
    model = gradtoken.load(args.model, weights=args.weights, device=args.device)
    return Run(model, *opened(args), recipe, args.out, args.workers).run(args.freeze)


if __name__ == "__main__":
    main()
