"""The simple call: a picture, a model and a class in, an `Explanation` out."""

import importlib.metadata
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gradtoken.attribution import check_maps, to_maps
from gradtoken.errors import BadModel, BadTarget
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

    Returns an `Explanation`, or `Explanations` (methods outside, targets inside) where a list was asked for.
    """
    loaded = model if isinstance(model, Model) else load(model)
    single = isinstance(target, str) or not isinstance(target, Sequence)
    targets: list[Any] = [target] if single else list(target)  # type: ignore[arg-type]
    methods = [method] if isinstance(method, str) else list(method)
    if not targets or not methods:
        raise BadTarget("expected at least one target and one method, got an empty list")
    image = open_picture(picture)
    view = loaded.preprocess(image)
    weight = next(loaded.net.parameters(), view.pixels)
    choice = Choice(loaded, targets)
    probe = Probe(loaded.net, view.pixels[None].to(weight.device, weight.dtype), choice)
    source = os.fspath(picture) if isinstance(picture, str | os.PathLike) else ""
    shared: dict[str, Any] = {"picture": image, "box": view.box, "source": source, "predicted": choice.predicted()}
    shared |= provenance(loaded)
    found = []
    for name in methods:
        maps = relevance(probe, name, options, allow_blank)
        found += [
            Explanation(relevance=m, method=name, options=options, **choice.facts(k), **shared)
            for k, m in enumerate(maps)
        ]
    return found[0] if single and isinstance(method, str) else Explanations(tuple(found))


def relevance(probe: Probe, method: str, options: dict[str, Any], allow_blank: bool) -> np.ndarray[Any, Any]:
    """The maps of one method for the probe's targets. (K, rows, columns)"""
    R = METHODS[method].bind(options)(probe)
    check_maps(R, method, allow_blank)
    return to_maps(probe, R)[0].float().cpu().numpy()


class Choice:
    """Targets as a callable on the model's output that remembers what it saw: logits and the indices of classes."""

    def __init__(self, model: Model, targets: Sequence[Any]) -> None:
        self.model, self.targets = model, targets
        self.logits: Tensor | None = None
        self.scores: list[float] = []
        self.indices: list[int | None] = []

    def __call__(self, output: Any) -> Tensor:
        """Scores of the targets for one picture. (1, K)"""
        if not all(map(callable, self.targets)):
            self.logits = logits_of(output)[0].detach().double().cpu()
            if not self.logits.softmax(0).isfinite().all():
                raise BadModel("the model's output is not finite; look for NaN in its weights or its input")
        self.indices = [None if callable(t) else self.index(t) for t in self.targets]
        columns = [
            single(t, output) if i is None else logits_of(output)[:, i : i + 1]
            for t, i in zip(self.targets, self.indices, strict=True)
        ]
        self.scores = [column.item() for column in columns]
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


def single(target: Score, output: Any) -> Tensor:
    """The one score that a callable target makes of the output for one picture. (1, 1)"""
    score = target(output)
    if not isinstance(score, Tensor) or score.numel() != 1:
        shape = tuple(score.shape) if isinstance(score, Tensor) else type(score).__name__
        raise BadTarget(f"expected the target to return one score, a tensor of shape (1,), got {shape}")
    return score.reshape(1, 1)


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
