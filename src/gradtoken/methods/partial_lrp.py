"""Partial layer-wise relevance propagation: Voita et al., ACL 2019, as the baseline of Chefer, Gur, Wolf, CVPR 2021."""

from torch import Tensor

from gradtoken.lrp.passes import of_attention, propagate
from gradtoken.lrp.presets import rule_set
from gradtoken.methods import METHODS
from gradtoken.methods.lrp import Rule
from gradtoken.probe import Probe
from gradtoken.readout import collected, content, readout


@METHODS.add(
    paper="https://arxiv.org/abs/1905.09418",
    formula="R = mean_h (R_A)+ [readout], last block",
    cost="2 F + K short relprops",
    needs=("last",),
    differs="the paper sums the relevance of each head; the map is that of Chefer et al.",
)
def partial_lrp(probe: Probe, *, rule: Rule = "published", gradient: bool = False, precise: bool = False) -> Tensor:
    """Relevance of the last attention matrix in the readout's row, its positive part averaged over heads.

    Returns (B, K, S). Unit: parts of 1; >= 0; not conserved. Where several query rows are read (mean pooling), their
    mean. rule: which rules, as in `lrp`. gradient: multiply the relevance of A by its gradient first, which tells
    classes apart. precise: run the network in float64 (on trained weights float32 differs by about 0.2 %).
    """
    run = propagate(probe, rule_set(rule), precise=precise)
    last = run.blocks[-1]

    def positive(start: int, stop: int) -> Tensor:
        R = of_attention(run, last, start, stop)
        R = R * probe.plain.dA(last, start, stop) if gradient else R
        return R.clamp(min=0).mean(dim=2).to(probe.dq.dtype)

    return content(probe, collected(probe.last, readout(probe), positive))
