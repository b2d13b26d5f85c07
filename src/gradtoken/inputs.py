"""What a model is called with: a tensor, a tuple of arguments or a mapping of keyword arguments, batch first."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gradtoken.errors import BadTarget

Inputs = Tensor | tuple[Any, ...] | Mapping[str, Any]


def tensors(inputs: Inputs) -> list[Tensor]:
    """The tensors among the inputs, in order."""
    values = inputs.values() if isinstance(inputs, Mapping) else inputs if isinstance(inputs, tuple) else (inputs,)
    return [x for x in values if isinstance(x, Tensor)]


def batch_of(inputs: Inputs) -> int:
    """Number of samples: the length of the first tensor."""
    found = tensors(inputs)
    if not found:
        raise BadTarget(
            f"expected tensors as inputs, got {held(inputs)}; make tensors of arrays with torch.from_numpy, or give a "
            "picture to gradtoken.explain, which prepares it"
        )
    if found[0].ndim == 0 or len(found[0]) == 0:
        raise BadTarget(f"expected inputs with a batch of at least one sample, got shape {tuple(found[0].shape)}")
    return len(found[0])


def held(inputs: object) -> str:
    """`dict of ndarray`."""
    values = inputs.values() if isinstance(inputs, Mapping) else inputs if isinstance(inputs, tuple | list) else ()
    kinds = " and ".join(dict.fromkeys(type(x).__name__ for x in values))
    return type(inputs).__name__ + (f" of {kinds}" if kinds else "")


def picture_of(inputs: Inputs) -> Tensor | None:
    """The batch of pictures among the inputs: the first floating tensor (B, C, H, W)."""
    if any(x.dtype == torch.uint8 and x.ndim == 4 for x in tensors(inputs)):
        raise BadTarget("pictures came as bytes (uint8); give them as the floating numbers that the network reads")
    return next((x for x in tensors(inputs) if x.ndim == 4 and x.is_floating_point()), None)


def explained_of(inputs: Inputs) -> Tensor | None:
    """The input whose numbers are explained: pictures, embedded tokens, or the only one; None for token numbers.

    A mask is none, whatever its type.
    """
    picture = picture_of(inputs)
    if picture is not None or (isinstance(inputs, Mapping) and inputs.get("input_ids") is not None):
        return picture
    floats = [x for x in tensors(inputs) if x.is_floating_point()]
    embedded = next((x for x in floats if x.ndim >= 3), None)
    return floats[0] if embedded is None and floats and len(floats) == len(tensors(inputs)) else embedded


def signature(inputs: Inputs) -> tuple[Any, ...]:
    """What decides which operations a model makes: the shapes without the batch, and whether a mask hides anything.

    Libraries leave out a mask that hides nothing, and with it operations.
    """
    return tuple((tuple(x.shape[1:]), x.dtype, uniform(x)) for x in tensors(inputs))


def uniform(x: Tensor) -> tuple[bool, bool] | None:
    """Whether all, and whether any entries of what may be a mask are other than zero; None for a floating tensor."""
    return None if x.is_floating_point() else (bool(x.all()), bool(x.any()))


def replaced(inputs: Inputs, picture: Tensor, pictures: Tensor) -> Inputs:
    """The same inputs with other pictures; everything else of a batch's size is that of the first sample."""

    def swap(x: Any) -> Any:
        if x is picture:
            return pictures
        if isinstance(x, Tensor) and x.ndim and len(x) == len(picture):
            return x[:1].expand(len(pictures), *x.shape[1:])
        return x

    return mapped(swap, inputs)


def with_picture(inputs: Inputs, picture: Tensor, other: Tensor) -> Inputs:
    """The same inputs with `other` in place of the pictures: m repeats of the batch, one after the other."""
    copies = len(other) // len(picture)
    return mapped(lambda x: other if x is picture else again(x, len(picture), copies), inputs)


def repeated(inputs: Inputs, copies: int) -> Inputs:
    """The whole batch `copies` times, one after the other."""
    batch = batch_of(inputs)
    return mapped(lambda x: again(x, batch, copies), inputs)


def again(x: Any, batch: int, copies: int) -> Any:
    """What has one entry for each sample, `copies` times."""
    return x.repeat(copies, *(1,) * (x.ndim - 1)) if isinstance(x, Tensor) and x.ndim and len(x) == batch else x


def mapped(change: Callable[[Any], Any], inputs: Inputs) -> Inputs:
    """The inputs in the same form, each changed."""
    if isinstance(inputs, Mapping):
        return {name: change(x) for name, x in inputs.items()}
    return tuple(map(change, inputs)) if isinstance(inputs, tuple) else change(inputs)


def own(inputs: Inputs) -> Inputs:
    """Copies that a model may write to; they have no gradient and no inference mode."""
    return mapped(lambda x: x.detach().clone() if isinstance(x, Tensor) else x, inputs)


def call(net: nn.Module, inputs: Inputs) -> Any:
    """Run the model on copies of its inputs."""
    return apply(net, own(inputs))


def apply(net: nn.Module, inputs: Inputs) -> Any:
    """Run the model on its inputs."""
    if isinstance(inputs, Mapping):
        return net(**inputs)
    return net(*inputs) if isinstance(inputs, tuple) else net(inputs)
