"""Score gradient: how the class depends on the scores that its readout's attention is the softmax of."""

from torch import Tensor

from gradtoken.methods import METHODS
from gradtoken.methods.gradtoken import Heads, Propagation, check, integrated, propagated
from gradtoken.probe import Probe
from gradtoken.softmax import check_choice, gained


@METHODS.add(
    paper="https://doi.org/10.1016/j.neunet.2024.106837",
    formula="R = mean_h relu(Abar M_h), M_j = dy/dO_0j = A_0j (dA_0j - sum_k A_0k dA_0k)",
    cost="1 F + K short B",
    needs=("last",),
)
def score_gradient(
    probe: Probe,
    *,
    propagation: Propagation = "average_matmul",
    heads: Heads = "relu_mean",
    depth: int = 1,
) -> Tensor:
    """Gradient of each class by the last attention's scores, dy/dO_0j, in place of GradToken's M.

    Returns (B, K, S). Unit: logit per score; >= 0 with `relu_mean`; not conserved; before the heads are clipped and
    without propagation the gradients of all tokens, prefix tokens included, sum to 0. Where several rows i are read,
    sum_i dy/dO_ij: the gradient by one number added to the scores that all of them give to token j.

    propagation: as in `gradtoken`, whose `average_matmul` is the default. heads: `relu_mean` clips each head below 0,
    `mean` does not. depth: the first block whose attention is used.
    """
    check(probe, propagation, heads, depth)
    check_choice(probe)
    v, dZ = probe.end
    M = gained(probe.last, v, dZ)
    return integrated(propagated(probe, M, propagation, depth), heads)
