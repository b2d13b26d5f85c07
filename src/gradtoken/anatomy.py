"""Where the blocks of a model begin and end, found by following what its operations make of each attention's result.

Tensors are known by their number: how many operations with a floating result came before in one forward pass. The
numbers are the same in every pass on inputs of one signature (`gradtoken.inputs.signature`), or that pass is refused.
"""

from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from gradtoken.errors import BadModel
from gradtoken.operations import Op

PLACES = ("x", "features", "branch", "middle", "out")
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


class OtherPath(BadModel):
    """A pass that went another way through the model than the one that its places are known from."""


@dataclass(frozen=True)
class Anatomy:
    """The blocks by the number of their attention, and the number of the last block's output.

    shapes: of the tensors with these numbers. overwritten: whether sums are written to the block's input.
    tokens_first: the places where tokens come before the batch. largest: bytes of the largest result of an operation,
    for the whole batch. count: of operations that were numbered.
    """

    blocks: dict[int, Block]
    end: int | None
    shapes: dict[int, torch.Size]
    overwritten: bool
    tokens_first: frozenset[str]
    largest: int
    count: int

    def check(self, found: int, name: str) -> None:
        """Places are numbers of operations: a pass that makes more or fewer of them would be read at wrong ones."""
        if found != self.count:
            raise OtherPath(
                f"{name} made {found} operations on a changed input and {self.count} on the input itself: its forward "
                "pass depends on what it reads, and this method cannot follow it"
            )


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
        self.origins: MutableMapping[Any, int] = WeakIdKeyDictionary()  # what the last projection before it read
        self.sites: dict[int, int] = {}  # what the projection to q read, by the site of the attention
        self.features: dict[int, int] = {}
        self.shapes: dict[int, torch.Size] = {}
        self.memory: dict[int, int] = {}
        self.blocks: dict[int, Block] = {}
        self.norms: set[int] = set()
        self.end: int | None = None  # the last sum on the residual stream
        self.normed: int | None = None  # its norm
        self.overwritten = False
        self.count = 0
        self.tokens_first: frozenset[str] = frozenset()
        self.largest = 0

    def multihead(self, query: Tensor) -> None:
        """Multi-head attention is given (N, B, C) in any case: a view where the model's own order is another.

        The one query of a pooling is in either order.
        """
        if query.ndim == 3 and len(query) > 1 and query.stride(0) >= query.stride(1):
            self.tokens_first = frozenset(PLACES) - {"features"}

    def began(self, site: int, q: Tensor) -> None:
        """An attention may begin here with q."""
        if q in self.origins:
            self.sites[site] = self.origins[q]

    def attended(self, call: int, site: int, Z: Tensor) -> None:
        """Z is the result of this attention."""
        self.sources[Z] = call
        if site in self.sites:
            self.features[call] = self.sites[site]

    def made(self, op: Op, number: int | None, out: Tensor, args: Any) -> None:
        """Operation `number` made `out` of `args`; only the first of several results has the number."""
        self.largest = max(self.largest, out.numel() * out.element_size())
        self.count += number is not None
        inputs = list(floating(args))
        self.overwritten = self.overwritten or op is Tensor.add_
        if any(x is out for x in inputs) and op is not Tensor.add_:  # an operation that does nothing
            return
        found = [source for x in inputs if (source := self.sources.get(x)) is not None]
        origin = self.origin(op, inputs)
        if origin is not None:
            self.origins[out] = origin
        if number is not None:
            self.numbered(op, number, out, inputs)
        if found and not (op in ADDS and self.end == number) and out not in self.sources:
            self.sources[out] = max(found)

    def numbered(self, op: Op, number: int, out: Tensor, inputs: list[Tensor]) -> None:
        """Follow the residual stream through the result with this number."""
        if op in NORMS:
            self.norms.add(number)
            known = self.numbers.get(inputs[0])
            self.normed = number if known == self.end and known is not None else self.normed
        if op in ADDS and self.on_stream(number, out, inputs):
            self.end, self.normed = number, None
        self.numbers[out] = number
        self.shapes[number], self.memory[number] = out.shape, out.data_ptr()

    def origin(self, op: Op, inputs: list[Tensor]) -> int | None:
        """What the last projection on the way to this operation's result read."""
        if op in PROJECTIONS:
            return self.numbers.get(inputs[1 if op is torch.addmm else 0])
        return next((self.origins[x] for x in inputs if x in self.origins), None)

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
        end = self.normed if last is not None and self.is_normed(last) and self.normed is not None else self.end
        wanted = {n for b in self.blocks.values() for n in (b.x, b.features, b.branch, b.middle)} | {end}
        shapes = {n: shape for n, shape in self.shapes.items() if n in wanted}
        return Anatomy(self.blocks, end, shapes, self.overwritten, self.tokens_first, self.largest, self.count)

    def is_normed(self, last: Block) -> bool:
        """Whether sums are followed by a norm, which the next block's attention then reads without one of its own."""
        if len(self.blocks) > 1:
            return last.x in self.norms
        return last.x == last.features or self.memory.get(last.x) == self.memory.get(last.features)
