"""A forward pass written down: every operation on what is made of one tensor."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gradtoken.anatomy import floating
from gradtoken.operations import SOFTMAXES, Op

# Their results count as constants: attention, the gates of sigmoid linear units, the statistics of norms by hand.
CONSTANT: set[Op] = {*SOFTMAXES, torch.sigmoid, Tensor.sigmoid, torch.rsqrt, Tensor.rsqrt}
OUT_OF_PLACE: dict[Op, Op] = {
    Tensor.__iadd__: torch.add,
    Tensor.__isub__: torch.sub,
    Tensor.__imul__: torch.mul,
    Tensor.__itruediv__: torch.div,
}


class Step(NamedTuple):
    """One operation, the tensors it read and made that depend on the source, and all it returned."""

    op: Op
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    read: list[Tensor]
    made: list[Tensor]
    out: Any

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """An argument by its place or its name."""
        return self.args[position] if len(self.args) > position else self.kwargs.get(name, default)


class Journal(TorchFunctionMode):
    """Records `steps` from the tensor that `begin` was called with, under `with`."""

    def __init__(self) -> None:
        super().__init__()
        self.source: Tensor | None = None
        self.known: set[int] = set()  # of tensors that the steps keep alive
        self.steps: list[Step] = []

    def begin(self, x: Tensor) -> Tensor:
        """Everything that is made of x from here on is recorded."""
        self.source = x
        self.known.add(id(x))
        return x

    def __torch_function__(self, op: Op, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        op, kwargs = OUT_OF_PLACE.get(op, op), kwargs or {}
        out = op(*args, **kwargs)
        read = [x for x in floating((*args, *kwargs.values())) if id(x) in self.known]
        made = list(floating(out))
        if read and made and op not in CONSTANT:
            self.steps.append(Step(op, args, kwargs, read, made, out))
            self.known.update(map(id, made))
        return out
