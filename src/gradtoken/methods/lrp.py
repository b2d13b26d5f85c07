"""Layer-wise relevance propagation to the input, as the baseline of Chefer, Gur, Wolf, CVPR 2021."""

from typing import Literal

from torch import Tensor

from gradtoken.lrp.passes import propagate, read
from gradtoken.lrp.presets import rule_set
from gradtoken.methods import METHODS
from gradtoken.probe import Probe

Rule = Literal["published", "conservative"]


@METHODS.add(
    paper="https://arxiv.org/abs/2012.09838",
    formula="R_in = x+ (R/(x+ W+)) W+ + x- (R/(x- W-)) W- at projections, z-rule at sums and products, z^B at pixels",
    cost="2 F, one of them in float64, + K relprops",
    differs="runs in float64, the authors' code in float32. z^B is applied to every convolution of at most three "
    "input channels, which are taken for pixels",
)
def lrp(probe: Probe, *, rule: Rule = "published") -> Tensor:
    """Relevance handed back from the score to the input, operation by operation.

    Returns (B, K, H, W) for pictures, summed over the channels, and (B, K, S) for texts, at the input of the first
    block. Unit: parts of 1; signed.

    The network runs in float64: sums of either sign divide, and float32 leaves mostly rounding noise of the result.

    rule: `conservative` keeps the sum at each block, but not at the pixels, where positions and prefix tokens take a
    part. `published` keeps none: positive and negative inputs of a projection are each given all of it.
    """
    run = propagate(probe, rule_set(rule), precise=True)
    return read(probe, run.gradient("input", 0))
