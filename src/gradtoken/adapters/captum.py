"""Captum: https://github.com/pytorch/captum."""

from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from gradtoken.adapters.plain import as_network, enlarged
from gradtoken.attribution import attribute
from gradtoken.errors import BadTarget
from gradtoken.inputs import Inputs
from gradtoken.methods import METHODS
from gradtoken.models.model import need
from gradtoken.targets import Target

Base: Any = need("captum.attr", "captum").Attribution
P = ParamSpec("P")
T = TypeVar("T")


def logged(call: Callable[P, T]) -> Callable[P, T]:
    """As Captum decorates its own: NoiseTunnel asks for the function inside."""
    found: Callable[P, T] = need("captum.log", "captum").log_usage()(call)
    return found


class TransformerAttribution(Base):  # type: ignore[misc]
    """Any method of `METHODS` as an attribution of Captum, for NoiseTunnel, Captum's metrics and its pictures.

    forward_func: a network, or a function of its inputs. method, options: as in `gradtoken.attribute`.
    """

    def __init__(self, forward_func: Callable[..., Any], method: str = "gradtoken", **options: Any) -> None:
        super().__init__(forward_func)
        METHODS[method].bind({name: value for name, value in options.items() if name != "allow_blank"})
        self.method, self.options, self.net = method, options, as_network(forward_func)

    @logged
    def attribute(
        self, inputs: Tensor | tuple[Tensor, ...], target: Any = None, additional_forward_args: Any = None
    ) -> Tensor | tuple[Tensor, ...]:
        """Relevance in the shape of the inputs: a tensor for a tensor, a tuple of one for a tuple of one.

        Of pictures (B, C, H, W) and embedded tokens (B, N, C) each channel has the same share, so that their sum, which
        Captum draws, is the map. target: as everywhere in Captum, a class, one for each input, or places in an output
        of more dimensions; None for the predicted classes.
        """
        x = single(inputs)
        more = additional_forward_args
        more = () if more is None else more if isinstance(more, tuple) else (more,)
        found = attribute(self.net, called(x, more), target_of(target), self.method, **self.options)
        spread = over_channels(enlarged(found, x), x)
        return (spread,) if isinstance(inputs, tuple) else spread

    @property
    def multiplies_by_inputs(self) -> bool:
        """Relevance is not to be divided by the inputs."""
        return False

    def has_convergence_delta(self) -> bool:
        """Relevance does not add up to the score."""
        return False


def single(inputs: Any) -> Tensor:
    """The tensor that is explained."""
    found = inputs if isinstance(inputs, tuple) else (inputs,)
    if len(found) != 1 or not isinstance(found[0], Tensor):
        raise BadTarget(
            f"expected one tensor as inputs, got {len(found)}: {', '.join(type(x).__name__ for x in found)}; give what "
            "is not explained, such as a mask, as additional_forward_args"
        )
    return found[0]


def called(x: Tensor, more: Sequence[Any]) -> Inputs:
    """What the network is called with."""
    return (x, *more) if more else x


def over_channels(relevance: Tensor, like: Tensor) -> Tensor:
    """(B, H, W) or (B, N) -> the shape of the input, in which channels share alike."""
    axis = {4: 1, 3: 2}.get(like.ndim)
    if axis is None or relevance.ndim == like.ndim:
        return relevance
    return (relevance / like.shape[axis]).unsqueeze(axis).expand(like.shape).contiguous()


def target_of(target: Any) -> Target:
    """A target of Captum: a class or several, or the place of a score in an output of more dimensions."""
    if isinstance(target, tuple):
        return lambda output: output[(slice(None), *target)]
    if isinstance(target, list) and target and isinstance(target[0], tuple):
        return lambda output: torch.stack([output[i][target[i % len(target)]] for i in range(len(output))])
    if isinstance(target, Tensor):
        return target.reshape(-1) if target.ndim else int(target)
    found: Target = target
    return found
