"""GradCAM on attention maps, in the form that Chefer, Gur, Wolf, CVPR 2021, compare with."""

from torch import Tensor

from gradtoken.methods import METHODS
from gradtoken.probe import Probe
from gradtoken.readout import collected, content, present, readout


@METHODS.add(
    paper="https://arxiv.org/abs/2012.09838",
    formula="R = relu(mean_h w_h A_h[readout]), w_h = mean of dy/dA_h, last block",
    cost="1 F + K B",
    needs=("plain", "last"),
    differs="the authors' code rescales the map to [0, 1] and makes it NaN where all of it is clipped; "
    "padding counts in its weights for texts, and not in these",
)
def gradcam(probe: Probe) -> Tensor:
    """Attention heads of the last block, weighted by their mean gradient: R = relu(mean_h w_h A[h, readout]).

    Returns (B, K, S). Unit: logit; >= 0; not conserved. w_h is the mean of dy/dA_h over the patches in the readout's
    row, for texts over the whole matrix.
    """
    run, block = probe.plain, len(probe.attention) - 1
    attention = run.attention[block]
    total, text = attention.shape[3], not probe.layout.is_grid
    read = present(probe, attention.shape[2])[:, None] if text else readout(probe)
    g = (read[:, :, None, None] @ run.gradient("Z", block)) @ run.value("v", block)[:, None].mT  # (B, K, H, 1, M)
    w = (g * present(probe, total)[:, None, None, None]).sum(dim=-1) if text else mean_patch(probe, g)

    def E(i: int, j: int) -> Tensor:
        return (w[..., None] * run.A(block, i, j)[:, None]).mean(dim=2)

    return content(probe, collected(attention, readout(probe), E)).clamp(min=0)


def mean_patch(probe: Probe, values: Tensor) -> Tensor:
    """(..., N) -> (...)"""
    return probe.layout.content(values, values.shape[-1]).mean(dim=-1)
