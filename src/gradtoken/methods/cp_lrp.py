"""CP-LRP: Ali et al., ICML 2022, with the gamma rule of Montavon et al. as AttnLRP uses it for pictures."""

from torch import Tensor

from gradtoken.errors import expect_between
from gradtoken.lrp.passes import times_gradient
from gradtoken.lrp.presets import with_gamma
from gradtoken.methods import METHODS
from gradtoken.probe import Probe


@METHODS.add(
    paper="https://arxiv.org/abs/2202.07304",
    formula="R = x dy/dx with A constant, norms and activations linear",
    cost="1 F + K B",
    differs="GELU and other activations have the identity rule, as in the package LXT; the norm of a picture's map is "
    "left to the drawing; the gamma rule is on every projection",
)
def cp_lrp(probe: Probe, *, gamma_linear: float = 0.0, gamma_conv: float = 0.0) -> Tensor:
    """Input times a gradient in which attention is a constant, and norms and activations are linear.

    Returns (B, K, H, W) for pictures, summed over the channels, and (B, K, S) for texts, at the input of the first
    block. Unit: logit; signed; with gamma 0 conserved but for what biases, positions and prefix tokens add.

    gamma_linear: how much more contributions count that have the sign of the output, in projections; AttnLRP tries 0
    to 1 for vision transformers. gamma_conv: the same in convolutions, where it tries 0.1 to 100.
    """
    expect_between("gamma_linear", gamma_linear, 0)
    expect_between("gamma_conv", gamma_conv, 0)
    return times_gradient(probe, with_gamma(gamma_linear, gamma_conv))
