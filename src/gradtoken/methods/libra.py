"""Libra: Mehri, Fayyaz, Baghshah, Pilehvar, LibraGrad: Balancing Gradient Flow for Universally Better Vision
Transformer Attributions, 2024.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from gradtoken.errors import UnknownName
from gradtoken.lrp.presets import LIBRA
from gradtoken.lrp.propagate import Rules
from gradtoken.methods import METHODS
from gradtoken.probe import Probe
from gradtoken.readout import collected, content

Method = Literal[
    "input_x_gradient",
    "fullgrad",
    "attcat",
    "beyond_intuition",
    "generic_attention",
    "grad_eclip",
    "gradcam",
    "gradcam_features",
    "gradient_shap",
    "integrated_gradients",
    "legrad",
    "transition_attention_maps",
]
Score = Literal["probability", "logit"]


@METHODS.add(
    paper="https://arxiv.org/abs/2411.16760",
    formula="a gradient method under y = f(x) x / x for activations, constant A, constant deviation in norms",
    cost="2 F + K B, and the further passes of the method",
    differs="score='probability' is the default of the authors' code, and needs classes as targets",
)
def libra(probe: Probe, *, of: Method = "input_x_gradient", score: Score = "probability") -> Tensor:
    """A gradient method on a backward pass that is balanced: what leaves an operation is what arrives, biases apart.

    Returns what the method does. Attention is constant, norms divide by a constant, activations have the slope of the
    secant through 0, and products of two share one gradient.

    of: `fullgrad`, or a registered method, with its defaults, that changes nothing in a gradient itself; all its passes
    are balanced. score: what is differentiated.
    """
    for kind, name, type_ in (("gradient method", of, Method), ("score", score, Score)):
        if name not in get_args(type_):
            raise UnknownName.among(kind, name, get_args(type_))
    balanced = probe.under(Rules(LIBRA), probability=score == "probability")
    relevance: Tensor = fullgrad(balanced) if of == "fullgrad" else METHODS[of].call(balanced)
    return relevance


def fullgrad(probe: Probe) -> Tensor:
    """Input times gradient of the first block's tokens, and bias times gradient at each token of all blocks. (B, K, S)

    Where all that leaves an operation at a token is its input and its bias, both telescope: what remains are output
    times gradient of the last block, and what attention moves from queries to keys, A * dA.
    """
    run, end = probe.plain, probe.stream[-1]
    run.differentiate("Z", probe.stream)
    out = (run.gradient("out", end) * run.value("out", end)[:, None]).sum(dim=-1)  # (B, K, N)
    return content(probe, out) + torch.stack([moved(probe, block) for block in probe.stream]).sum(dim=0)


def moved(probe: Probe, block: int) -> Tensor:
    """Sums of the columns of A * dA, less those of its rows: Z . dZ. (B, K, S)"""
    run, attention = probe.plain, probe.plain.attention[block]
    Z, dZ = run.value("Z", block)[:, None], run.gradient("Z", block)
    everywhere = Z.new_ones(len(Z), 1, attention.shape[2])

    def E(i: int, j: int) -> Tensor:
        return (run.A(block, i, j)[:, None] * run.dA(block, i, j)).sum(dim=2)

    return content(probe, collected(attention, everywhere, E)) - content(probe, (Z * dZ).sum(dim=(2, 4)))
