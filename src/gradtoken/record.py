"""Watch a model run: every attention call in order, and the sizes its convolutions produce.

Nothing is patched. A `TorchFunctionMode` sees each operation; attention is `scaled_dot_product_attention`,
`multi_head_attention_forward`, or a softmax over the last axis between two matrix products.

Gradients are wanted for the tail of the network only: everything after the query of the last attention. Which call is
the last is known only when the model has finished. So the graph is always built, but what it saves for the backward
pass is dropped again whenever a later attention begins; only the tail's share survives. A `start` learnt in an earlier
run saves even that: no graph is built before it.
"""

from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from gradtoken.multihead import multi_head_attention

Op = Callable[..., Any]


class Enough(BaseException):
    """Raised inside the model to end its forward pass once the wanted attention was seen."""


@dataclass(frozen=True)
class Call:
    """One attention as it was called: raw operands, before they are brought to (B, H, N, D).

    `site` numbers the products that may begin an attention; `q` is the graph node that gradients are taken of.
    `q_factor`, `k_factor`: numbers that q and k had already been multiplied by.
    """

    site: int
    q: Tensor
    k: Tensor
    scale: float | None = None
    mask: Tensor | None = None
    causal: bool = False
    weights: Tensor | None = None
    q_factor: float = 1.0
    k_factor: float = 1.0


class Recorder(TorchFunctionMode):
    """Collects `calls` and `grids`; see the module's text. `until(call)` true ends the forward pass with `Enough`."""

    def __init__(self, start: int | None = None, until: Callable[[Call], bool] | None = None) -> None:
        super().__init__()
        self.start, self.until = start, until
        self.calls: list[Call] = []
        self.grids: list[tuple[int, int]] = []
        self.segments: list[list[list[Tensor]]] = [[]]
        self.marks: MutableMapping[Any, Call] = WeakIdKeyDictionary()
        self.factors: MutableMapping[Any, float] = WeakIdKeyDictionary()

    def __torch_function__(self, op: Op, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        handler = HANDLERS.get(op)
        if handler is not None:
            return handler(self, op, *args, **(kwargs or {}))
        out = op(*args, **(kwargs or {}))
        if len(self.marks):
            self.follow(out, args)
        return out

    # What the graph saves -------------------------------------------------------------------------------------------

    def pack(self, saved: Tensor) -> list[Tensor]:
        """Keep a tensor that the backward pass needs in the segment that began last."""
        box = [saved]
        self.segments[-1].append(box)
        return box

    @staticmethod
    def unpack(box: list[Tensor]) -> Tensor:
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
        calls = [settled(call) for call in self.calls]
        self.calls.clear()
        self.marks.clear()
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

    def confirm(self, call: Call) -> None:
        """Note that the products since its site were an attention; so the one before it is not the last."""
        if self.calls:
            self.calls[-1] = settled(self.calls[-1])
        self.calls.append(call)
        self.drop(before=call.site)
        if self.until is not None and self.until(call):
            raise Enough

    def follow(self, out: Any, args: Iterable[Any]) -> None:
        """Whatever is made of a score or of weights, without changing their number, is still that."""
        if not isinstance(out, Tensor) or out.ndim < 3:
            return
        for arg in args:
            if isinstance(arg, Tensor) and arg in self.marks and arg.numel() == out.numel():
                self.marks[out] = self.marks[arg]
                return


def settled(call: Call) -> Call:
    """A call whose tail is not wanted: q is no node of the graph, q and k hold no more memory than their own."""
    return replace(call, q=apart(call.q.detach()), k=apart(call.k))


def apart(x: Tensor) -> Tensor:
    """X without what shares its storage: q and k are often slices of one tensor that holds v too."""
    return x.clone() if x.untyped_storage().nbytes() > x.numel() * x.element_size() else x


def sdpa(
    record: Recorder,
    op: Op,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    q = record.begin(query)
    mask = None if attn_mask is None else attn_mask.detach()  # a mask with a gradient would forbid the fused kernel
    scale_ = q.shape[-1] ** -0.5 if scale is None else scale
    record.confirm(Call(record.site, q, key.detach(), scale_, mask, is_causal))
    options = {"dropout_p": dropout_p, "is_causal": is_causal, "scale": scale, "enable_gqa": enable_gqa}
    return op(q, key, value, mask, **options)  # type: ignore[no-any-return]


def multihead(record: Recorder, _op: Op, *args: Any, **kwargs: Any) -> Any:
    with record:  # a mode is off inside its own handler
        return multi_head_attention(*args, **kwargs)


def product(record: Recorder, op: Op, *args: Any, **kwargs: Any) -> Tensor:
    """Q @ K' begins an attention written by hand, A @ V ends it."""
    a, b = (*args, *(kwargs.pop(name) for name in ("input", "other", "mat2") if name in kwargs))
    mark = record.marks.get(a) if isinstance(a, Tensor) else None
    if mark is not None and mark.weights is not None:
        record.confirm(Call(**{**vars(mark), "weights": a.detach()}))
        record.marks.clear()
        return op(a, b, **kwargs)  # type: ignore[no-any-return]
    operands = all(isinstance(x, Tensor) and x.ndim >= 3 and x.is_floating_point() for x in (a, b))
    if not operands:
        return op(a, b, **kwargs)  # type: ignore[no-any-return]
    factors = record.factors.get(a, 1.0), record.factors.get(b, 1.0)
    q = record.begin(a)
    O = op(q, b, **kwargs)
    record.marks[O] = Call(record.site, q, b.detach().mT, q_factor=factors[0], k_factor=factors[1])
    return O  # type: ignore[no-any-return]


def softmax(record: Recorder, op: Op, *args: Any, **kwargs: Any) -> Tensor:
    A = op(*args, **kwargs)
    scores = args[0] if args else kwargs["input"]
    dim = args[1] if len(args) > 1 else kwargs.get("dim")
    mark = record.marks.get(scores)
    if mark is not None and dim in (-1, scores.ndim - 1):
        record.marks[A] = Call(**{**vars(mark), "weights": A.detach()})
    return A  # type: ignore[no-any-return]


def scaled(record: Recorder, op: Op, *args: Any, **kwargs: Any) -> Any:
    """Multiplication by a number is remembered, so that q is known without the scale."""
    out = op(*args, **kwargs)
    x, other = args if len(args) == 2 else (None, None)
    if isinstance(x, Tensor) and isinstance(other, int | float) and not isinstance(other, bool) and other != 0:
        factor = 1 / other if op in DIVISIONS else other
        record.factors[out] = record.factors.get(x, 1.0) * factor
    if len(record.marks):
        record.follow(out, args)
    return out


def convolution(record: Recorder, op: Op, *args: Any, **kwargs: Any) -> Tensor:
    out = op(*args, **kwargs)
    size = tuple(out.shape[-2:])
    if out.ndim == 4 and size not in record.grids:
        record.grids.append(size)
    return out  # type: ignore[no-any-return]


DIVISIONS: set[Op] = {torch.div, torch.true_divide, Tensor.div, Tensor.__truediv__, Tensor.true_divide}
HANDLERS: dict[Op, Op] = {
    F.scaled_dot_product_attention: sdpa,
    F.multi_head_attention_forward: multihead,
    F.conv2d: convolution,
    **dict.fromkeys((torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, Tensor.bmm), product),
    **dict.fromkeys((torch.softmax, Tensor.softmax, F.softmax), softmax),
    **dict.fromkeys((torch.mul, Tensor.mul, Tensor.__mul__, *DIVISIONS), scaled),
}
