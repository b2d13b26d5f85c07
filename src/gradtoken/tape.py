"""Watch a whole forward pass: keep tensors inside the graph, replace some, and pass over what need not be computed."""

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from gradtoken.anatomy import ADDS, BlockFinder, floating
from gradtoken.call import Call
from gradtoken.operations import PRODUCTS, SCALINGS, SOFTMAXES, Op
from gradtoken.record import Recorder

Edit = Callable[[Tensor], Tensor]
NESTED: set[Op] = {F.multi_head_attention_forward, torch.einsum}  # made of operations that are counted themselves


class Tape(Recorder):
    """Counts the operations of a pass and keeps the results whose numbers are `wanted`, in the graph.

    edits: what to put in place of a numbered result. edits_of_Z: the same for A v, by the number of the attention.
    wanted: None keeps what has an edit alone, and no operands of attention. cut: cut the graph behind each A v, so that
    gradients reach it on the residual stream alone. skip: before this number, what is `made_of` the explained input is
    zeros of the right shape. overwritten: the model writes to what is kept, and gets a copy.
    """

    normalisers = True
    rowwise = False  # rules outside of this mode must see each operation

    def __init__(
        self,
        wanted: set[int] | None,
        *,
        edits: Mapping[int, Edit] | None = None,
        edits_of_Z: Mapping[int, Edit] | None = None,
        cut: bool = False,
        overwritten: bool = False,
        skip: int = 0,
        finder: BlockFinder | None = None,
        limit: int | None = None,
    ) -> None:
        super().__init__(limit=limit)
        self.edits, self.edits_of_Z = edits or {}, edits_of_Z or {}
        self.keep, self.wanted = wanted is not None, set(self.edits) if wanted is None else wanted
        self.cut, self.overwritten, self.skip, self.finder = cut, overwritten, skip, finder
        self.number = -1
        self.made_of: MutableMapping[Any, bool] = WeakIdKeyDictionary()  # what is made of the explained input
        self.kept: dict[int, Tensor] = {}
        self.q: list[Tensor] = []
        self.v: list[Tensor] = []
        self.Z: list[Tensor] = []

    def __torch_function__(self, op: Op, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.finder is not None and op is F.multi_head_attention_forward:
            self.finder.multihead(args[0])
        attended = len(self.Z)
        if self.number + 1 < self.skip and op not in NESTED:
            out = self.pass_over(op, args, kwargs or {})
        else:
            out = super().__torch_function__(op, types, args, kwargs)
        if self.finder is not None and len(self.Z) > attended and op not in NESTED:
            self.finder.attended(attended, self.calls[-1].site, out)
        return self.note(op, out, (*args, *(kwargs or {}).values()))

    def pass_over(self, op: Op, args: Any, kwargs: Any) -> Any:
        """Zeros for what is made of the explained input, or looked up for each sample; what is not, such as rotary
        tables and masks, is still read later.
        """
        like = next((x for x in floating((*args, *kwargs.values())) if x in self.made_of), None)
        made = like is not None
        out = op(*args, **kwargs) if like is None else zeros_of(op, like, args, kwargs)
        for x in floating(out) if made or op is F.embedding else ():
            self.made_of[x] = True
        return out

    def note(self, op: Op, out: Any, args: Any) -> Any:
        """Count a result; keep it or replace it where that was asked."""
        with torch._C.DisableTorchFunction():  # a mode below this one need not see what is asked here
            results = list(floating(out))
        if not results:
            return out
        self.number += 1
        if op is F.embedding and torch.is_grad_enabled() and not out.requires_grad:
            out.requires_grad_()
        if self.finder is not None:
            for i, result in enumerate(results):
                self.finder.made(op, self.number if i == 0 else None, result, args)
        if self.number not in self.wanted:
            return out
        kept = self.edits.get(self.number, same)(results[0])
        self.kept[self.number] = kept
        given = kept.clone() if self.overwritten else kept
        return given if isinstance(out, Tensor) else type(out)((given, *out[1:]))

    def begin(self, q: Tensor) -> Tensor:
        self.segments.append([])
        if self.finder is not None:
            self.finder.began(self.site, q)
        return q.view_as(q) if q.requires_grad else q

    def confirm(self, call: Call) -> None:
        nothing = call.q.new_empty(0)
        super().confirm(call if self.keep else Call(call.site, nothing, nothing))
        self.q.append(call.q if self.keep else nothing)

    def settle(self, call: Call) -> Call:
        return replace(call, q=call.q.detach())  # no copies: `q` and `v` hold their storage anyway

    def finish(self, v: Tensor, Z: Tensor) -> Tensor:
        Z = self.edits_of_Z.get(len(self.calls) - 1, same)(Z)
        if self.cut and torch.is_grad_enabled():
            Z = Z.detach().requires_grad_()
        if self.keep:
            self.v.append(v)
            self.Z.append(Z)
        return Z


def same(x: Tensor) -> Tensor:
    return x


# Shapes of results, for operations that are passed over ---------------------------------------------------------------
# The first use of `torch.broadcast_shapes`, or of tensors on "meta", imports sympy, which takes as long as a map.


def projected(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> tuple[int, ...]:  # noqa: ARG001
    return (*input.shape[:-1], weight.shape[0])


def attended(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> tuple[int, ...]:  # noqa: ARG001
    return (*query.shape[:-1], value.shape[-1])


def multiplied(a: Tensor, b: Tensor, **_: Any) -> tuple[int, ...]:
    if min(a.ndim, b.ndim) < 2:
        return by_meta(torch.matmul, a, b)
    return (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])


def broadcast(a: Any, b: Any, **_: Any) -> tuple[int, ...]:
    return np.broadcast_shapes(*(x.shape for x in (a, b) if isinstance(x, Tensor)))


def unchanged(x: Tensor, *_: Any, **__: Any) -> tuple[int, ...]:
    return x.shape


def convolved(x: Tensor, weight: Tensor, bias: Tensor | None = None, *how: Any, **named: Any) -> tuple[int, ...]:  # noqa: ARG001
    """As a convolution of one channel; how: stride, padding, dilation, groups."""
    named.pop("groups", None)
    one = F.conv2d(x.narrow(-3, 0, 1), weight[:1, :1], None, *how[:3], **named)
    return (*x.shape[:-3], weight.shape[0], *one.shape[-2:])


def added(_: Tensor, a: Tensor, b: Tensor, **__: Any) -> tuple[int, ...]:
    return (*a.shape[:-1], b.shape[-1])


def by_meta(op: Op, *args: Any, **kwargs: Any) -> tuple[int, ...]:
    """By PyTorch's own arithmetic of shapes, which is slow."""

    def meta(x: Any) -> Any:
        return x.to("meta") if isinstance(x, Tensor) else x

    shape: tuple[int, ...] = op(*map(meta, args), **{name: meta(x) for name, x in kwargs.items()}).shape
    return shape


SHAPES: dict[Op, Callable[..., tuple[int, ...]]] = {
    F.linear: projected,
    F.scaled_dot_product_attention: attended,
    **dict.fromkeys(PRODUCTS, multiplied),
    **dict.fromkeys((*SOFTMAXES, F.layer_norm, F.gelu, F.silu), unchanged),
    **dict.fromkeys((*ADDS, *SCALINGS), broadcast),
    F.conv2d: convolved,
    **dict.fromkeys((torch.addmm, torch.baddbmm), added),
}


def zeros_of(op: Op, like: Tensor, args: Any, kwargs: Any) -> Any:
    """What an operation of `like` would give: if it is expensive, one zero that is seen in every place.

    Another operation that writes is given zeros of its own.
    """
    if op in SHAPES:
        return like.new_zeros(()).expand(SHAPES[op](*args, **kwargs) if args else by_meta(op, **kwargs))
    try:
        return op(*args, **kwargs)
    except RuntimeError:
        return op(*(x.contiguous() if isinstance(x, Tensor) else x for x in args), **kwargs)
