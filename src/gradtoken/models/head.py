"""A new linear head for other classes on a loaded network, and a folder that loads again with it."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from gradtoken.errors import BadModel
from gradtoken.models import _heads, _timm, _transformers
from gradtoken.models.labels import Labels
from gradtoken.models.load import classes_of
from gradtoken.models.model import Model
from gradtoken.models.preprocess import Preprocess
from gradtoken.models.vit import VisionTransformer
from gradtoken.models.weights import load_weights
from gradtoken.targets import logits_of

WEIGHTS, NAMES = "model.safetensors", "labels.json"


def with_head(model: Model, names: Sequence[str]) -> Model:
    """The model with its one linear layer of as many outputs as it has classes made anew: zeros, for these classes.

    The network itself is changed; where it is the bundled architecture, timm's own takes its place, whose folders can
    be loaded. Raises BadModel where there is no such layer, or more than one (a distilled model has two heads).
    """
    net = as_timm(model.net, model.for_pictures) if isinstance(model.net, VisionTransformer) else model.net
    name = head_of(net, model.for_pictures)
    old: Any = net.get_submodule(name)
    new = nn.Linear(old.in_features, len(names)).to(old.weight)
    nn.init.zeros_(new.weight)
    nn.init.zeros_(new.bias)
    put(net, name, new)
    told(net, names)
    return replace(model, net=net, labels=Labels.of(names))


def head_of(net: nn.Module, preprocess: Preprocess) -> str:
    """The name of the layer that gives the logits."""
    count = classes_of(net) or outputs(net, preprocess)
    found = [name for name, m in net.named_modules() if isinstance(m, nn.Linear) and m.out_features == count]
    if len(found) != 1 or not found[0]:
        raise BadModel(
            f"expected one linear layer of {type(net).__name__} with {count} outputs to put another in its place, "
            f"found {found or 'none'}; take a model that ends in one"
        )
    return str(found[0])


def outputs(net: nn.Module, preprocess: Preprocess) -> int:
    """The number of classes, by looking."""
    with torch.no_grad():
        weight = next(net.parameters())
        return logits_of(net(weight.new_zeros(1, 3, *preprocess.size))).shape[1]


def put(net: nn.Module, name: str, layer: nn.Module) -> None:
    """Set a layer by its dotted name."""
    parent, _, last = name.rpartition(".")
    setattr(net.get_submodule(parent), last, layer)


def told(net: Any, names: Sequence[str]) -> None:
    """What the network says of its classes itself."""
    if isinstance(getattr(net, "num_classes", None), int):
        net.num_classes = len(names)
    if hasattr(getattr(net, "config", None), "id2label"):
        net.config.id2label = dict(enumerate(names))
        net.config.label2id = {name: number for number, name in enumerate(names)}
        net.config.problem_type = "multi_label_classification"
        net.num_labels = len(names)


@contextmanager
def headless(net: nn.Module, name: str) -> Iterator[None]:
    """The network gives what its head reads, (B, C), in place of logits."""
    head = net.get_submodule(name)
    put(net, name, nn.Identity())
    try:
        yield
    finally:
        put(net, name, head)


def as_timm(net: VisionTransformer, preprocess: Preprocess) -> Any:
    """The same weights in timm's architecture of the same parameter names."""
    width, block = net.cls_token.shape[2], list[Any](net.blocks)[0]
    sizes: dict[str, Any] = {
        "img_size": preprocess.size,
        "patch_size": net.patch_embed.proj.kernel_size[0],
        "embed_dim": width,
        "depth": len(net.blocks),
        "num_heads": block.attn.heads,
        "mlp_ratio": block.mlp.fc1.out_features / width,
        "num_classes": net.head.out_features,
    }
    other = _timm.library().create_model("vit_tiny_patch16_224", **sizes)
    load_weights(other, net.state_dict(), Path("of the bundled architecture"))
    colours = {"mean": preprocess.mean, "std": preprocess.std, "interpolation": preprocess.interpolation}
    other.pretrained_cfg |= {"input_size": (3, *preprocess.size), "crop_pct": 1.0, "crop_mode": "squash", **colours}
    return other.to(net.cls_token).train(net.training)


def save(model: Model, folder: Path) -> str:
    """Write the network, its labels and its preprocessing; returns the call that loads them again.

    A folder of timm or transformers loads by itself, other networks by their name and the file of weights.
    """
    assert model.labels is not None
    net: Any = model.net.cpu()
    names = list(model.labels)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NAMES).write_text(json.dumps(names, indent=1) + "\n", encoding="utf-8")
    if getattr(net, "pretrained_cfg", None):
        hub = _timm.library().models
        hub.save_for_hf(net, str(folder), model_config={"label_names": names}, safe_serialization=True)
        return f"gradtoken.load({str(folder)!r})"
    if hasattr(getattr(net, "config", None), "model_type"):
        origin = net.config.name_or_path
        processor = _transformers.read(_heads.library().AutoImageProcessor, Path(origin), origin, backend="pil")
        net.save_pretrained(folder)
        processor.save_pretrained(folder)
        return f"gradtoken.load({str(folder)!r})"
    save_file({name: x.contiguous() for name, x in net.state_dict().items()}, folder / WEIGHTS)
    weights, labels = str(folder / WEIGHTS), str(folder / NAMES)
    return f"gradtoken.load({model.name!r}, weights={weights!r}, labels={labels!r})"
