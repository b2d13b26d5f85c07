"""Random relevance: the baseline that every explanation must beat."""

import torch
from torch import Generator, Tensor

from gradtoken.methods import METHODS
from gradtoken.probe import Probe
from gradtoken.readout import visible_content
from gradtoken.seeds import seeded


@METHODS.add(
    paper="https://arxiv.org/abs/1810.03292",
    formula="R ~ U(0, 1)",
    cost="1 F",
    class_aware=False,
    differs="the paper randomises weights and labels; a random map is the usual lower bound of evaluations",
)
def random(probe: Probe, *, generator: Generator | None = None) -> Tensor:
    """Uniform noise in place of an explanation.

    Returns (B, K, S), the same for every target. Unit: none; in [0, 1); padding is exactly 0. All samples of a batch
    get the same map, so that none depends on the others.

    generator: of the noise; by default a new one with seed 0.
    """
    source = seeded(generator)
    R = torch.rand(1, probe.layout.count, generator=source, device=source.device, dtype=torch.float64).to(probe.dq)
    R = R * visible_content(probe)
    return R[:, None].expand(-1, probe.scores.shape[1], -1)
