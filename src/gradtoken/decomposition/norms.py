"""LayerNorms as linear maps, with the statistics of the values that they met."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gradtoken.attention import working_dtype
from gradtoken.operations import Op

LAYER_NORMS: set[Op] = {F.layer_norm, torch.layer_norm}


@dataclass(frozen=True)
class Linearised:
    """Of a part: its difference from its own mean, times gamma / sigma of the whole. gamma (C); sigma (B, N, 1)"""

    gamma: Tensor
    sigma: Tensor

    def __call__(self, T: Tensor, start: int) -> Tensor:
        """Of the parts of the tokens from `start` on. (B, n, M, C)"""
        scale = self.gamma / self.sigma[:, start : start + T.shape[1]]
        return (T - T.mean(dim=-1, keepdim=True)) * scale[:, :, None]


@dataclass(frozen=True)
class Norm:
    """One LayerNorm as the model called it: y = norm(x)."""

    x: Tensor
    y: Tensor
    gamma: Tensor | None
    eps: float

    def at(self, read: Callable[[Tensor], Tensor]) -> Linearised:
        """Its linear map at the values it met, which `read` brings to (B, N, C)."""
        x = read(self.x.detach()).to(working_dtype(self.x))
        sigma = (x.var(dim=-1, correction=0, keepdim=True) + self.eps).sqrt()
        gamma = x.new_ones(x.shape[-1]) if self.gamma is None else self.gamma.detach().to(x.dtype)
        return Linearised(gamma, sigma)


class Norms(TorchFunctionMode):
    """Remembers every LayerNorm of a pass, by what it read and by what it made."""

    modifies = False  # the backward pass

    def __init__(self) -> None:
        super().__init__()
        self.read: dict[int, Norm] = {}
        self.made: dict[int, Norm] = {}

    def __torch_function__(self, op: Op, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = op(*args, **(kwargs or {}))
        if op in LAYER_NORMS:
            norm = called(out, *args, **(kwargs or {}))
            self.read[id(norm.x)] = self.made[id(out)] = norm
        return out


def called(
    y: Tensor, input: Tensor, _shape: Any = None, weight: Tensor | None = None, *bias: Any, eps: float = 1e-5, **_: Any
) -> Norm:
    """What a call of a LayerNorm was."""
    return Norm(input, y, weight, bias[1] if len(bias) > 1 else eps)
