"""Train the bundled model: a 12-block ViT for 11 everyday classes, distilled from a DeiT-tiny teacher.

    python scripts/train_bundled.py --pictures FOLDER --teacher deit_tiny_patch16_224.safetensors --out FOLDER

`FOLDER` of pictures holds {train,val}/CLASS/*.jpg. Every weight of the student starts at random; the teacher only gives
targets. A linear head on the teacher comes first, then three stages with their own picture size and number of views:

head    a linear head on the frozen teacher's class token: its soft labels are targets; fitted anew at each picture size
blocks  each student block regresses what the teacher's block of the same depth does to the teacher's own tokens
joint   the whole student: labels, the teacher's soft labels and its final tokens, at 128 pixels
final   the same at 224 pixels, with averaged weights

Progress goes to the screen and to OUT/log.csv; OUT/checkpoint.pt is written every `--save-every` seconds and at the end
of each stage, and the same command continues from it after an interruption.
"""

import argparse
import csv
import json
import math
import os
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gradtoken.models.vit import VisionTransformer

MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
STUDENT = {"width": 192, "depth": 12, "heads": 3, "hidden": 384}
TEMPERATURE = 2.0


@dataclass(frozen=True)
class Stage:
    name: str
    size: int  # pixels
    views: int
    batch: int
    rate: float  # peak learning rate


def stages(scale: float) -> list[Stage]:
    """The recipe; `scale` multiplies the number of views of every stage."""
    recipe = [
        Stage("blocks", 128, 90_000, 32, 1.5e-3),
        Stage("joint", 128, 96_000, 48, 8e-4),
        Stage("final", 224, 16_000, 32, 2e-4),
    ]
    return [Stage(s.name, s.size, int(s.views * scale), s.batch, s.rate) for s in recipe]


# Pictures ------------------------------------------------------------------------------------------------------------


class Pictures:
    """All pictures of one split, decoded once and kept as bytes."""

    def __init__(self, folder: Path, classes: list[str]) -> None:
        files = [(path, index) for index, name in enumerate(classes) for path in sorted((folder / name).iterdir())]
        self.files = [path for path, _ in files]
        self.images = [Image.open(path).convert("RGB") for path in self.files]
        self.labels = torch.tensor([index for _, index in files])

    def sampling_weights(self) -> Tensor:
        """Square-root balancing: a class of n pictures is drawn in proportion to sqrt(n)."""
        counts = torch.bincount(self.labels).double()
        return counts.rsqrt()[self.labels]

    def whole(self, size: int) -> Tensor:
        """Every picture squashed to size x size, as uint8. (n, 3, size, size)"""
        resized = [np.asarray(im.resize((size, size), Image.Resampling.BICUBIC)) for im in self.images]
        return torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2)


def random_view(image: Image.Image, size: int, rng: np.random.Generator) -> np.ndarray:
    """A random crop (35 to 100 % of the area) at size x size, half of them mirrored, light jitter. (size, size, 3)"""
    width, height = image.size
    area = width * height * rng.uniform(0.35, 1.0)
    aspect = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3))) * (width / height) ** 0.5
    w, h = min(width, math.sqrt(area * aspect)), min(height, math.sqrt(area / aspect))
    x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
    view = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=(x, y, x + w, y + h)), dtype=np.float32)
    if rng.random() < 0.5:
        view = view[:, ::-1]
    contrast, brightness = rng.uniform(0.75, 1.25), rng.uniform(-25, 25)
    return np.clip((view - 128) * contrast + 128 + brightness, 0, 255).astype(np.uint8)


def normalise(bytes_: Tensor) -> Tensor:
    return (bytes_.float() / 255 - MEAN) / STD


def batches(pictures: Pictures, stage: Stage, start: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches `start`, `start + 1`, ...; each depends only on its number, so an interrupted run sees the same views."""
    weights = pictures.sampling_weights()
    ready: queue.Queue[tuple[Tensor, Tensor]] = queue.Queue(maxsize=4)

    def fill() -> None:
        for number in range(start, math.ceil(stage.views / stage.batch)):
            key = (seed, sum(map(ord, stage.name)), number)
            rng = np.random.default_rng(key)
            generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
            chosen = torch.multinomial(weights, stage.batch, replacement=True, generator=generator)
            views = np.stack([random_view(pictures.images[i], stage.size, rng) for i in chosen.tolist()])
            ready.put((torch.from_numpy(views).permute(0, 3, 1, 2), pictures.labels[chosen]))

    threading.Thread(target=fill, daemon=True).start()
    for _ in range(start, math.ceil(stage.views / stage.batch)):
        views, labels = ready.get()
        yield normalise(views), labels


# Models --------------------------------------------------------------------------------------------------------------


def at_size(net: VisionTransformer, size: int) -> Tensor:
    """The position embedding of `net` resampled to another picture size. (1, 1 + S', C)"""
    cls, grid = net.pos_embed[:, :1], net.pos_embed[:, 1:]
    side, new = math.isqrt(grid.shape[1]), size // 16
    if side == new:
        return net.pos_embed
    square = grid.transpose(1, 2).unflatten(2, (side, side))
    square = F.interpolate(square, size=(new, new), mode="bicubic", antialias=True)
    return torch.cat([cls, square.flatten(2).transpose(1, 2)], dim=1)


def embed(net: VisionTransformer, pixels: Tensor) -> Tensor:
    x = net.patch_embed(pixels)
    return torch.cat([net.cls_token.expand(len(x), -1, -1), x], dim=1) + at_size(net, pixels.shape[-1])


def forward(net: VisionTransformer, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Final tokens (B, 1 + S, C) and logits (B, K) at any picture size."""
    tokens = net.norm(net.blocks(embed(net, pixels)))
    return tokens, net.head(tokens[:, 0])


def branches(net: VisionTransformer, pixels: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor, Tensor, Tensor]]]:
    """The embedding and, per block, (input, attention branch, middle, mlp branch)."""
    x = first = embed(net, pixels)
    steps = []
    for block in net.blocks:
        a = block.attn(block.norm1(x))
        middle = x + a
        m = block.mlp(block.norm2(middle))
        steps.append((x, a, middle, m))
        x = middle + m
    return first, steps


def load_teacher(path: Path) -> VisionTransformer:
    teacher = VisionTransformer(classes=1000)
    teacher.load_state_dict(load_file(path))
    return teacher.eval().requires_grad_(False)


def new_student(classes: int, seed: int) -> VisionTransformer:
    torch.manual_seed(seed)
    student = VisionTransformer(classes=classes, **STUDENT)
    for name, weight in student.named_parameters():
        if weight.ndim >= 2:
            nn.init.trunc_normal_(weight, std=0.02)
        elif name.endswith("bias"):
            nn.init.zeros_(weight)
    return student


# Stages --------------------------------------------------------------------------------------------------------------


def relative(ours: Tensor, theirs: Tensor) -> Tensor:
    """Squared error relative to the target's own spread."""
    theirs = theirs.float()
    return (ours.float() - theirs).square().mean() / theirs.var().clamp(min=1e-6)


def fit_head(teacher: VisionTransformer, pictures: Pictures, classes: int, size: int) -> nn.Linear:
    """Logistic regression on the teacher's class token, pictures and their mirror images at `size` pixels."""
    features = []
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        for chunk in pictures.whole(size).split(128):
            for view in (chunk, chunk.flip(3)):
                features.append(forward(teacher, normalise(view))[0][:, 0].float())
    X = torch.cat(features)
    y = torch.cat([label for chunk in pictures.labels.split(128) for label in (chunk, chunk)])
    head = nn.Linear(X.shape[1], classes)
    optimiser = torch.optim.LBFGS(head.parameters(), max_iter=150, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = F.cross_entropy(head(X), y) + 1e-4 * head.weight.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return head.requires_grad_(False)


def blocks_loss(
    student: VisionTransformer, teacher: VisionTransformer, head: nn.Linear, x: Tensor, _y: Tensor
) -> Tensor:
    """Each block against the teacher's, from the teacher's own tokens; no error passes from block to block."""
    with torch.no_grad():
        first, steps = branches(teacher, x)
        tokens = teacher.norm(steps[-1][2] + steps[-1][3])
    loss = relative(embed(student, x), first)
    for block, (before, a, middle, m) in zip(student.blocks, steps, strict=True):
        loss = loss + relative(block.attn(block.norm1(before)), a) + relative(block.mlp(block.norm2(middle)), m)
    mine = student.norm(steps[-1][2] + steps[-1][3])
    soft = F.softmax(head(tokens[:, 0].float()) / TEMPERATURE, dim=1)
    return loss + relative(mine, tokens) + F.cross_entropy(student.head(mine[:, 0]).float() / TEMPERATURE, soft)


def joint_loss(student: VisionTransformer, teacher: VisionTransformer, head: nn.Linear, x: Tensor, y: Tensor) -> Tensor:
    """Labels, the teacher's soft labels, its final class token and its final patch tokens."""
    with torch.no_grad():
        target, _ = forward(teacher, x)
        soft = F.softmax(head(target[:, 0].float()) / TEMPERATURE, dim=1)
    tokens, logits = forward(student, x)
    logits = logits.float()
    hard = F.cross_entropy(logits, y, label_smoothing=0.05)
    distilled = F.cross_entropy(logits / TEMPERATURE, soft) * TEMPERATURE**2
    return hard + distilled + relative(tokens[:, :1], target[:, :1]) + relative(tokens[:, 1:], target[:, 1:])


LOSSES = {"blocks": blocks_loss, "joint": joint_loss, "final": joint_loss}


@torch.no_grad()
def accuracy(student: VisionTransformer, pixels: Tensor, labels: Tensor, classes: list[str]) -> dict[str, float]:
    """Top-1, mean over classes, each class, and cat against dog (only those two logits compared)."""
    logits = torch.cat([forward(student, normalise(chunk))[1].float() for chunk in pixels.split(64)])
    right = (logits.argmax(1) == labels).float()
    result = {name: right[labels == i].mean().item() for i, name in enumerate(classes)}
    balanced = sum(result.values()) / len(result)
    cat, dog = classes.index("cat"), classes.index("dog")
    pets = (labels == cat) | (labels == dog)
    duel = ((logits[:, dog] > logits[:, cat]) == (labels == dog))[pets].float().mean().item()
    return {"top1": right.mean().item(), "balanced": balanced, "cat_dog": duel, **result}


@torch.no_grad()
def average_into(mean: nn.Module, net: nn.Module, decay: float) -> None:
    for m, w in zip(mean.parameters(), net.parameters(), strict=True):
        m.lerp_(w, 1 - decay)


def write_atomically(state: object, path: Path) -> None:
    torch.save(state, path.with_suffix(".tmp"))
    os.replace(path.with_suffix(".tmp"), path)


class Run:
    """Everything that must survive an interruption, and the loop over one stage."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.out = args, Path(args.out)
        self.out.mkdir(parents=True, exist_ok=True)
        self.classes = sorted(p.name for p in (args.pictures / "train").iterdir())
        self.train = Pictures(args.pictures / "train", self.classes)
        val = Pictures(args.pictures / "val", self.classes)
        self.val = {size: val.whole(size) for size in (128, 224)}
        self.val_labels = val.labels
        self.teacher = load_teacher(args.teacher)
        self.student, self.mean = (new_student(len(self.classes), args.seed) for _ in range(2))
        self.stage, self.step = 0, 0
        self.head, self.head_size = nn.Linear(192, len(self.classes)), 0
        self.saved: dict[str, object] = {}
        if (self.out / "checkpoint.pt").exists():
            self.resume()

    def resume(self) -> None:
        self.saved = torch.load(self.out / "checkpoint.pt", weights_only=True)
        self.student.load_state_dict(self.saved["student"])
        self.mean.load_state_dict(self.saved["mean"])
        self.stage, self.step = self.saved["stage"], self.saved["step"]

    def save(self, optimiser: torch.optim.Optimizer | None) -> None:
        state = {"student": self.student.state_dict(), "mean": self.mean.state_dict(), "stage": self.stage}
        state |= {"step": self.step}
        state |= {"optimiser": optimiser.state_dict()} if optimiser else {}
        write_atomically(state, self.out / "checkpoint.pt")

    def report(self, row: dict[str, object]) -> None:
        print("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)
        with (self.out / "log.csv").open("a", newline="") as file:
            csv.writer(file).writerow([f"{k}={v}" for k, v in row.items()])

    def validate(self, stage: Stage) -> None:
        scores = accuracy(self.mean, self.val[stage.size], self.val_labels, self.classes)
        self.report({"stage": stage.name, "step": self.step, **{k: round(v, 4) for k, v in scores.items()}})

    def run(self) -> None:
        recipe = stages(self.args.scale)
        while self.stage < len(recipe):
            self.run_stage(recipe[self.stage])
            self.stage, self.step = self.stage + 1, 0
            self.save(None)
        self.export()

    def teach_at(self, size: int) -> None:
        """Fit the teacher's head at this picture size, unless it is there already."""
        if self.head_size != size:
            self.head, self.head_size = fit_head(self.teacher, self.train, len(self.classes), size), size
            with torch.no_grad():
                tokens = [forward(self.teacher, normalise(chunk))[0][:, 0] for chunk in self.val[size].split(64)]
            right = self.head(torch.cat(tokens)).argmax(1) == self.val_labels
            self.report({"stage": f"head at {size}", "teacher_top1": right.float().mean().item()})

    def run_stage(self, stage: Stage) -> None:
        self.teach_at(stage.size)
        steps, loss_of = math.ceil(stage.views / stage.batch), LOSSES[stage.name]
        decayed = [w for w in self.student.parameters() if w.ndim >= 2]
        plain = [w for w in self.student.parameters() if w.ndim < 2]
        groups = [{"params": decayed, "weight_decay": 0.03}, {"params": plain, "weight_decay": 0.0}]
        optimiser = torch.optim.AdamW(groups, lr=stage.rate, betas=(0.9, 0.98))
        if self.step and "optimiser" in self.saved:
            optimiser.load_state_dict(self.saved["optimiser"])
        started, saved, shown, loss_sum = time.monotonic(), time.monotonic(), self.step, 0.0
        first = self.step
        for x, y in batches(self.train, stage, self.step, self.args.seed):
            progress = self.step / steps
            for group in optimiser.param_groups:
                warm = min(1.0, (self.step + 1) / 200)
                group["lr"] = stage.rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = loss_of(self.student, self.teacher, self.head, x, y)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
            optimiser.step()
            self.step += 1
            average_into(self.mean, self.student, min(0.998, self.step / (self.step + 10)))
            loss_sum += loss.item()
            if self.step % self.args.show_every == 0:
                rate = (self.step - first) * stage.batch / (time.monotonic() - started)
                row = {"stage": stage.name, "step": f"{self.step}/{steps}", "loss": loss_sum / (self.step - shown)}
                self.report(row | {"views_per_s": rate, "minutes_left": (steps - self.step) * stage.batch / rate / 60})
                shown, loss_sum = self.step, 0.0
            if time.monotonic() - saved > self.args.save_every:
                self.save(optimiser)
                self.validate(stage)
                saved = time.monotonic()
        self.validate(stage)

    def export(self) -> None:
        weights = {k: v.half().contiguous() for k, v in self.mean.state_dict().items()}
        save_file(weights, self.out / "model.safetensors")
        self.mean.load_state_dict({k: v.float() for k, v in weights.items()})
        scores = accuracy(self.mean, self.val[224], self.val_labels, self.classes)
        facts = {"classes": self.classes, "architecture": STUDENT, "val": scores}
        facts["recipe"] = [asdict(s) for s in stages(self.args.scale)]
        (self.out / "facts.json").write_text(json.dumps(facts, indent=2) + "\n")
        print(json.dumps(scores, indent=2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the number of views of every stage")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save-every", type=float, default=240, help="seconds between checkpoints")
    parser.add_argument("--show-every", type=int, default=50, help="steps between lines of progress")
    Run(parser.parse_args()).run()


if __name__ == "__main__":
    main()
