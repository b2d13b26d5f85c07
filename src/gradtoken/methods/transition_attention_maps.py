"""Transition attention maps: Yuan, Li, Xiong, Cao, Dou, Explaining Information Flow Inside Vision Transformers Using
Markov Chain, NeurIPS workshop on eXplainable AI 2021.
"""

from torch import Tensor

from gradtoken.along import positive_gradient
from gradtoken.attention import average_rows
from gradtoken.methods import METHODS
from gradtoken.probe import Probe
from gradtoken.readout import content, descend, first_block


@METHODS.add(
    paper="https://openreview.net/forum?id=TT-cf6QSDaQ",
    formula="R = s * W, s = row of A_L (I + A_{L-1}) ... (I + A_start), W = row of mean_h relu(mean_a dy(a x)/dA_L)",
    cost="1 F + steps (F + K B)",
    needs=("plain", "last"),
    trial={"steps": 1},
    differs="the authors' script for deletion and insertion uses all blocks: start=0",
)
def transition_attention_maps(
    probe: Probe, *, steps: int = 20, start: int | None = None, integral: bool = True, first_state: bool = False
) -> Tensor:
    """States of a Markov chain down the blocks, times the averaged positive gradient of the last attention: s * W.

    Returns (B, K, S). Unit: logit; >= 0; not conserved. For a mean of tokens, s and W are means of the rows of its
    tokens, in W clipped before.

    steps: over how many inputs a * x, a = 0 ... 1 with both ends, gradients are averaged; x is the picture, or the
    embeddings of a text. start: the first block used, counted from 0, by default 4. integral=False: the gradient at x
    alone. first_state=True: no blocks but the last.
    """
    first = len(probe.attention) - 1 if first_state else first_block(probe, start, 4)
    W = positive_gradient(probe, steps if integral else None)
    return content(probe, states(probe, first)) * content(probe, W)


def states(probe: Probe, start: int) -> Tensor:
    """States s = A_L[readout] (I + A_{L-1}) ... (I + A_start). (B, 1, N)"""

    def step(block: int, row: Tensor) -> Tensor:
        A = probe.attention[block]
        collection = average_rows(A, row[:, 0])[:, None]
        return row + collection if block < len(probe.attention) - 1 else collection

    return descend(probe, step, start)
