"""absLRP: Vukadin, Afric, Silic, Delac, 2024."""

from typing import Any

import torch
from torch import Tensor

from gradtoken.errors import BadTarget
from gradtoken.lrp.absolute import entered
from gradtoken.lrp.passes import propagate, read
from gradtoken.lrp.presets import ABS_LRP
from gradtoken.methods import METHODS
from gradtoken.probe import Probe
from gradtoken.targets import Chosen, logits_of


@METHODS.add(
    paper="https://arxiv.org/abs/2412.09311",
    formula="R_in = x d< f(x) + f|.|(|x|), R/|f(x)| >/dx, sum |R_in| = 1 at each step; class minus all others",
    cost="1 F + 2 K relprops",
    differs="steps as in the authors' code: dropouts that do nothing share relevance out too, and the skip of a "
    "residual connection holds what reaches it through the branch",
)
def abs_lrp(probe: Probe, *, contrastive: bool = True) -> Tensor:
    """Relevance in proportion to absolute magnitudes, each operation's input scaled to the same total.

    Returns (B, K, H, W) for pictures, summed over the channels, and (B, K, S) for texts, at the input of the first
    block. Unit: parts of the largest relevance of a single number of the input; signed; not conserved.
    contrastive: subtract the relevance of all other classes together.
    """
    if contrastive and probe.chosen.indices is None:
        raise BadTarget(
            "abs_lrp subtracts the relevance of all other classes, and a callable target names no class; expected a "
            "class, or contrastive=False"
        )
    start = Against(probe.chosen) if contrastive else probe.chosen
    edits = {("x", 0): entered} if probe.picture is None and 0 in probe.followed else {}
    R = propagate(probe, ABS_LRP, chosen=start, edits=edits).gradient("input", 0)
    K = probe.scores.shape[1]
    R = R[:, :K] - R[:, K:] if contrastive else R
    return read(probe, R / (R.abs().amax(dim=tuple(range(2, R.ndim)), keepdim=True) + 1e-9))


class Against:
    """The scores of the targets, and for each the mean of all other classes. (B, 2 K)"""

    def __init__(self, chosen: Chosen) -> None:
        self.chosen, self.indices = chosen, chosen.known

    def scores(self, output: Any, copies: int = 1) -> Tensor:
        y, logits = self.chosen.scores(output, copies), logits_of(output)
        if logits.shape[1] == 1:
            raise BadTarget(
                "abs_lrp subtracts the relevance of all other classes; for one class pass contrastive=False"
            )
        others = (logits.sum(dim=1, keepdim=True) - y) / (logits.shape[1] - 1)
        return torch.cat([y, others], dim=1)
