"""LeGrad: Bousselham, Boggust, Chaybouti, Strobelt, Kuehne, ICCV 2025."""

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor

from gradtoken.errors import BadTarget
from gradtoken.lens import at_end, projected, pulled
from gradtoken.methods import METHODS
from gradtoken.passes import micro_batches
from gradtoken.probe import Probe
from gradtoken.readout import collected, content, present, readout, visible


@METHODS.add(
    paper="https://arxiv.org/abs/2404.03214",
    formula="R = sum_b mean_hi relu(dy_b/dA)_hi, y_b the head on the mean token of block b's output",
    cost="1 F + 1 short F + L K short B",
    needs=("plain", "stream"),
    differs="the paper takes the mean over all blocks; its code, as the default here, the sum over the last two",
)
def legrad(probe: Probe, *, layers: int | Literal["all"] = 2) -> Tensor:
    """Positive gradient of attention, each block's for the class score of its own mean output token.

    Returns (B, K, S). Unit: logit; >= 0; not conserved. Under an attention pooling the gradient is that of the pooling,
    which reads the output of each block. layers: how many blocks, counted from the last.
    """
    if layers != "all" and not (isinstance(layers, int) and layers > 0):
        raise BadTarget(f"expected layers as a number of blocks from 1 on, or 'all', got {layers!r}")
    blocks = probe.stream if layers == "all" else probe.stream[-layers:]
    if len(probe.attention) - 1 not in probe.stream:
        return sum_of(pooled_map(probe, block) for block in blocks)
    means = [(averaging(probe, block) * probe.plain.value("out", block)).sum(dim=1, keepdim=True) for block in blocks]
    slopes: list[Tensor] = []
    for some in micro_batches(probe, len(blocks)):
        slopes += torch.split(projected(probe, torch.cat([means[i] for i in some])), probe.batch)
    return sum_of(mean_map(probe, block, slope) for block, slope in zip(blocks, slopes, strict=True))


def sum_of(maps: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(maps)).sum(dim=0)


def averaging(probe: Probe, block: int) -> Tensor:
    """Weights of the tokens of a block in their mean. (B, N, 1)"""
    return present(probe, probe.plain.value("out", block).shape[1])[..., None]


def mean_map(probe: Probe, block: int, slope: Tensor) -> Tensor:
    """Mean over heads and rows of relu(dA). slope: of the head by the mean token, (B, K, 1, C). (B, K, S)"""
    run, attention, weights = probe.plain, probe.plain.attention[block], averaging(probe, block)
    v = run.value("v", block)[:, None]
    dZ = pulled(run, ("out", block), slope * weights[:, None], block)

    def E(i: int, j: int) -> Tensor:
        return ((dZ[..., i:j, :] @ v.mT).clamp(min=0) * visible(attention, i, j)[:, None]).mean(dim=2)

    return content(probe, collected(attention, weights[:, None, :, 0], E))


def pooled_map(probe: Probe, block: int) -> Tensor:
    """Mean over heads of relu(dA) of the attention pooling, where it reads the output of a block. (B, K, S)"""
    out, last = probe.plain.value("out", block), len(probe.attention) - 1
    run = probe.run(edits={("out", -1): lambda like: at_end(probe, out, like)})
    row = collected(probe.last, readout(probe), lambda i, j: run.dA(last, i, j).clamp(min=0).mean(dim=2))
    return content(probe, row)
