"""AGCAM: Leem and Seo, Attention Guided CAM, AAAI 2024."""

import torch
from torch import Tensor

from gradtoken.attention import scores
from gradtoken.methods import METHODS
from gradtoken.probe import Probe
from gradtoken.readout import collected, content, readout


@METHODS.add(
    paper="https://arxiv.org/abs/2402.04563",
    formula="R = sum_bh sigmoid(O) * relu(dy/dA) in the readout's rows; gradients skip all other attention",
    cost="2 F + K B",
    needs=("last",),
    differs="the paper writes that gradients take the skip connections alone; as in its code, the attention's input is "
    "cut from the graph",
)
def agcam(probe: Probe) -> Tensor:
    """Positive gradient of attention, weighted by the sigmoid of its scores O: sum_bh sigmoid(O) * relu(dA).

    Returns (B, K, S). Unit: logit; >= 0; not conserved. O is scaled, as the softmax reads it. The gradient of a block's
    attention has passed no attention of later blocks, so under an attention pooling the pooling alone counts.
    """
    run = probe.run(cut=True)
    run.differentiate("Z", run.blocks)

    def block_map(block: int) -> Tensor:
        attention = run.attention[block]

        def E(i: int, j: int) -> Tensor:
            return (scores(attention, i, j).sigmoid()[:, None] * run.dA(block, i, j).clamp(min=0)).sum(dim=2)

        return content(probe, collected(attention, readout(probe, block), E))

    return torch.stack([block_map(block) for block in run.blocks]).sum(dim=0)
