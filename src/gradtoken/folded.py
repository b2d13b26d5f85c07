"""Networks whose inputs are no pictures, with their inputs laid out as pictures: sounds and films.

A token of a film shows a tubelet: a patch of a few consecutive frames. These frames become channels of one picture, and
the pictures of all moments stand one under the other: tokens are then patches of one tall picture, in the same order.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from gradtoken.errors import BadTarget

Unfold = Callable[[Tensor], Tensor]


class AsPicture(nn.Module):
    """A network that is called with pictures (B, C, H, W), for which all holds that is known of pictures.

    unfold: makes the network's own input of them. argument: the name of that input.
    """

    def __init__(self, net: nn.Module, argument: str, unfold: Unfold) -> None:
        super().__init__()
        self.net, self.argument, self.unfold = net, argument, unfold
        self.training = net.training

    @property
    def config(self) -> Any:
        """Of the network."""
        return self.net.config

    def forward(self, pictures: Tensor) -> Any:
        return self.net(**{self.argument: self.unfold(pictures)})


def film_of(net: nn.Module, tubelet: int, moments: int) -> AsPicture:
    """A network of films (B, frames, C, H, W)."""
    return AsPicture(net, "pixel_values", partial(as_clips, tubelet=tubelet, moments=moments))


def tubelet_of(net: nn.Module) -> int:
    """How many frames make a token, as the configuration says."""
    found: Any = getattr(getattr(net, "config", None), "tubelet_size", 1)
    return int(found if isinstance(found, int) else found[0])


@dataclass(frozen=True, eq=False)
class Clips:
    """Films for a network, laid out as pictures, and how many moments they have."""

    net: AsPicture
    pictures: Tensor
    moments: int

    @classmethod
    def of(cls, net: nn.Module, inputs: Any) -> "Clips | None":
        """None for inputs that are no tensor (B, frames, C, H, W), or by that name in a mapping."""
        if isinstance(inputs, dict) and list(inputs) == ["pixel_values"]:
            inputs = inputs["pixel_values"]
        if not (isinstance(inputs, Tensor) and inputs.ndim == 5 and inputs.is_floating_point()):
            return None
        tubelet, frames = tubelet_of(net), inputs.shape[1]
        if frames % tubelet:
            raise BadTarget(f"expected films of a multiple of {tubelet} frames, got {frames}")
        return cls(film_of(net, tubelet, frames // tubelet), as_pictures(inputs, tubelet), frames // tubelet)


def as_pictures(clips: Tensor, tubelet: int) -> Tensor:
    """(B, frames, C, H, W) -> (B, tubelet * C, moments * H, W)"""
    B, frames, C, H, W = clips.shape
    parts = clips.reshape(B, frames // tubelet, tubelet, C, H, W)
    return parts.permute(0, 2, 3, 1, 4, 5).reshape(B, tubelet * C, -1, W)


def as_clips(pictures: Tensor, tubelet: int, moments: int) -> Tensor:
    """(B, tubelet * C, moments * H, W) -> (B, frames, C, H, W)"""
    B, _, height, W = pictures.shape
    parts = pictures.reshape(B, tubelet, -1, moments, height // moments, W)
    return parts.permute(0, 3, 1, 2, 4, 5).flatten(1, 2)
