"""AttCAT: Qiang et al., AttCAT: Explaining Transformers via Attentive Class Activation Tokens, NeurIPS 2022."""

import torch
from torch import Tensor

from gradtoken.attention import average_rows
from gradtoken.methods import METHODS
from gradtoken.probe import Probe
from gradtoken.readout import content, fitted, present


@METHODS.add(
    paper="https://papers.nips.cc/paper_files/paper/2022/hash/20e45668fefa793bd9f2edf19be12c4b-Abstract-Conference.html",
    formula="R_i = sum_b abar_i sum_c (dy/dx * x)_ic, abar_i = mean_hq A_qi, x the block's input",
    cost="1 F + K B",
    needs=("plain", "stream"),
    differs="the paper speaks of a block's output, its code, as here, of the input. The authors' notebooks hide [CLS] "
    "and [SEP] from the model; padding counts among their query tokens, and not among these",
)
def attcat(probe: Probe) -> Tensor:
    """Gradient times input of every block, weighted by the attention each token receives: sum_b abar_i (dx . x)_i.

    Returns (B, K, S). Unit: logit; signed; not conserved.
    """
    run = probe.plain
    run.differentiate("x", probe.stream)
    return torch.stack([block_map(probe, block) for block in probe.stream]).sum(dim=0)


def block_map(probe: Probe, block: int) -> Tensor:
    """Abar_i (dx . x)_i of one block. (B, K, S)"""
    run, attention = probe.plain, probe.plain.attention[block]
    cat = (run.gradient("x", block) * run.value("x", block)[:, None]).sum(dim=-1)  # (B, K, N)
    received = average_rows(attention, present(probe, attention.shape[2]))[:, None]
    return content(probe, cat) * content(probe, fitted(probe, received, cat.shape[-1]))
