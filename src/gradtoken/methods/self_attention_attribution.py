"""Self-attention attribution (AttAttr): Hao, Dong, Wei, Xu, AAAI 2021."""

import torch
from torch import Tensor

from gradtoken.attention import working_dtype
from gradtoken.inputs import repeated
from gradtoken.lens import at_end
from gradtoken.methods import METHODS
from gradtoken.methods.transition_attention_maps import path, times
from gradtoken.passes import micro_batches
from gradtoken.probe import Probe
from gradtoken.readout import collected, content, readout
from gradtoken.run import Place, heads_in
from gradtoken.tape import Edit


@METHODS.add(
    paper="https://arxiv.org/abs/2004.11207",
    formula="R = sum_bh (A * mean_k dp(k/m A)/dA)[readout], k = 0 ... m - 1, p the class probability",
    cost="1 F + L steps (F + K B)",
    needs=("plain", "last"),
    differs="the paper scales one head at a time and sums k = 1 ... m; its code, as here, all heads of a block, and by "
    "default 64 steps. Both give a matrix for each block; the sum of the readout's rows over blocks is ours",
)
def self_attention_attribution(probe: Probe, *, steps: int = 20) -> Tensor:
    """Integrated gradients of the class probability along each block's attention, summed over blocks and heads.

    Returns (B, K, S). Unit: probability; signed; all entries of a block's matrices sum to what its attention changes in
    the probability, as steps grow.
    """
    factors = path(probe, steps) * ((steps - 1) / steps)
    return torch.stack([block_map(probe, block, factors) for block in probe.plain.blocks]).sum(dim=0)


def block_map(probe: Probe, block: int, factors: Tensor) -> Tensor:
    """The readout's row of one block's attribution, heads summed. (B, K, S)"""
    run = probe.plain
    dZ, v = mean_gradient(probe, block, factors, probability=True), run.value("v", block)[:, None]

    def E(i: int, j: int) -> Tensor:
        return (run.A(block, i, j)[:, None] * (dZ[..., i:j, :] @ v.mT)).sum(dim=2)

    return content(probe, collected(run.attention[block], readout(probe, block), E))


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
        if own_head and block != probe.stream[-1]:
            edits |= {("out", block): keep, ("out", -1): lambda like: at_end(probe, kept["out"], like)}
    start = ("x", block) if ("x", block) in edits else None
    run = probe.run(inputs=repeated(probe.inputs, copies), edits=edits, start=start, probability=probability)
    view = heads_in(kept["Z"], copies * probe.batch, probe.attention[block].shape[1])
    found = [torch.autograd.grad(score, kept["Z"], retain_graph=True)[0] for score in run.scores.sum(dim=0)]
    dZ = torch.stack([view.read(g) for g in found], dim=1).to(working_dtype(kept["Z"]))  # (copies * B, K, H, N, D)
    return dZ.reshape(copies, probe.batch, *dZ.shape[1:]).sum(dim=0)
