"""What is kept of the attentions before the last: most of what an explanation holds in memory.

Propagation begins at the gradient of the last block, when the queries and keys of all others are long computed. They
are kept until then, as they are or rounded; or computed once more, each used while the model is at it.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from gradtoken.align import aligned
from gradtoken.attention import Attention
from gradtoken.blocks import hides_later
from gradtoken.call import Call, settled, unchanged
from gradtoken.errors import NoAttention, UnknownName
from gradtoken.inputs import Inputs, batch_of, call, tensors
from gradtoken.record import Enough, Recorder
from gradtoken.state import untouched

Memory = Literal["keep", "bfloat16", "float16", "recompute"]


def kept_by(memory: str) -> Callable[[Call], Call]:
    """What each way keeps of a call."""
    if memory not in get_args(Memory):
        raise UnknownName.among("memory", memory, get_args(Memory))
    ways = {"keep": unchanged, "recompute": left_out}
    return ways.get(memory) or partial(rounded, dtype=getattr(torch, memory))


def rounded(call: Call, dtype: torch.dtype) -> Call:
    """A call in a smaller number format."""
    q, k = call.q.detach().to(dtype), call.k.to(dtype)
    if dtype == torch.float16 and not (q.isfinite().all() and k.isfinite().all()):
        raise NoAttention(
            f"queries or keys are beyond {torch.finfo(dtype).max:.0f}, the largest number of float16; "
            "use memory='bfloat16'"
        )
    return replace(call, q=q, k=k, weights=None if call.weights is None else call.weights.to(dtype))


def left_out(call: Call) -> Call:
    """The shapes of a call, its mask, and whether it is causal, which weights alone may tell."""
    causal = call.causal or (call.weights is not None and hides_later(call))
    q, k = call.q.detach().to("meta"), call.k.to("meta")
    return replace(call, q=q, k=k, causal=causal, weights=None, normaliser=None)


class Passing(Recorder):
    """Hands each attention to `visit` with its number, while the model is at it, and keeps none."""

    def __init__(self, visit: Callable[[int, Call], None], until: int) -> None:
        super().__init__(start=-1, until=until)
        self.visit = visit

    def confirm(self, call: Call) -> None:
        self.visit(len(self.calls), settled(call))
        super().confirm(left_out(call))


def summed_again(net: nn.Module, inputs: Inputs, numbers: list[int], f: Callable[[Attention], Tensor]) -> Tensor:
    """Sum of f(A) over attentions by number, in one more forward pass that ends at the last of them."""
    total: list[Tensor] = []
    device, batch = tensors(inputs)[0].device.type, batch_of(inputs)
    cast = torch.is_autocast_enabled(device)

    def visit(number: int, found: Call) -> None:
        attention = aligned(found, batch) if number in numbers else None
        if attention is not None:
            with torch.autocast(device, enabled=cast):  # not as a model may have it for itself
                total[:] = [f(attention) if not total else total[0] + f(attention)]

    try:
        with untouched(net, tensors(inputs)), torch.no_grad(), Passing(visit, until=max(numbers) + 1):
            call(net, inputs)
    except Enough:
        return total[0]
    raise NoAttention(
        f"{type(net).__name__} took fewer than {max(numbers) + 1} attentions when it ran again on the same inputs; "
        "use memory='keep'"
    )
