"""Raw attention: the readout's row of the last attention matrix, the field's class-agnostic baseline."""

from torch import Tensor

from gradtoken.attention import average_rows
from gradtoken.methods import METHODS
from gradtoken.probe import Probe
from gradtoken.readout import content, readout


@METHODS.add(
    paper="https://arxiv.org/abs/1706.03762",
    formula="R = mean_h A_h[readout], last block",
    cost="1 F",
    class_aware=False,
    needs=("last",),
)
def raw_attention(probe: Probe) -> Tensor:
    """Attention that the readout pays to each token, mean over heads: R = mean_h A[h, readout].

    Returns (B, K, S), the same for every target. Unit: share of attention, in [0, 1]; the shares of all tokens, prefix
    tokens included, sum to 1. Where several query rows are read (mean pooling), their mean.
    """
    return content(probe, average_rows(probe.last, readout(probe)[:, 0])[:, None])
