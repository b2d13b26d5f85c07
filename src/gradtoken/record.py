"""Watch a model run: every attention call in order, and the sizes its convolutions produce.

Nothing is patched. A `TorchFunctionMode` sees each operation; `operations` says which of them are part of an attention.

Gradients are wanted for the tail of the network only: everything after the query of the last attention. Which call is
the last is known only when the model has finished. So the graph is always built, but what it saves for the backward
pass is dropped again whenever a later attention begins; only the tail's share survives. A `start` learnt in an earlier
run saves even that: no graph is built before it.
"""

from collections.abc import Callable, MutableMapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from gradtoken.call import Call, settled, unchanged
from gradtoken.operations import HANDLERS, RESHAPES, Op

EMPTY = torch.empty(0), torch.empty(0)


class Enough(BaseException):
    """Raised inside the model to end its forward pass once the wanted attention was seen."""


class Freed(RuntimeError):
    """The backward pass needs what was dropped: a checkpoint computes again from before the last attention."""


class Unread(Exception):
    """The score does not depend on the last attention: the head of a model may be computed and not used."""


class Recorder(TorchFunctionMode):
    """Collects `calls` and `grids`; see the module's text. `until`: how many calls end the forward pass with `Enough`.

    `limit`: how many calls count; those after are none of ours. `keeping`: what is kept of each call but the last.
    `unfinished` counts what looked like an attention since the last call, but did not end like one; `unread` is the sum
    of these up to the last call: attentions that take no part in an explanation.
    """

    normalisers = False  # whether the sums that a softmax written by hand divides by are kept
    rowwise = True  # whether linear layers may have a gradient by their input alone

    def __init__(
        self,
        start: int | None = None,
        until: int | None = None,
        limit: int | None = None,
        keeping: Callable[[Call], Call] = unchanged,
    ) -> None:
        super().__init__()
        self.start, self.until, self.limit, self.keeping = start, until, limit, keeping
        self.calls: list[Call] = []
        self.grids: list[tuple[int, int]] = []
        self.segments: list[list[list[Tensor]]] = [[]]
        self.marks: MutableMapping[Any, Call] = WeakIdKeyDictionary()
        self.factors: MutableMapping[Any, float] = WeakIdKeyDictionary()
        self.operands: tuple[Tensor | None, Tensor | None] = (None, None)  # key and value of the last fused call
        self.end: tuple[Tensor, Tensor] = EMPTY  # v and Z = A v of the last call
        self.unfinished = 0
        self.unread = 0

    def __torch_function__(self, op: Op, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        handler = HANDLERS.get(op)
        if handler is not None:
            return handler(self, op, *args, **(kwargs or {}))
        out = op(*args, **(kwargs or {}))
        if isinstance(out, Tensor):
            with torch._C.DisableTorchFunction():  # a mode below this one need not see what is asked here
                self.follow(op, out, args)
        return out

    # What the graph saves -------------------------------------------------------------------------------------------

    def pack(self, saved: Tensor) -> list[Tensor]:
        """Keep a tensor that the backward pass needs in the segment that began last."""
        box = [saved]
        self.segments[-1].append(box)
        return box

    @staticmethod
    def unpack(box: list[Tensor]) -> Tensor:
        if not box:
            raise Freed
        return box[0]

    def drop(self, before: int | None = None) -> None:
        """Free what was saved before this site, or everything."""
        for segment in self.segments[:before]:
            for box in segment:
                box.clear()
            segment.clear()

    def close(self) -> list[Call]:
        """The calls, cut from the graph; nothing of the graph is held any more.

        The graph holds the recorder (through `pack`) and the recorder the graph (through q): a ring that Python's
        collector cannot see, so it has to be opened by hand.
        """
        self.drop()
        calls = [*self.calls[:-1], *map(self.settle, self.calls[-1:])]
        self.calls.clear()
        self.marks.clear()
        self.operands, self.end = (None, None), EMPTY
        return calls

    # Attention ------------------------------------------------------------------------------------------------------

    def begin(self, q: Tensor) -> Tensor:
        """A possible start of the tail: q as a node of the graph."""
        self.segments.append([])
        if self.site == self.start:
            torch.set_grad_enabled(True)
        if not torch.is_grad_enabled():
            return q
        return q.view_as(q) if q.requires_grad else q.detach().requires_grad_()

    @property
    def site(self) -> int:
        return len(self.segments) - 1

    @property
    def last_site(self) -> int | None:
        """Where the last attention so far began."""
        return self.calls[-1].site if self.calls else None

    @property
    def full(self) -> bool:
        """Whether every call that counts was seen."""
        return len(self.calls) == self.limit

    def confirm(self, call: Call) -> None:
        """Note that the products since its site were an attention; so the one before it is not the last."""
        if self.calls:
            self.calls[-1] = self.settle(self.keeping(self.calls[-1]))
        self.calls.append(call)
        self.unread += self.unfinished - (call.weights is not None)
        self.unfinished = 0
        self.drop(before=call.site)
        if len(self.calls) == self.until:
            raise Enough

    def settle(self, call: Call) -> Call:
        """A call that is no longer the last."""
        return settled(call)

    def finish(self, v: Tensor, Z: Tensor) -> Tensor:
        """What the model gets for Z = A v of the attention that was confirmed last."""
        self.end = v, Z
        return Z

    def follow(self, op: Op, out: Any, args: Any) -> None:
        """Whatever is made of a score or of weights, without changing their number, is still that.

        A number that a tensor was multiplied by stays with it through changes of shape.
        """
        if not isinstance(out, Tensor) or out.ndim < 3:
            return
        if len(self.factors) and op in RESHAPES and args[0] in self.factors:
            self.factors[out] = self.factors[args[0]]
        for arg in args if len(self.marks) else ():
            if isinstance(arg, Tensor) and arg in self.marks and arg.numel() == out.numel():
                self.marks[out] = self.marks[arg]
                return
