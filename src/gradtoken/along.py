"""Gradients along a path: of a model's input from nothing or from a baseline, or of the attention of one block."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from gradtoken.attention import working_dtype
from gradtoken.errors import BadTarget
from gradtoken.inputs import apply, repeated, with_picture
from gradtoken.lens import at_end
from gradtoken.passes import micro_batches
from gradtoken.probe import Probe
from gradtoken.readout import collected, readout, unpadded
from gradtoken.record import Recorder
from gradtoken.run import Place, Run, heads_in
from gradtoken.state import untouched
from gradtoken.tape import Edit

Scores = Callable[[Tensor], Tensor]


def path(probe: Probe, steps: int) -> Tensor:
    """Factors 0 ... 1, both ends included. Raises BadTarget for none."""
    if steps < 1:
        raise BadTarget(f"expected at least 1 step, got {steps}")
    return torch.linspace(0, 1, steps, dtype=probe.dq.dtype, device=probe.dq.device)


def times(x: Tensor, factors: Tensor) -> Tensor:
    """X (m, ...) with each entry multiplied by its factor (m)."""
    return x * factors.to(x).reshape(-1, *(1,) * (x.ndim - 1))


# The last attention, at scaled inputs ---------------------------------------------------------------------------------


def positive_gradient(probe: Probe, steps: int | None) -> Tensor:
    """The readout's row of W = mean_h relu(mean over runs of dA), last block; None: the plain run. (B, K, M)"""
    block = len(probe.attention) - 1
    runs = [probe.plain] if steps is None else scaled_runs(probe, path(probe, steps))
    found = [(run.gradient("Z", block), run.value("v", block)) for run in runs]
    dZ, v = (torch.cat([beside(x, probe.batch) for x in parts], dim=-1) for parts in zip(*found, strict=True))

    def E(i: int, j: int) -> Tensor:  # one product sums over channels and runs
        return (dZ[..., i:j, :] @ v[:, None].mT / (steps or 1)).clamp(min=0).mean(dim=2)

    return collected(probe.last, readout(probe), E)


def beside(x: Tensor, batch: int) -> Tensor:
    """Repeats of the batch, side by side in the last axis. (m * B, ..., D) -> (B, ..., m * D)"""
    return torch.cat(torch.split(x, batch), dim=-1)


def scaled_runs(probe: Probe, factors: Tensor) -> Iterator[Run]:
    """The batch repeated, its pictures or embeddings multiplied by each factor."""
    for part in micro_batches(probe, len(factors), graph=True):
        yield probe.run(**scaled(probe, factors[part.start : part.stop]))


def scaled(probe: Probe, factors: Tensor) -> dict[str, Any]:
    """How to run the batch once for each factor."""
    each = factors.repeat_interleave(probe.batch)
    if probe.picture is not None:
        return {"inputs": probe.pictured(times(probe.picture.repeat(len(factors), 1, 1, 1), each))}
    return {"inputs": repeated(probe.inputs, len(factors)), "edits": {("x", 0): lambda x: times(x, each)}}


# Any attention, as it is scaled itself --------------------------------------------------------------------------------


def mean_gradient(
    probe: Probe, block: int, factors: Tensor, *, own_head: bool = False, probability: bool = False
) -> Tensor:
    """Mean gradient of each score by A v of a block, where A, and so A v, is multiplied by each factor.

    own_head: of the scores that the model's head gives to the output of this block. (B, K, H, N, D)
    """
    total = [
        gradients(probe, block, factors[part.start : part.stop], own_head=own_head, probability=probability)
        for part in micro_batches(probe, len(factors), graph=True)
    ]
    return torch.stack(total).sum(dim=0) / len(factors)


def gradients(probe: Probe, block: int, factors: Tensor, *, own_head: bool, probability: bool) -> Tensor:
    """These gradients, summed over the factors: one pass from the block on, the batch repeated. (B, K, H, N, D)"""
    copies, kept = len(factors), dict[str, Tensor]()

    def scale(Z: Tensor) -> Tensor:
        kept["Z"] = times(Z, factors.repeat_interleave(len(Z) // copies)).detach().requires_grad_()
        return kept["Z"]

    def keep(out: Tensor) -> Tensor:
        kept["out"] = out
        return out

    edits: dict[Place, Edit] = {("Z", block): scale}
    if block in probe.followed and probe.attention[block].square:
        x = probe.plain.value("x", block).repeat(copies, 1, 1)
        edits["x", block] = lambda _: x
        if own_head and block != probe.residual[-1]:
            edits |= {("out", block): keep, ("out", -1): lambda like: at_end(probe, kept["out"], like)}
    start = ("x", block) if ("x", block) in edits else None
    run = probe.run(inputs=repeated(probe.inputs, copies), edits=edits, start=start, probability=probability)
    view = heads_in(kept["Z"], copies * probe.batch, probe.attention[block].shape[1])
    found = [torch.autograd.grad(score, kept["Z"], retain_graph=True)[0] for score in run.scores.sum(dim=0)]
    dZ = torch.stack([view.read(g) for g in found], dim=1).to(working_dtype(kept["Z"]))  # (copies * B, K, H, N, D)
    return dZ.reshape(copies, probe.batch, *dZ.shape[1:]).sum(dim=0)


# Any input in place of what is explained ------------------------------------------------------------------------------


def explained(probe: Probe) -> tuple[Tensor, Scores]:
    """The pictures, or the tokens that enter the first block; and scores of m others, (m * B, ...) -> (m * B, K)."""

    def of_pictures(z: Tensor) -> Tensor:
        inputs = with_picture(probe.inputs, probe.grid, z.clone())
        with untouched(probe.net, [z]):
            with probe.rules or nullcontext(), Recorder(limit=0):  # a model may not turn gradients off
                output = apply(probe.net, inputs)
            read = probe.chosen.probabilities if probe.probability else probe.chosen.scores
            return read(output, len(z) // probe.batch)

    def of_tokens(z: Tensor) -> Tensor:
        inputs = repeated(probe.inputs, len(z) // probe.batch)
        return probe.run(inputs=inputs, edits={place: lambda like: z.to(like.dtype)}, start=place).scores

    if probe.picture is not None:
        return probe.grid.detach().clone(), of_pictures
    place = ("x", probe.residual[0])
    return probe.run(graph=False).value(*place), of_tokens


def fitted(baseline: float | Tensor, x: Tensor) -> Tensor:
    """The baseline in the shape of what is explained."""
    x0 = torch.as_tensor(baseline).to(x)
    try:
        return x0.expand_as(x)
    except RuntimeError:
        raise BadTarget(f"expected a baseline that fits {tuple(x.shape)}, got {tuple(x0.shape)}") from None


def summed(probe: Probe, attributions: Tensor) -> Tensor:
    """The sum over channels. (B, K, C, H, W) -> (B, K, H, W), (B, K, N, C) -> (B, K, S)"""
    if probe.picture is not None:
        return attributions.sum(dim=2).to(probe.dq)
    R = attributions.sum(dim=3).to(probe.dq) * unpadded(probe)[:, None]
    return probe.layout.content(R, R.shape[2])
