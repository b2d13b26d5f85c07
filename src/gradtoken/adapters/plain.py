"""Maps as large as the pictures: what tools that know neither patches nor tokens take."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from gradtoken.attribution import attribute
from gradtoken.errors import BadTarget
from gradtoken.inputs import Inputs, explained_of, tensors
from gradtoken.state import first_weight
from gradtoken.targets import Target, logits_of

Array = NDArray[Any]


class Logits(nn.Module):
    """A network that returns its logits alone, where it returned an object or a mapping that holds them."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        return logits_of(self.net(*args, **kwargs))


class Function(nn.Module):
    """A function as a network; its parameters are those of the module whose method it is, if it is one."""

    def __init__(self, call: Callable[..., Any]) -> None:
        super().__init__()
        self.call = call
        self.owner = getattr(call, "__self__", None) if isinstance(getattr(call, "__self__", None), nn.Module) else None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.call(*args, **kwargs)


def as_network(call: Any) -> nn.Module:
    """A network, or a function from inputs to outputs as one."""
    if isinstance(call, nn.Module):
        return call
    if not callable(call):
        raise BadTarget(f"expected a network or a function of its inputs, got {type(call).__name__}")
    return Function(call)


def enlarged(relevance: Tensor, like: Tensor) -> Tensor:
    """The relevance in the resolution of the input that it is of: a value for each pixel, or for each token.

    (B, rows, columns) -> (B, H, W) for pictures (B, C, H, W), bilinear, the patches' centres in place; (B, N) stays.
    """
    if like.ndim != 4 or relevance.shape[1:] == like.shape[2:]:
        return relevance
    if relevance.ndim != 3:
        raise BadTarget(f"expected a map (B, rows, columns) to enlarge to {tuple(like.shape)}, got {relevance.shape}")
    return F.interpolate(relevance[:, None], like.shape[2:], mode="bilinear", align_corners=False)[:, 0]


def maps(net: nn.Module, inputs: Inputs, target: Target = None, method: str = "gradtoken", **options: Any) -> Tensor:
    """`gradtoken.attribute` for one target of each input, at the inputs' resolution. (B, H, W), or (B, N) for tokens"""
    relevance = attribute(net, inputs, target, method, **options)
    like = explained_of(inputs)
    return enlarged(relevance, tensors(inputs)[0] if like is None else like)


def saliency(
    net: Any,
    inputs: Array | Tensor,
    target: Any = None,
    method: str = "gradtoken",
    *,
    device: Any = None,
    **options: Any,
) -> Array:
    """Arrays in, arrays out: raw relevance of each pixel for one class of each picture.

    net: a network, or a function from a tensor to logits. inputs: (B, C, H, W) as the network reads them, or token
    numbers (B, N). target: a class for all, one for each, None for the predicted ones, or a callable on the output.
    device: None for where the network is. options: the method's, and allow_blank.

    Returns (B, H, W), or (B, N) for tokens, float32.
    """
    network = as_network(net)
    weight = first_weight(network)
    x = torch.as_tensor(np.ascontiguousarray(inputs) if isinstance(inputs, np.ndarray) else inputs)
    x = x.to(device if device is not None else x.device if weight is None else weight.device)
    if x.is_floating_point():
        x = x.to(torch.float32 if weight is None else weight.dtype)
    classes = target if target is None or callable(target) else torch.as_tensor(np.asarray(target))
    return maps(network, x, classes, method, **options).float().cpu().numpy()
