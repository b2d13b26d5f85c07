"""Input times gradient: Shrikumar et al., Not Just a Black Box, 2016."""

from torch import Tensor

from gradtoken.methods import METHODS
from gradtoken.probe import Probe
from gradtoken.readout import content


@METHODS.add(
    paper="https://arxiv.org/abs/1605.01713",
    formula="R = sum_c x_c dy/dx_c",
    cost="1 F + K B",
    needs=("plain",),
)
def input_x_gradient(probe: Probe) -> Tensor:
    """First-order contribution of each pixel, or of each token's embedding: R = sum_c x_c dy/dx_c.

    Returns (B, K, H, W) for pictures as the network reads them, (B, K, S) for texts. Unit: logit; signed; their sum
    is the derivative of the logit as the whole input is scaled.
    """
    run = probe.plain
    x, dx = run.value("input", 0)[:, None], run.gradient("input", 0)
    if probe.picture is not None:
        return (x * dx).sum(dim=2)
    return content(probe, (x * dx).sum(dim=-1))
