"""GradToken without the offset that softmax ignores: its keys centred."""

from torch import Tensor

from gradtoken.methods import METHODS
from gradtoken.methods.gradtoken import Heads, Propagation, check, correlation, integrated, propagated
from gradtoken.probe import Probe
from gradtoken.readout import content_weights
from gradtoken.softmax import check_choice


@METHODS.add(
    paper="https://doi.org/10.1016/j.neunet.2024.106837",
    formula="R = mean_h relu(Abar (M_h - mean M_h)), M_h = K_h G_h",
    cost="1 F + K short B",
    needs=("last",),
)
def centred_gradtoken(
    probe: Probe,
    *,
    propagation: Propagation = "average_matmul",
    heads: Heads = "relu_mean",
    depth: int = 1,
) -> Tensor:
    """GradToken of keys from which their mean over the patches is taken: M_j - mean_i M_i in place of M_j.

    Returns (B, K, S). Unit: logit times key energy; >= 0 with `relu_mean`; not conserved, before the heads are clipped
    and without propagation 0 in sum. A vector added to all keys of a head, which softmax does not see, changes nothing.

    propagation: as in `gradtoken`, whose `average_matmul` is the default. heads: `relu_mean` clips each head below 0,
    `mean` does not. depth: the first block whose attention is used.
    """
    check(probe, propagation, heads, depth)
    check_choice(probe)
    M = correlation(probe)
    weights = content_weights(probe, M.shape[3])[:, None, None]
    M = M - (M * weights).sum(dim=-1, keepdim=True)
    return integrated(propagated(probe, M, propagation, depth), heads)
