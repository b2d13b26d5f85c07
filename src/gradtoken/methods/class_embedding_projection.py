"""Class-embedding projection: Vilas, Schaumloeffel, Roig, NeurIPS 2023."""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from gradtoken.errors import UnknownName
from gradtoken.inputs import Inputs, repeated
from gradtoken.lens import projected, pulled
from gradtoken.methods import METHODS
from gradtoken.passes import micro_batches
from gradtoken.probe import Probe
from gradtoken.readout import collected, content, readout
from gradtoken.run import Run
from gradtoken.targets import Target

Gradient = Literal["cross_entropy", "logit"]


@METHODS.add(
    paper="https://arxiv.org/abs/2310.18969",
    formula="R = -sum_bh dl_b/dA[readout], l_b = cross entropy of the head on the branch of block b's attention",
    cost="1 F + L short F + L K short B",
    needs=("plain", "stream"),
    differs="the code takes the softmax twice in its cross entropy, as here; its variant with logits reads the largest "
    "one, and has the other sign",
)
def class_embedding_projection(probe: Probe, *, gradient: Gradient = "cross_entropy") -> Tensor:
    """How attention raises the class that each attention's branch shows when the model's head reads it.

    Returns (B, K, S). Unit: cross entropy or logit; signed, higher speaks for the class; not conserved. gradient: what
    is differentiated, the cross entropy of the class or its logit.
    """
    if gradient not in get_args(Gradient):
        raise UnknownName.among("gradient", gradient, get_args(Gradient))
    target = probe.chosen.known if gradient == "cross_entropy" else None
    return torch.stack([block_map(probe, block, target) for block in probe.stream]).sum(dim=0)


def block_map(probe: Probe, block: int, target: Tensor | None) -> Tensor:
    """The readout's row of one block, heads summed. (B, K, S)"""
    run, attention = probe.plain, probe.plain.attention[block]

    def log_likelihood(head: Run) -> Tensor:
        assert head.logits is not None
        assert target is not None
        return head.logits.softmax(dim=1).log_softmax(dim=1).gather(1, target)

    branch = run.value("branch", block)
    seeds = projected(probe, branch) if target is None else projected(probe, branch, log_likelihood)
    dZ, v = pulled(run, ("branch", block), seeds, block), run.value("v", block)[:, None]
    row = collected(attention, readout(probe, block), lambda i, j: (dZ[..., i:j, :] @ v.mT).sum(dim=2))
    return content(probe, row)


def class_identifiability(net: nn.Module, inputs: Inputs, target: Target = None) -> Tensor:
    """How well each token of each block shows a class to the model's head: 1 - rank / classes, 1 where it is first.

    (B, K, L, N), over the blocks on the tokens of the last block's output, prefix tokens included.
    """
    probe = Probe(net, inputs, target)
    run, total = probe.plain, probe.attention[probe.stream[-1]].shape[2]
    blocks = [block for block in probe.stream if probe.attention[block].shape[2] == total]
    return torch.stack([identified(probe, run.value("out", block)) for block in blocks], dim=2)


def identified(probe: Probe, tokens: Tensor) -> Tensor:
    """1 - rank / classes of each target for each token alone. (B, N, C) -> (B, K, N)"""
    target, found = probe.chosen.known, []
    for part in micro_batches(probe, tokens.shape[1]):
        some = tokens[:, part.start : part.stop].transpose(0, 1).flatten(0, 1)[:, None]  # (m * B, 1, C)
        head = probe.run(
            inputs=repeated(probe.inputs, len(part)),
            edits={("out", -1): lambda like, x=some: x.expand(-1, like.shape[1], -1)},
            start=("out", -1),
            graph=False,
        )
        assert head.logits is not None
        own = head.logits.gather(1, target.repeat(len(part), 1))  # (m * B, K)
        rank = (head.logits[:, None] > own[..., None]).sum(dim=-1)
        found.append((1 - rank / head.logits.shape[1]).reshape(len(part), probe.batch, -1))
    return torch.cat(found).movedim(0, -1).to(tokens.dtype)
