"""Where the blocks of a model begin and end, found by following what its operations make of each attention's result.

Tensors are known by their number: how many operations with a floating result came before in one forward pass. The
numbers are the same in every pass on inputs of one shape, whatever their values.
"""

from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from gradtoken.operations import Op

ADDS: set[Op] = {torch.add, Tensor.add, Tensor.add_, Tensor.__add__, Tensor.__radd__}
PROJECTIONS: set[Op] = {F.linear, torch.addmm, Tensor.addmm}
NORMS: set[Op] = {F.layer_norm, torch.layer_norm, F.rms_norm, torch.rms_norm}


@dataclass(frozen=True)
class Block:
    """Numbers of tensors around one attention.

    x: the block's input, which the residual connection carries past the attention. features: what the projections to
    q, k and v read, after a norm or x itself. branch: what is added to x. middle: the sum.
    """

    x: int
    features: int
    branch: int
    middle: int


@dataclass(frozen=True)
class Anatomy:
    """The blocks by the number of their attention, and the number of the last block's output.

    overwritten: whether sums are written to the block's input. largest: bytes of the largest result of an operation,
    for the whole batch.
    """

    blocks: dict[int, Block]
    end: int | None
    overwritten: bool
    largest: int


def floating(values: Any) -> Iterator[Tensor]:
    """The floating tensors among arguments or results, one list deep."""
    for value in values if isinstance(values, list | tuple) else (values,):
        for x in value if isinstance(value, list | tuple) else (value,):
            if isinstance(x, Tensor) and x.is_floating_point():
                yield x


class BlockFinder:
    """Watches one forward pass; `anatomy` is what it saw."""

    def __init__(self) -> None:
        self.numbers: MutableMapping[Any, int] = WeakIdKeyDictionary()
        self.sources: MutableMapping[Any, int] = WeakIdKeyDictionary()  # the attention whose result it is made of
        self.features: dict[int, int] = {}
        self.blocks: dict[int, Block] = {}
        self.norms: set[int] = set()
        self.read: int | None = None  # what the last projection read
        self.end: int | None = None  # the last sum on the residual stream
        self.normed: int | None = None  # its norm
        self.overwritten = False
        self.largest = 0

    def attended(self, call: int, Z: Tensor) -> None:
        """Z is the result of this attention."""
        self.sources[Z] = call
        if self.read is not None:
            self.features[call] = self.read

    def made(self, op: Op, number: int, out: Tensor, args: Any) -> None:
        """Operation `number` made `out` of `args`."""
        self.largest = max(self.largest, out.numel() * out.element_size())
        inputs = list(floating(args))
        self.overwritten = self.overwritten or op is Tensor.add_
        if any(x is out for x in inputs) and op is not Tensor.add_:  # an operation that does nothing
            return
        found = [source for x in inputs if (source := self.sources.get(x)) is not None]
        known = self.numbers.get(inputs[0]) if inputs else None
        if op in PROJECTIONS and not found:
            self.read = self.numbers.get(inputs[1 if op is torch.addmm else 0])
        elif op in NORMS:
            self.norms.add(number)
            self.normed = number if known == self.end and known is not None else self.normed
        if op in ADDS and self.on_stream(number, out, inputs):
            self.end, self.normed = number, None
        elif found and out not in self.sources:
            self.sources[out] = max(found)
        self.numbers[out] = number

    def on_stream(self, number: int, out: Tensor, inputs: list[Tensor]) -> bool:
        """Whether this sum is on the residual stream: it ends the branch of an attention, or adds to such a sum."""
        return self.ends_branch(number, out, inputs) or self.continues(out, inputs)

    def ends_branch(self, number: int, out: Tensor, inputs: list[Tensor]) -> bool:
        """Whether this sum joins the result of an attention with what the attention was made of."""
        branches = [x for x in inputs if x in self.sources]
        skips = [x for x in inputs if x not in self.sources]
        if len(branches) != 1 or len(skips) != 1 or any(x.shape != out.shape for x in inputs):
            return False
        branch, x = self.numbers.get(branches[0]), self.numbers.get(skips[0])
        call = self.sources[branches[0]]
        features = self.features.get(call)
        if branch is None or x is None or features is None or x > features:
            return False
        self.blocks[call] = Block(x, features, branch, number)
        return True

    def continues(self, out: Tensor, inputs: list[Tensor]) -> bool:
        """Whether this sum adds something to the residual stream."""
        stream = {self.end, self.normed} - {None}
        on_stream = any(self.numbers.get(x) in stream for x in inputs)
        return on_stream and len(inputs) == 2 and all(x.shape == out.shape for x in inputs)

    @property
    def anatomy(self) -> Anatomy:
        """What was seen; the last block ends after its norm where norms follow the sums."""
        last = self.blocks[max(self.blocks)] if self.blocks else None
        if last is None:
            return Anatomy({}, None, self.overwritten, self.largest)
        norm_last = last.x in self.norms if len(self.blocks) > 1 else last.x == last.features
        end = self.normed if norm_last and self.normed is not None else self.end
        return Anatomy(self.blocks, end, self.overwritten, self.largest)
