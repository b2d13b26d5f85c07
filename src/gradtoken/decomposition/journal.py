"""A forward pass written down: every operation on what is made of one tensor."""

from typing import Any, NamedTuple

from torch import Tensor
from torch.overrides import TorchFunctionMode

from gradtoken.anatomy import floating
from gradtoken.operations import OUT_OF_PLACE, SOFTMAXES, Op, named

# Their results count as constants: attention, the gates of sigmoid units, the statistics of norms by hand, new tensors.
CONSTANT: set[Op] = {
    *SOFTMAXES,
    *named("sigmoid", "rsqrt", "zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like"),
    *named("new_zeros", "new_ones", "new_full", "new_empty", "new_tensor"),
}
# Of their second operand no value is read.
LIKE: set[Op] = {*named("to", "type_as", "view_as", "expand_as", "reshape_as")}


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
    """Records `steps` from the tensor that `begin` was called with, under `with`.

    Nothing on the way is overwritten: a model that relies on it, other than by `x += y`, gives another result.
    """

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
        kwargs = kwargs or {}
        if op in OUT_OF_PLACE and id(args[0]) in self.known:
            op = OUT_OF_PLACE[op]
        out = op(*args, **kwargs)
        operands = args[:1] if op in LIKE else (*args, *kwargs.values())
        read = [x for x in floating(operands) if id(x) in self.known]
        made = list(floating(out))
        if read and made and op not in CONSTANT:
            self.steps.append(Step(op, args, kwargs, read, made, out))
            self.known.update(map(id, made))
        return out
