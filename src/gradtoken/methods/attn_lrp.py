"""AttnLRP: Achtibat et al., ICML 2024."""

from torch import Tensor

from gradtoken.lrp.passes import times_gradient
from gradtoken.lrp.presets import ATTN_LRP
from gradtoken.methods import METHODS
from gradtoken.probe import Probe


@METHODS.add(
    paper="https://arxiv.org/abs/2402.05602",
    formula="R = x dy/dx, gradients of norms and activations replaced, q and k / 4, v / 2",
    cost="1 F + K B",
)
def attn_lrp(probe: Probe) -> Tensor:
    """Input times a gradient in which norms and activations are linear and products give half to each factor.

    Returns (B, K, H, W) for pictures, summed over the channels, and (B, K, S) for texts, at the input of the first
    block. Unit: logit; signed; not conserved, because the rule for softmax is not.
    """
    return times_gradient(probe, ATTN_LRP)
