"""Models of pictures and captions with a tower for each, CLIP and its kin, as classifiers of either.

The logit of a picture and a caption is scale <x, t> + bias, of the towers' vectors x and t at length 1: CLIP
(https://arxiv.org/abs/2103.00020) without a bias, SigLIP (https://arxiv.org/abs/2303.15343) with one. Captions take the
place of classes where a picture is explained, and the picture is the only class where a caption is.
"""

import copy
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from gradtoken.errors import BadModel, BadTarget
from gradtoken.models.captions import Captions
from gradtoken.models.labels import Labels
from gradtoken.models.model import Model
from gradtoken.state import untouched

TOGETHER = 64  # captions that one pass reads
SIGMOID = "probabilities: sigmoid, of each caption by itself"


class Tower(nn.Module):
    """One tower: its inputs to vectors (B, D) of any length. call: the name of the method of `net`, or ""."""

    def __init__(self, net: nn.Module, call: str = "") -> None:
        super().__init__()
        self.net, self.call = net, call

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        found = (getattr(self.net, self.call) if self.call else self.net)(*args, **kwargs)
        found = getattr(found, "pooler_output", found)
        return found[0] if isinstance(found, tuple) else found  # CoCa gives its tokens too


class Towers(nn.Module):
    """The towers of a network of transformers (`get_image_features`) or of open_clip (`encode_text`)."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        if hasattr(net, "get_image_features"):
            self.pictures = Tower(without(net, "text"), "get_image_features")
            self.texts = Tower(without(net, "vision", "visual"), "get_text_features")
        else:
            visual: Any = net.visual
            self.pictures, self.texts = Tower(visual), Tower(without(net, "visual"), "encode_text")

    def forward(self, *_: Any, **__: Any) -> None:
        raise BadTarget(
            f"{type(self.net).__name__} compares pictures with captions and has no classes of its own; give captions "
            "as targets, or as classes: load(..., labels=[...]), --labels FILE"
        )

    @property
    def scale(self) -> Tensor:
        """What a cosine is multiplied by."""
        logarithm: Any = self.net.logit_scale
        return logarithm.detach().exp().reshape(())  # type: ignore[no-any-return]

    @property
    def bias(self) -> Tensor | None:
        """What is added, where the model is trained to a sigmoid."""
        bias: Any = getattr(self.net, "logit_bias", None)
        return None if bias is None else bias.detach().reshape(())


class Similarity(nn.Module):
    """Logits of what a tower reads, for K vectors of the other tower. (B, ...) -> (B, K)"""

    def __init__(self, tower: Tower, others: Tensor, towers: Towers) -> None:
        super().__init__()
        self.tower, self.num_classes = tower, len(others)
        self.register_buffer("vectors", towers.scale * F.normalize(others, dim=-1))
        self.register_buffer("bias", None if towers.bias is None else towers.bias.repeat(len(others)))

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        vectors: Any = self.vectors
        return F.linear(F.normalize(self.tower(*args, **kwargs), dim=-1), vectors, self.bias)  # type: ignore[arg-type]


def without(net: nn.Module, *names: str) -> nn.Module:
    """The same network, sharing all weights, without the children whose names begin so."""
    part = copy.copy(net)
    part._modules = {name: child for name, child in net._modules.items() if not name.startswith(names)}
    return part


def is_two_towers(net: object) -> bool:
    """Whether a network, or its class, reads pictures and captions apart from each other."""
    names = ("get_image_features", "get_text_features"), ("visual", "encode_text", "logit_scale")
    return any(all(hasattr(net, name) for name in own) for own in names)


def asked(model: Model, targets: Sequence[Any]) -> Model:
    """The model that answers these targets: with captions as its classes; for callables alone, the picture tower.

    Any other model as it is.
    """
    if model.captions is None:
        return model
    captions = [name for target in targets for name in getattr(target, "names", [target]) if not callable(name)]
    if not captions:
        return replace(model, net=towers_of(model).pictures, captions=None)
    if any(callable(target) or getattr(target, "names", [target]) == () for target in targets):
        raise BadTarget("expected captions or callables as targets, got both; ask for them one after the other")
    return with_captions(model, captions)


def with_captions(model: Model, captions: Sequence[Any]) -> Model:
    """A classifier of pictures whose classes are captions, each once."""
    towers = towers_of(model)
    names = expect_captions(model, captions)
    vectors = torch.cat([encoded(model, names[i : i + TOGETHER]) for i in range(0, len(names), TOGETHER)])
    note = SIGMOID if towers.bias is not None else f"probabilities: softmax over the {len(names)} captions asked"
    return replace(
        model,
        net=Similarity(towers.pictures, vectors, towers).eval(),
        labels=Labels(names),
        captions=None,
        note="; ".join(filter(None, [model.note, note if len(names) > 1 or towers.bias is not None else ""])),
        independent=towers.bias is not None,
    )


def with_picture(model: Model, image: Image.Image, name: str) -> Model:
    """A classifier of captions with one class, the picture."""
    if model.captions is None:
        raise BadTarget(f"{model.name} reads no captions; words=True is for models of pictures and captions, as CLIP")
    towers = towers_of(model)
    weight = next(towers.parameters())
    pixels = model.for_pictures(image).pixels[None].to(weight.device, weight.dtype)
    with untouched(towers, [pixels]), torch.no_grad():
        vector = towers.pictures(pixels)
    return replace(
        model,
        net=Similarity(towers.texts, vector, towers).eval(),
        preprocess=model.captions,
        labels=Labels((os.path.basename(name) or "the picture",)),
        captions=None,
        independent=towers.bias is not None,
    )


def expect_captions(model: Model, captions: Sequence[Any]) -> tuple[str, ...]:
    """Captions, each once, if they are texts."""
    for caption in captions:
        if hasattr(caption, "names"):
            raise BadTarget(f"words are explained caption by caption; expected captions as targets, got {caption!r}")
        if not isinstance(caption, str):
            raise BadTarget(
                f"{model.name} compares pictures with captions; expected a caption such as 'a photo of a dog' as "
                f"target, got {caption!r}"
            )
    return tuple(dict.fromkeys(captions))


def encoded(model: Model, captions: Sequence[str]) -> Tensor:
    """Vectors of captions. (K, D)"""
    towers = towers_of(model)
    read: Any = model.captions
    assert isinstance(read, Captions)
    device = next(towers.parameters()).device
    inputs = {name: x.to(device) for name, x in read.inputs(captions).items()}
    with untouched(towers, list(inputs.values())), torch.no_grad():
        vectors: Tensor = towers.texts(**inputs)
    return vectors


def towers_of(model: Model) -> Towers:
    """The network of a model that reads captions."""
    if not isinstance(model.net, Towers):
        raise BadModel(f"{model.name}: expected the towers of a model of pictures and captions")
    return model.net
