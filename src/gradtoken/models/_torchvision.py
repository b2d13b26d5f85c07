"""torchvision: making it importable beside any torch build, and its classifiers."""

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import PickleError
from types import ModuleType
from typing import Any

import torch
from torch import nn

from gradtoken.errors import BadModel, UnknownName
from gradtoken.models.hub import fetch_url
from gradtoken.models.labels import Labels
from gradtoken.models.model import Model, need
from gradtoken.models.recipes import from_torchvision
from gradtoken.models.weights import brief, build_for, load_weights, read_weights

_fragments: list[Any] = []  # kept alive: an operator's schema goes with its library


def ensure_torchvision() -> ModuleType | None:
    """Import torchvision, also where its compiled operators do not match torch; None where it is not installed.

    timm and transformers fail to import beside such a build, though neither needs these operators.
    """
    try:
        return importlib.import_module("torchvision")
    except ModuleNotFoundError:
        return None
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    library: Any = torch.library.Library  # PyTorch leaves it untyped
    fragment = library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        fragment.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _fragments.append(fragment)
    return importlib.import_module("torchvision")


def load_torchvision(name: str, weights: Path | None) -> Model:
    """`NAME` or `NAME.TAG`, with torchvision's weights or those of a file."""
    ensure_torchvision()
    models = need("torchvision.models", "torchvision")
    name, _, tag = name.partition(".")
    known = models.list_models(module=models)
    if name not in known:
        raise UnknownName.among("torchvision model", name, known)
    published = models.get_model_weights(name)
    if tag and tag not in published.__members__:
        raise UnknownName.among(f"weights of torchvision:{name}", tag, published.__members__)
    chosen = published[tag] if tag else published.DEFAULT
    labels = Labels.of(chosen.meta["categories"])
    if weights is None:
        net = pretrained(models, name, chosen)
        return Model(net, f"torchvision:{name}", from_torchvision(chosen.transforms()), labels, f"torchvision {chosen}")
    state = read_weights(weights)
    net, classes = build_for(state, len(labels), lambda count: build(models, name, count))
    load_weights(net, state, weights)
    return Model(
        net=net,
        name=f"torchvision:{name}",
        preprocess=from_torchvision(chosen.transforms()),
        labels=labels if classes == len(labels) else None,
        source=f"torchvision {name} with the weights {weights.name}",
    )


def build(models: Any, name: str, classes: int) -> nn.Module:
    """The architecture with random weights."""
    net: nn.Module = models.get_model(name, weights=None, num_classes=classes)
    return net


def pretrained(models: Any, name: str, chosen: Any) -> nn.Module:
    """The architecture with published weights; torchvision's builder knows what else the weights ask for."""
    fetch_url(chosen.url, f"torchvision:{name}")
    try:
        with safe_loading():
            net: nn.Module = models.get_model(name, weights=chosen, progress=False)
    except (RuntimeError, OSError, EOFError, PickleError) as error:
        raise BadModel(f"torchvision:{name}: the weights {chosen} cannot be loaded: {brief(error)}") from error
    return net


@contextmanager
def safe_loading() -> Iterator[None]:
    """Have torch.load refuse pickled code; torchvision's own call does not."""
    before = os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD")
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"]
        else:
            os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = before
