"""Run a model under a preset, and read what comes back to its input."""

import copy
from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from gradtoken.attention import working_dtype
from gradtoken.errors import BadModel
from gradtoken.inputs import mapped, signature, tensors
from gradtoken.lrp.presets import ABS_LRP, LRP_CONSERVATIVE
from gradtoken.lrp.propagate import Preset, Rules
from gradtoken.lrp.relevance import sd
from gradtoken.probe import Probe
from gradtoken.readout import content
from gradtoken.run import Run
from gradtoken.state import RUNNING

CHECKED: WeakKeyDictionary[nn.Module, set[Any]] = WeakKeyDictionary()  # presets that left a model's scores as they are


class Lent(nn.Module):
    """A model with other weights for the time of each call: its own without gradients, in this precision or better.

    The module is neither copied nor changed. same: whether its parameters have this precision already.
    """

    def __init__(self, net: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.net = net
        with RUNNING:  # another thread may have lent it others
            self.own = list(weights_of(net))
            self.same = all(x.dtype == dtype for x in net.parameters())
        lent = {id(x): converted(x.detach(), dtype) for _, _, x in self.own}
        self.lent = [(held, name, lent[id(x)]) for held, name, x in self.own]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        try:
            try:
                put(self.lent)
                return self.net(*args, **kwargs)
            finally:
                put(self.own)
        finally:
            put(self.own)  # again, as an interrupt may have come in between


Weights = Iterable[tuple[dict[str, Any], str, Tensor]]


def weights_of(net: nn.Module) -> Weights:
    """Where each weight and each buffer is held, under which name, and itself; of a module with two names once."""
    for module in net.modules():
        for held in (module._parameters, module._buffers):
            yield from ((held, name, x) for name, x in held.items() if x is not None)


def put(weights: Weights) -> None:
    """Each where it belongs."""
    for held, name, x in weights:
        held[name] = x


def converted(x: Any, dtype: torch.dtype) -> Any:
    """A floating tensor in this precision or better."""
    floating = isinstance(x, Tensor) and x.is_floating_point()
    return x.to(torch.promote_types(x.dtype, dtype)) if floating else x


def propagate(probe: Probe, preset: Preset, *, precise: bool = False, chosen: Any = None, **how: Any) -> Run:
    """One forward pass under a preset, in the model's precision or, as half precision has no 1e-9, in float32.

    precise: in float64. chosen: other scores of the output than the targets'. how: see `gradtoken.passes.run`.
    """
    check_order(probe, preset)
    dtype = torch.float64 if precise else torch.float32
    known, key = CHECKED.setdefault(probe.net, set()), (signature(probe.inputs), id(preset))
    net = Lent(probe.net, dtype)
    first = chosen is None and key in known and probe.is_new and net.same
    if not first:
        probe.first  # noqa: B018  whose scores the pass must give again
    under = copy.copy(probe)
    under.anatomy = probe.anatomy  # learnt from the model itself
    under.net, under.inputs = net, mapped(lambda x: converted(x, dtype), probe.inputs)
    if not first:
        under.chosen = chosen or probe.chosen
    with torch.autocast(next(iter(tensors(probe.inputs))).device.type, enabled=False):
        run = under.run(rules=Rules(preset), **how)
    if first:
        probe.adopt(under.first)
    else:
        check(probe, run)
        known.add(key)
    return run


def check_order(probe: Probe, preset: Preset) -> None:
    """Refuse sums over a sample where the first axis is not the sample's."""
    if any(preset is sums for sums in (LRP_CONSERVATIVE, ABS_LRP)) and "x" in probe.anatomy.tokens_first:
        raise BadModel(
            f"{type(probe.net).__name__} keeps tokens before the batch; these rules take sums over each sample, and "
            "expect the batch first (batch_first=True)"
        )


def check(probe: Probe, run: Run) -> None:
    """Refuse a model that rules do not leave as it is: one that overwrites a tensor that it reads again."""
    scores = probe.scores.cpu().double()
    gap = (run.scores[:, : scores.shape[1]].detach().cpu().double() - scores).abs().max()
    allowed = 30 * torch.finfo(probe.scores.dtype).eps ** 0.5 * (1 + scores.abs().max())
    if gap > allowed:
        raise BadModel(
            f"relevance rules change the scores of {type(probe.net).__name__} by {gap:.2g}; "
            "it may compute in place, or at random in evaluation mode"
        )


def read(probe: Probe, R: Tensor) -> Tensor:
    """Relevance of the input, summed over its channels: (B, K, C, H, W) to pixels, (B, K, N, C) to content tokens."""
    R = R.sum(dim=2) if probe.picture is not None else content(probe, R.sum(dim=3))
    return R.to(working_dtype(probe.scores))


def of_attention(run: Run, block: int, start: int = 0, stop: int | None = None) -> Tensor:
    """Rows of the relevance of A, half of what Z = A v receives: R_A = A (S v') / 2, S = R_Z / Z.

    Returns (B, K, H, stop - start, M).
    """
    S = sd(run.gradient("Z", block), run.value("Z", block)[:, None])[..., start:stop, :]
    R: Tensor = run.A(block, start, stop)[:, None] * (S @ run.value("v", block)[:, None].mT) / 2
    return R


def times_gradient(probe: Probe, preset: Preset) -> Tensor:
    """Input times gradient under a preset that modifies gradients. (B, K, H, W) or (B, K, S)"""
    run = propagate(probe, preset)
    return read(probe, run.value("input", 0)[:, None] * run.gradient("input", 0))
