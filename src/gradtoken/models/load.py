"""A model by name, folder, weights file or module, ready to be explained."""

import importlib.util
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gradtoken.errors import BadModel, GradTokenError, UnknownName
from gradtoken.keeping import Memory, kept_by
from gradtoken.models import _heads, _open_clip, _pipelines, _timm, _torchvision, _transformers
from gradtoken.models.bundled import load_bundled
from gradtoken.models.clip import is_two_towers, with_captions
from gradtoken.models.hub import ANSWERS, JOINT, NAME, fetch_repo, is_timm, read_json
from gradtoken.models.labels import Labels
from gradtoken.models.language import Vocabulary
from gradtoken.models.model import How, Model, Pipeline, check_names, move, settle
from gradtoken.models.prompt import Prompts
from gradtoken.models.recipes import from_open_clip
from gradtoken.models.weights import FAULTS, SUFFIXES, brief, check_finite

DEEPEST = 1000  # layers of a model
Names = Labels | Sequence[str] | Mapping[Any, str] | str | os.PathLike[str]


@dataclass(frozen=True)
class Form:
    """One way to name a model. extra: of gradtoken, where its library comes with one."""

    pattern: str
    meaning: str
    library: str
    extra: str
    installed: bool


FORMS = (
    ("bundled", "the small demonstration model that ships with gradtoken", "gradtoken", ""),
    ("ORG/NAME", "an image classifier on the Hugging Face hub", "transformers", "transformers"),
    ("timm:NAME", "a timm model, with its weights or those of weights=FILE", "timm", "timm"),
    ("torchvision:NAME", "a torchvision classifier, likewise", "torchvision", "torchvision"),
    ("open_clip:NAME/TAG", "a model of pictures and captions, such as CLIP or SigLIP", "open_clip", "open-clip"),
    ("FOLDER", "a folder that transformers' save_pretrained wrote", "transformers", "transformers"),
    ("FOLDER", "a classifier of texts with its tokenizer, likewise; hub names too", "transformers", "transformers"),
    ("FOLDER", "a model of pictures and captions with its processor; hub names too", "transformers", "transformers"),
    ("FOLDER", "a causal language model with its tokenizer; hub names too", "transformers", "transformers"),
    ("FOLDER", "a model that answers about pictures, as LLaVA or ViLT; hub names too", "transformers", "transformers"),
    ("FOLDER", "a classifier of sounds with its feature extractor; hub names too", "transformers", "audio"),
    ("FOLDER", "a classifier of films with the image processor of its frames", "transformers", "transformers"),
    ("FOLDER", "a folder with timm's config.json and model.safetensors", "timm", "timm"),
)


def known_models() -> list[Form]:
    """Every form of name that `load` takes, and whether its library is installed."""
    return [Form(*form, importlib.util.find_spec(form[2]) is not None) for form in FORMS]


def load(
    model: str | os.PathLike[str] | nn.Module | Pipeline = "bundled",
    *,
    weights: str | os.PathLike[str] | None = None,
    labels: Names | None = None,
    preprocess: How | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    headless: bool = False,
    memory: Memory = "keep",
) -> Model:
    """The model with its own preprocessing and class names, in evaluation mode, float32 unless `dtype` says otherwise.

    model: a name (see `known_models`), a folder, or a module or a pipeline of transformers, which is moved only where
    `device` or `dtype` ask for it and whose mode is left alone.
    weights: a file to use instead of published weights, with timm:, torchvision: or open_clip: names.
    labels, preprocess: instead of the model's own; labels as names, index -> name, or a file with them. A model of
    pictures and captions takes labels as captions, and becomes a classifier with these as its classes.
    headless: also accept a model that gives features instead of classes.
    memory: what is kept of the queries and keys of all blocks but the last: `keep`; `bfloat16` or `float16`, rounded;
    or `recompute`, nothing, for one more forward pass.
    """
    kept_by(memory)  # refuses another word
    names = None if labels is None else Labels.of(labels)
    if not isinstance(model, str | os.PathLike):
        if weights is not None:
            raise BadModel("weights= goes with a name such as timm:NAME; load them into the module yourself")
        loaded = from_object(model, preprocess)
        count = classes_of(loaded.net)
        check_finite(loaded.net, loaded.name)
        move(loaded.net, device, dtype)
    else:
        path = None if weights is None else Path(weights)
        loaded = settle(from_name(os.fspath(model), path, preprocess, headless), device, dtype)
        count = classes_of(loaded.net)
    if loaded.captions is not None and names is not None:
        if len({*names}) < len(names):
            raise BadModel(f"expected captions that differ as classes, got {len(names)} with repetitions")
        return with_captions(replace(loaded, memory=memory), names.names)
    prepared = loaded.preprocess if isinstance(loaded.preprocess, Prompts) else preprocess or loaded.preprocess
    loaded = replace(loaded, labels=names or loaded.labels, preprocess=prepared, memory=memory)
    check_names(loaded.labels, count)
    return loaded


def from_name(name: str, weights: Path | None, preprocess: How | None, headless: bool) -> Model:
    """Dispatch on the form of the name."""
    library, colon, rest = name.partition(":")
    if colon and library == "timm":
        return _timm.load_timm(rest, weights, headless)
    if colon and library == "torchvision":
        return _torchvision.load_torchvision(rest, weights)
    if colon and library == "open_clip":
        return _open_clip.load_open_clip(rest, weights)
    if weights is not None or Path(name).suffix in SUFFIXES:
        raise BadModel(
            f"{str(weights or name)!r} holds weights only: name the architecture too, for example "
            "load('timm:deit_tiny_patch16_224', weights=FILE) or --model timm:deit_tiny_patch16_224 --weights FILE"
        )
    if name == "bundled":
        return load_bundled()
    if os.path.isdir(name):  # which a name that no file can have is not
        return from_folder(Path(name), name, preprocess, headless)
    if NAME.fullmatch(name):
        return from_folder(fetch_repo(name), name, preprocess, headless)
    forms = ", ".join(dict.fromkeys(form[0] for form in FORMS))
    near = f"did you mean timm:{name}? " if re.fullmatch(r"\w+_\w+(\.\w+)?", name) else ""
    raise UnknownName(f"no model {name!r}; {near}expected one of {forms}, or a module")


def from_folder(folder: Path, name: str, preprocess: How | None, headless: bool) -> Model:
    """A folder with a config.json of timm or transformers."""
    if not (folder / "config.json").is_file():
        raise BadModel(f"expected config.json and model.safetensors in the folder {name!r}; there is no config.json")
    config = read_json(folder / "config.json")
    check_depth(config, name)
    try:
        if is_timm(config):
            return _timm.load_timm_folder(folder, name, headless)
        return _transformers.load_transformers(folder, name, preprocess, headless)
    except GradTokenError:
        raise
    except FAULTS as error:
        raise BadModel(f"{name}: what {str(folder)!r} says of the model cannot be used: {brief(error)}") from error


def check_depth(config: Any, name: str) -> None:
    """Refuse more layers than any model has: building them would never end."""
    for key, value in config.items() if isinstance(config, dict) else ():
        most = max((n for n in (value if isinstance(value, list) else [value]) if isinstance(n, int)), default=0)
        if re.search("depth|layers|blocks", str(key)) and most > DEEPEST:
            raise BadModel(f"{name}: its config.json says {key}={value!r}; expected at most {DEEPEST}")
        check_depth(value, name)


def from_object(model: Any, preprocess: How | None) -> Model:
    """A network or a pipeline already built."""
    if isinstance(model, nn.Module):
        return from_module(model, preprocess)
    if isinstance(model, Pipeline) and isinstance(model.model, nn.Module):
        return _pipelines.from_pipeline(model)
    raise BadModel(f"expected a model's name, a folder, a module or a pipeline of transformers, got {model!r:.80}")


def from_module(net: nn.Module, preprocess: How | None) -> Model:
    """A network already built, with the preprocessing it carries."""
    if is_two_towers(net) or type(net).__name__ in (*ANSWERS, *JOINT):
        found: Model = (_transformers if hasattr(net, "config") else _open_clip).of_module(net, preprocess)
        return found
    own, note = preprocess, ""
    labels: Labels | Vocabulary | None = None
    config: Any = getattr(net, "config", None)
    if getattr(net, "pretrained_cfg", None):
        own = own or _timm.preprocess_of(net)
        labels = _timm.labels_of(net)
    elif hasattr(config, "model_type"):
        if own is None:
            own, note = _transformers.preprocess_of(net) or (None, "")
        if own is not None:
            own = _transformers.fitting(net, own)
            labels = _transformers.names_of(config, own)
    elif hasattr(net, "preprocess_cfg"):
        settings: Any = net.preprocess_cfg
        own = own or from_open_clip(settings)
    kind = type(net).__name__
    if own is None:
        raise BadModel(
            f"{kind} does not say how pictures are prepared for it; give preprocess=Preprocess(size=(H, W), ...), for "
            "a model of texts gradtoken.models.text.Encode(tokenizer, length), of sounds "
            "gradtoken.models.sound.Listen.of(net, feature_extractor), of films "
            "gradtoken.models.film.Watch.of(net, Preprocess(...))"
        )
    wrapped, independent = _transformers.wrapped(net, own), _heads.is_independent(config)
    return Model(wrapped, kind, own, labels, f"the {kind} that was passed in", note, independent)


def classes_of(net: nn.Module) -> int | None:
    """The number of classes, where the network tells."""
    count: Any = getattr(net, "num_classes", None)
    if count is None and hasattr(getattr(net, "config", None), "num_labels"):
        count = net.config.num_labels  # type: ignore[union-attr]
    return count if isinstance(count, int) else None


def count_of(model: Model) -> int | None:
    """The number of classes, where the network or the labels tell."""
    return classes_of(model.net) or (len(model.labels) if model.labels is not None else None)
