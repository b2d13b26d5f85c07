"""Beyond Intuition: Chen, Li, Yu, Dou, Xiong, TMLR 2023."""

from collections.abc import Callable
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor

from gradtoken.along import positive_gradient
from gradtoken.attention import average_rows
from gradtoken.errors import NoBlocks, UnknownName
from gradtoken.methods import METHODS
from gradtoken.probe import Probe
from gradtoken.readout import chunks, content, descend, first_block, present, through
from gradtoken.run import heads_in

Mode = Literal["head", "token"]
Step = Callable[[int, Tensor], Tensor]


@METHODS.add(
    paper="https://openreview.net/forum?id=rm0zIzlhcX",
    formula="R = P * W, P = row of (I + E_L) ... (I + E_start), E = sum_h I_h A_h or mean_h A_h diag(|W v| / |x|)",
    cost="1 F + K B + steps (F + K B)",
    trial={"steps": 1},
    needs=("plain", "last"),
)
def beyond_intuition(probe: Probe, *, mode: Mode = "head", start: int | None = None, steps: int = 20) -> Tensor:
    """Attention perception P through the blocks, times the averaged positive gradient W of the last one: P * W.

    Returns (B, K, S). Unit: logit; >= 0; not conserved. W is that of transition_attention_maps. mode: weights of heads,
    I_h = mean |A_h' dA_h| with sum 1, or of tokens, |W v_j| / |x_j|. start: the first block used, counted from 0, by
    default 3. steps: over how many inputs a * x, a = 0 ... 1, the gradient is averaged.
    """
    if mode not in get_args(Mode):
        raise UnknownName.among("mode", mode, get_args(Mode))
    first = first_block(probe, start, 3)
    perceived = descend(probe, by_head(probe, first) if mode == "head" else by_token(probe, first), first)
    return content(probe, perceived) * content(probe, positive_gradient(probe, steps))


def by_head(probe: Probe, first: int) -> Step:
    """E = sum_h I_h A_h."""
    run = probe.plain
    run.differentiate("Z", run.blocks[first:])

    def step(block: int, row: Tensor) -> Tensor:
        I = head_weights(probe, block)[..., None, None]
        return through(run.attention[block], row, lambda i, j: (I * run.A(block, i, j)[:, None]).sum(dim=2))

    return step


def head_weights(probe: Probe, block: int) -> Tensor:
    """I_h = mean |A_h' dA_h|, sum 1: with dA = dZ v' it is |(A_h' dZ_h) v_h'|. (B, K, H)"""
    run, attention = probe.plain, probe.plain.attention[block]
    dZ, v = run.gradient("Z", block), run.value("v", block)[:, None]
    rows = chunks(attention, 0, attention.shape[2])
    G = torch.stack([run.A(block, i, j).mT[:, None] @ dZ[..., i:j, :] for i, j in rows]).sum(dim=0)
    seen = present(probe, attention.shape[3])[:, None, None, :, None]
    sums = [((G[..., i:j, :] @ v.mT).abs() @ seen).sum(dim=(3, 4)) for i, j in chunks(attention, 0, G.shape[3])]
    I = torch.stack(sums).sum(dim=0)
    weights: Tensor = I / I.sum(dim=2, keepdim=True).clamp(min=torch.finfo(I.dtype).tiny)
    return weights


def by_token(probe: Probe, first: int) -> Step:
    """E = mean_h A_h diag(|W v_j| / |x_j|): W is what makes the branch of A v, layer scale included and bias not."""
    run, blocks = probe.plain, probe.plain.blocks[first:]
    if not probe.last.square:
        raise NoBlocks("mode='token' compares values with a block's input, and the last attention has none of its own")
    with_v, with_0 = (
        probe.run(edits={("Z", b): partial(values_of, share * run.value("v", b)) for b in blocks}, graph=False)
        for share in (1, 0)
    )

    def step(block: int, row: Tensor) -> Tensor:
        Wv = with_v.value("branch", block) - with_0.value("branch", block)
        order: Tensor = torch.linalg.vector_norm(Wv, dim=-1) / torch.linalg.vector_norm(run.value("x", block), dim=-1)
        collection = average_rows(run.attention[block], row[:, 0]) * order
        return row + collection[:, None]

    return step


def values_of(v: Tensor, Z: Tensor) -> Tensor:
    """The values in place of what attention makes of them, as the model made Z."""
    view = heads_in(Z, v.shape[0], v.shape[1])
    return view.back(v.to(Z.dtype))
