"""Attention shift: where attention goes as its query moves along the class gradient."""

from torch import Tensor

from gradtoken.methods import METHODS
from gradtoken.methods.gradtoken import Heads, Propagation, check, integrated, propagated
from gradtoken.probe import Probe
from gradtoken.softmax import check_choice, gained


@METHODS.add(
    paper="https://doi.org/10.1016/j.neunet.2024.106837",
    formula="R = mean_h relu(Abar M_h), M_j = A_0j (K_j - sum_k A_0k K_k) . G_h",
    cost="1 F + K short B",
    needs=("last",),
)
def attention_shift(
    probe: Probe,
    *,
    propagation: Propagation = "average_matmul",
    heads: Heads = "relu_mean",
    depth: int = 1,
) -> Tensor:
    """Change of attention as its query moves along the class gradient, A_0j (M_j - sum_k A_0k M_k), in place of M.

    Returns (B, K, S). Unit: logit times key energy; >= 0 with `relu_mean`; not conserved; before the heads are clipped
    and without propagation the changes of all tokens, prefix tokens included, sum to 0. Where several rows are read,
    each query moves along its own gradient and the changes are summed.

    propagation: as in `gradtoken`, whose `average_matmul` is the default. heads: `relu_mean` clips each head below 0,
    `mean` does not. depth: the first block whose attention is used.
    """
    check(probe, propagation, heads, depth)
    check_choice(probe)
    M = gained(probe.last, probe.last.k.to(probe.dq.dtype), probe.dq)
    return integrated(propagated(probe, M, propagation, depth), heads)
