"""The simple call: a picture, a model and a class in, an `Explanation` out."""

import importlib.metadata
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from gradtoken import manual
from gradtoken.attribution import check_maps, to_maps
from gradtoken.errors import BadModel, BadTarget, UnknownName
from gradtoken.methods import METHODS
from gradtoken.models.labels import find_class
from gradtoken.models.load import load
from gradtoken.models.model import Model
from gradtoken.models.pictures import Source, open_picture
from gradtoken.probe import Probe
from gradtoken.result import Explanation, Explanations
from gradtoken.targets import logits_of

Class = int | str | None
Score = Callable[[Any], Tensor]
PACKAGES = {"gradtoken": "gradtoken", "torch": "torch", "timm": "timm", "transformers": "transformers"}
PACKAGES |= {"torchvision": "torchvision", "open_clip": "open_clip_torch"}


def explain(
    picture: Source,
    model: str | nn.Module | Model = "bundled",
    target: Class | Score | Sequence[Class | Score] = None,
    method: str | Sequence[str] = "gradtoken",
    *,
    allow_blank: bool = False,
    **options: Any,
) -> Explanation | Explanations:
    """Which parts of a picture speak for a class.

    picture: a file name, an open file, bytes, a PIL picture or an array.
    model: a name (`bundled`, a hub name, `timm:NAME`, `torchvision:NAME`, `open_clip:NAME`), a folder, a module that
    carries its preprocessing, or what `load` returned, which saves loading it again.
    target: a class name or index, a callable on the output, None for the predicted class, or a list of these, which
    share one forward pass. method: one of `METHODS`, or a list. options: the method's own.
    allow_blank: keep maps that are zero everywhere, which are an error otherwise.

    An option goes to each of the methods that have it; where they should differ, `**{"rollout.start": 2}`.

    Returns an `Explanation`, or `Explanations` (methods outside, targets inside) where a list was asked for.
    """
    single = isinstance(target, str) or not isinstance(target, Sequence)
    methods = [method] if isinstance(method, str) else list(method)
    chosen = options_of(methods, options)
    loaded, targets = model if isinstance(model, Model) else load(model), listed(target)
    loaded.for_pictures  # noqa: B018  which refuses a model of texts before a text is looked for as a file
    case = Case.of(open_picture(picture), file_name(picture), loaded, targets)
    found = []
    for name in methods:
        R = METHODS[name].bind(chosen[name])(case.probe)
        check_maps(R, name, allow_blank)
        maps = to_maps(case.probe, R)[0]
        found += [case.explanation(m, k, name, chosen[name]) for k, m in enumerate(maps)]
    return found[0] if single and isinstance(method, str) else Explanations(tuple(found))


def listed(target: Any) -> list[Any]:
    """Targets as a list that is not empty."""
    targets = [target] if isinstance(target, str) or not isinstance(target, Sequence) else list(target)
    if not targets:
        raise BadTarget("expected at least one target, got an empty list")
    return targets


def options_of(methods: Sequence[str], options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The options of each method: `name` is for all that have it, `method.name` for one; unknown ones are refused."""
    if not methods:
        raise BadTarget("expected at least one method, got an empty list")
    chosen: dict[str, dict[str, Any]] = {name: {} for name in methods}
    known = {name: [option.name for option in manual.options(METHODS[name])] for name in chosen}
    for option, value in sorted(options.items(), key=lambda item: "." in item[0]):  # what is said of one comes last
        owner, _, name = option.rpartition(".")
        if owner and owner not in chosen:
            raise UnknownName.among("method among those asked", owner, chosen)
        takers = [owner] if owner else [m for m in chosen if name in known[m]]
        if not takers:
            whose = next(iter(chosen)) if len(chosen) == 1 else f"any of the {len(chosen)} methods asked"
            raise UnknownName.among(
                f"option of {whose}", name, sorted({one for names in known.values() for one in names})
            )
        for taker in takers:
            chosen[taker][name] = value
    for taker, found in chosen.items():
        METHODS[taker].bind(found)
    return chosen


def file_name(picture: Source) -> str:
    """Of a picture that is a file, or ""."""
    return os.fspath(picture) if isinstance(picture, str | os.PathLike) else ""


@dataclass(frozen=True)
class Case:
    """One forward pass over one picture, for any number of methods and the targets it was made with.

    shared: what all explanations of it say.
    """

    probe: Probe
    choice: "Choice"
    shared: dict[str, Any]

    @classmethod
    def of(cls, image: Image.Image, source: str, model: Model, targets: Sequence[Any]) -> "Case":
        """Ready to run the model."""
        view = model.for_pictures(image)
        weight = next(model.net.parameters(), view.pixels)
        choice = Choice(model, targets)
        probe = Probe(model.net, view.pixels[None].to(weight.device, weight.dtype), choice)
        shared = {"picture": image, "box": view.box, "source": source}
        return cls(probe, choice, shared | provenance(model))

    def explanation(self, relevance: Tensor, k: int, method: str, options: dict[str, Any]) -> Explanation:
        """A map (rows, columns) with all that is known of it, after a pass. k: number of its target."""
        return Explanation(
            relevance=relevance.float().cpu().numpy(),
            method=method,
            options=options,
            class_aware=METHODS[method].class_aware,
            predicted=self.choice.predicted(),
            **self.choice.facts(k),
            **self.shared,
        )


class Choice:
    """Targets as a callable on the model's output that remembers what it saw first: logits, and indices of classes.

    Methods that run the model again, on many pictures at once, ask for the same classes.
    """

    def __init__(self, model: Model, targets: Sequence[Any]) -> None:
        self.model, self.targets = model, targets
        self.logits: Tensor | None = None
        self.scores: list[float] = []
        self.indices: list[int | None] = []
        self.reads_logits = not any(map(callable, targets))

    def __call__(self, output: Any) -> Tensor:
        """Scores of the targets, at first for one picture, later for n. (n, K)"""
        if self.scores:
            return self.read(output)
        if not all(map(callable, self.targets)):
            self.logits = logits_of(output)[0].detach().double().cpu()
            if not self.logits.softmax(0).isfinite().all():
                raise BadModel("the model's output is not finite; look for NaN in its weights or its input")
        self.indices = [None if callable(t) else self.index(t) for t in self.targets]
        scores = self.read(output)
        if len(scores) != 1:
            raise BadTarget(f"expected the target to return one score, a tensor of shape (1,), got {len(scores)}")
        self.scores = scores[0].tolist()
        return scores

    def read(self, output: Any) -> Tensor:
        """One column for each target. (n, K)"""
        columns = [
            column(t, output) if i is None else logits_of(output)[:, i : i + 1]
            for t, i in zip(self.targets, self.indices, strict=True)
        ]
        if len({len(scores) for scores in columns}) > 1:
            raise BadTarget("expected each target to return one score for each picture, a tensor of shape (pictures,)")
        return torch.cat(columns, dim=1)

    def index(self, target: Class) -> int:
        """Class index of a name, an index, or None for the prediction."""
        assert self.logits is not None
        return int(self.logits.argmax()) if target is None else find_class(self.model.labels, target, len(self.logits))

    def facts(self, k: int) -> dict[str, Any]:
        """What an explanation says of target k."""
        index = self.indices[k]
        probability = None if index is None or self.logits is None else float(self.logits.softmax(0)[index])
        name = getattr(self.targets[k], "__name__", "score") if index is None else self.name(index)
        return {"target": index, "name": name, "logit": self.scores[k], "probability": probability}

    def name(self, index: int) -> str:
        """Label of a class, or its number."""
        return self.model.labels[index] if self.model.labels is not None else f"class {index}"

    def predicted(self) -> tuple[tuple[str, float], ...]:
        """The five most probable classes."""
        if self.logits is None:
            return ()
        p = self.logits.softmax(0)
        return tuple((self.name(int(i)), float(p[i])) for i in p.argsort(descending=True)[:5])


def column(target: Score, output: Any) -> Tensor:
    """The scores that a callable target makes of the output for n pictures. (n, 1)"""
    score = target(output)
    if not isinstance(score, Tensor) or not score.numel() or score.numel() != (len(score) if score.ndim else 1):
        shape = tuple(score.shape) if isinstance(score, Tensor) else type(score).__name__
        raise BadTarget(f"expected the target to return one score, a tensor of shape (1,), got {shape}")
    return score.reshape(-1, 1)


def provenance(model: Model) -> dict[str, Any]:
    """What an explanation says of the model."""
    return {
        "model": model.name,
        "versions": versions(),
        "preprocessing": model.preprocess.describe(),
        "note": model.note,
    }


def versions() -> dict[str, str]:
    """Versions of what took part."""
    return {name: importlib.metadata.version(package) for name, package in PACKAGES.items() if name in sys.modules}
