"""Networks whose inputs are no pictures, with their inputs laid out as pictures."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

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
