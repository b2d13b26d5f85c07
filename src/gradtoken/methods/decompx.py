"""DecompX: Modarressi, Fayyaz, Aghazadeh, Yaghoobzadeh, Pilehvar, arXiv 2306.02873."""

from typing import Any

import torch
from torch import Tensor

from gradtoken.decomposition.journal import Journal
from gradtoken.decomposition.parts import as_one
from gradtoken.decomposition.replay import decompose
from gradtoken.errors import NoRule
from gradtoken.inputs import Inputs, mapped
from gradtoken.methods import METHODS
from gradtoken.probe import Probe
from gradtoken.progress import track
from gradtoken.readout import visible_content
from gradtoken.targets import called, logits_of


@METHODS.add(
    paper="https://arxiv.org/abs/2306.02873",
    formula="y = sum_j y_j: each token's vector, followed through all blocks and the head",
    cost="3 F + N F of parts, N tokens",
    needs=("last", "stream"),
    trial=lambda probe: decompose(*written(probe, 0), sources=as_one),
    differs="written for post-norm encoders; here the same rules are applied in the order of any model, from the input "
    "of its first block. Published code knows no layer scale: here the bias of the second projection is shared out "
    "before the scale multiplies it",
)
def decompx(probe: Probe) -> Tensor:
    """Share of each token in the logit, its vector carried through every block as a part of a sum.

    A is constant, norms have their true statistics, activations are lines from the origin, and a bias b is shared out
    by |<x_j, b>|: those of an attention together, after the residual sum, as in the authors' code. Samples are taken
    one by one, since each needs N vectors for each of N tokens.

    Returns (B, K, S). Unit: logit; signed; the shares of all tokens, prefix tokens included, sum to the score. Padding
    is exactly 0.
    """
    R = torch.stack([shares(probe, i) for i in track(range(probe.batch), "samples")])
    R = probe.layout.content(R, R.shape[2])
    return R * visible_content(probe)[:, None]


def shares(probe: Probe, sample: int) -> Tensor:
    """The parts of each score of one sample. (K, N)"""
    return decompose(*written(probe, sample))[:, 0].mT


def written(probe: Probe, sample: int) -> tuple[Journal, Tensor]:
    """One sample's pass as a journal, and its scores. (1, K)"""
    journal = Journal()
    chosen = probe.chosen

    def score(output: Any) -> Tensor:
        with journal:
            if chosen.indices is not None:
                return logits_of(output).gather(1, chosen.indices[sample : sample + 1])
            assert callable(chosen.target)
            values = called(chosen.target, output, 1)
            return values if values.ndim == 2 else values[:, None]

    alone = Probe(probe.net, one_of(probe, sample), score)
    run = alone.run(rules=journal, edits={("x", alone.stream[0]): journal.begin}, graph=False)
    if not torch.allclose(run.scores, alone.scores, rtol=1e-2, atol=1e-3):
        raise NoRule(
            f"{type(alone.net).__name__} writes into tensors that it reads again; expected scores "
            f"{alone.scores.tolist()}, got {run.scores.tolist()} without that; take a method that reads gradients"
        )
    return journal, run.scores


def one_of(probe: Probe, sample: int) -> Inputs:
    """The inputs of one sample."""

    def pick(x: Any) -> Any:
        per_sample = isinstance(x, Tensor) and x.ndim and len(x) == probe.batch
        return x[sample : sample + 1] if per_sample else x

    return mapped(pick, probe.inputs)
