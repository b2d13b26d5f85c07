"""Run a model under a preset, and read what comes back to its input."""

import copy
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gradtoken.attention import working_dtype
from gradtoken.errors import BadModel
from gradtoken.inputs import mapped, signature, tensors
from gradtoken.lrp.presets import ABS_LRP, LRP_CONSERVATIVE
from gradtoken.lrp.propagate import Preset, Rules
from gradtoken.lrp.relevance import sd
from gradtoken.probe import Probe
from gradtoken.readout import content
from gradtoken.run import Run

CHECKED: WeakKeyDictionary[nn.Module, set[Any]] = WeakKeyDictionary()  # presets that left a model's scores as they are


class Lent(nn.Module):
    """A model with other weights for the time of each call: its own without gradients, in this precision or better.

    The module is neither copied nor changed.
    """

    def __init__(self, net: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.net = net
        own = by_place(net)
        lent = {id(x): converted(x.detach(), dtype) for x in own.values()}
        self.weights = {name: lent[id(x)] for name, x in own.items()}

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return functional_call(self.net, self.weights, args, kwargs, tie_weights=False)


def by_place(net: nn.Module) -> dict[str, Tensor]:
    """Weights and buffers by name: one that two modules share twice, those of a module that has two names once.

    `functional_call` told every name of such a module would find its own loan there, and put that back at the end.
    """
    found = {}
    for prefix, module in net.named_modules():
        for name, x in (*module.named_parameters("", False, False), *module.named_buffers("", False, False)):
            found[f"{prefix}.{name}" if prefix else name] = x
    return found


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
    first = chosen is None and key in known and probe.is_new and all(x.dtype == dtype for x in probe.net.parameters())
    if not first:
        probe.first  # noqa: B018  whose scores the pass must give again
    under = copy.copy(probe)
    under.anatomy = probe.anatomy  # learnt from the model itself
    under.net, under.inputs = Lent(probe.net, dtype), mapped(lambda x: converted(x, dtype), probe.inputs)
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
    scores = probe.scores.double()
    gap = (run.scores[:, : scores.shape[1]].detach().double() - scores).abs().max()
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
