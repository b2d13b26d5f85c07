"""Count arithmetic and memory instead of timing them: the same numbers on every machine, however busy."""

import contextlib
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

Run = Callable[[], Any]
Shape = torch.Size

# FLOPs ----------------------------------------------------------------------------------------------------------------


def attention_forward(q: Shape, k: Shape, v: Shape, *_: Any, **__: Any) -> int:
    """Two matrix products: QK' and AV."""
    return int(sdpa_flop_count(q, k, v))


def attention_backward(dZ: Shape, q: Shape, k: Shape, v: Shape, *_: Any, **__: Any) -> int:
    """Five matrix products: QK' again, dA, dV, dQ, dK. All are done, also where only dQ is wanted."""
    return int(sdpa_backward_flop_count(dZ, q, k, v))


# PyTorch's own table has the fused kernels of GPUs only; without these rows fused attention on a CPU counts as nothing.
CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention_forward,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: attention_backward,
}


class Whole(contextlib.nullcontext[None]):
    """In place of PyTorch's account by module, whose hooks forbid gradients by a leaf."""

    parents = frozenset({"Global"})
    is_bw = False


def flops(run: Run) -> int:
    """Floating-point operations of every matrix product, convolution and fused attention, backward passes included."""
    counter = FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION)
    counter.mod_tracker = Whole()
    with counter:
        run()
    return int(counter.get_total_flops())


# Memory ---------------------------------------------------------------------------------------------------------------


class Bytes(TorchDispatchMode):
    """`live` and `peak` bytes of the tensor storages made while the mode is on; what existed before counts nothing.

    Every operator's result is seen below autograd. A storage is counted once, when first seen, and taken off when its
    last tensor is gone. Scratch memory inside a kernel is not seen.

    `hollow`: fused attention returns ones of the right shape instead of computing. Bytes do not depend on values.
    """

    def __init__(self, hollow: bool = False) -> None:
        super().__init__()
        self.hollow = hollow
        self.live = self.peak = 0
        self.sizes: dict[int, int] = {}
        self.before: dict[int, torch.UntypedStorage] = {}

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for storage in storages((args, kwargs)):
            if storage._cdata not in self.sizes:
                self.before[storage._cdata] = storage
        computed = not (self.hollow and op.overloadpacket in CPU_ATTENTION)
        out = op(*args, **(kwargs or {})) if computed else ones_like_result(op, args, kwargs or {})
        for storage in storages(out):
            if storage._cdata not in self.sizes and storage._cdata not in self.before:
                self.add(storage)
        return out

    def add(self, storage: torch.UntypedStorage) -> None:
        self.sizes[storage._cdata] = storage.nbytes()
        self.live += storage.nbytes()
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self.remove, storage._cdata)

    def remove(self, key: int) -> None:
        self.live -= self.sizes.pop(key)


def storages(tree: Any) -> list[torch.UntypedStorage]:
    """Of every tensor that has numbers: on the device `meta` there are none."""
    return [x.untyped_storage() for x in tree_leaves(tree) if isinstance(x, Tensor) and not x.is_meta]


def ones_like_result(op: Any, args: Any, kwargs: Any) -> Any:
    """What the operator would return, in shape, strides and type, with every value 1."""

    def meta(x: Any) -> Any:
        return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta") if isinstance(x, Tensor) else x

    def filled(x: Tensor) -> Tensor:
        return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype).fill_(1)

    return tree_map_only(Tensor, filled, op(*tree_map(meta, args), **tree_map(meta, kwargs)))


def peak_bytes(run: Run, hollow: bool = False) -> int:
    """The most bytes of tensors alive at once during `run`, above what was alive before."""
    with Bytes(hollow) as meter:
        run()
    return meter.peak


def resident_bytes(run: Run) -> int:
    """The most resident memory of this process, above what it holds before `run`. Linux; in a fresh process.

    Not `getrusage`: its maximum is inherited from the process that started this one.
    """
    before = status("VmRSS")
    run()
    return status("VmHWM") - before


def status(name: str) -> int:
    """Bytes from Linux's account of this process."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024
