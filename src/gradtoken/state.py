"""Run a model and leave it exactly as it was."""

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from gradtoken.errors import BadModel

RUNNING = threading.RLock()  # flags of a model, the random state and eager execution belong to the whole process
if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(before=RUNNING.acquire, after_in_parent=RUNNING.release, after_in_child=RUNNING.release)


def first_weight(net: nn.Module) -> Tensor | None:
    """A weight of a model, its own also while another thread computes with others in their place."""
    with RUNNING:
        return next(net.parameters(), None)


def original(net: nn.Module) -> nn.Module:
    """The module that was given to torch.compile or nn.DataParallel, or the module itself."""
    inner = net.module if isinstance(net, nn.DataParallel) else getattr(net, "_orig_mod", net)
    return original(inner) if isinstance(inner, nn.Module) and inner is not net else net


@contextlib.contextmanager
def untouched(net: nn.Module, inputs: list[Tensor]) -> Iterator[None]:
    """Evaluation mode, no inference mode, eager execution; flags and random state are put back, also after an error.

    One thread at a time: a second one would find the first one's flags and put those back at its end.
    """
    modules = list(net.modules())  # walked once, which is slow
    weights = (x for m in modules for x in (*m._parameters.values(), *m._buffers.values()) if x is not None)
    if any(x.is_inference() for x in weights):
        raise BadModel("the weights were made in inference mode, which forbids gradients; load the model outside of it")
    devices = {x.device.index or 0 for x in inputs if x.device.type == "cuda"}
    with RUNNING, contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.random.fork_rng(devices=list(devices)))
        if "torch._dynamo" in sys.modules:  # nothing is compiled where it was never imported
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(evaluating(net, modules))
        yield


@contextlib.contextmanager
def evaluating(net: nn.Module, modules: list[nn.Module]) -> Iterator[None]:
    """Evaluation mode, each module's own flag put back at the end; a flag that is right is not set, which is slow."""
    flags = [(module, module.training) for module in modules]
    try:
        try:
            if any(flag for _, flag in flags):
                net.eval()
            yield
        finally:
            put_back(flags)
    finally:
        put_back(flags)  # again, as an interrupt may have come in between


def put_back(flags: list[tuple[nn.Module, bool]]) -> None:
    """The flags of training as they were."""
    for module, flag in flags:
        if module.training != flag:
            module.training = flag
