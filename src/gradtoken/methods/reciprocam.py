"""ViT-ReciproCAM: Byun and Lee, 2023."""

import torch
from torch import Tensor

from gradtoken.inputs import repeated
from gradtoken.methods import METHODS
from gradtoken.passes import micro_batches
from gradtoken.probe import Probe
from gradtoken.readout import over_content


@METHODS.add(
    paper="https://arxiv.org/abs/2310.02588",
    formula="R_p = y(G_p * X), X the tokens entering the last block, G_p a kernel at patch p",
    cost="2 F + S F of the last block",
    needs=("grid", "stream"),
    trial=lambda probe: masked_scores(probe, kernels(probe, gaussian=True)[:1]),
    differs="the paper masks X; openvino_xai masks X on the skip path and LayerNorm(X) on the branch, as here, and "
    "scales the map to 0 ... 255; this one is the raw logit",
)
def reciprocam(probe: Probe, *, gaussian: bool = True, class_token: bool = True) -> Tensor:
    """The score when the last block sees only the surroundings of one patch: R_p = y(G_p * X).

    Returns (B, K, S). Unit: logit, signed; not conserved. With masks of ones every R_p is the score itself. Where a
    norm comes after the sum, skip path and branch read the same tokens, and they are masked once for both.

    gaussian: G_p is [1 2 1; 2 4 2; 1 2 1] / 16 around p, cut at the border; otherwise 1 at p alone. class_token:
    whether tokens that are no patches stay as they are; otherwise they are set to zero.
    """
    return masked_scores(probe, kernels(probe, gaussian), prefix=float(class_token))


def kernels(probe: Probe, gaussian: bool) -> Tensor:
    """G: one mask over the patches for each patch. (S, S)"""
    sizes = (probe.layout.rows or 1, probe.layout.columns or 1)
    height, width = (near(n) if gaussian else torch.eye(n, dtype=torch.float64) for n in sizes)
    return torch.kron(height, width).to(probe.grid)


def near(n: int) -> Tensor:
    """Rows [1 2 1] / 4 around each place of a line, cut at its ends. (n, n)"""
    one = torch.ones(n - 1, dtype=torch.float64)
    return (2 * torch.eye(n, dtype=torch.float64) + one.diag(1) + one.diag(-1)) / 4


def masked_scores(probe: Probe, G: Tensor, prefix: float = 1.0) -> Tensor:
    """Scores with the patches entering the last block multiplied by each mask, and other tokens by `prefix`.

    (P, S) -> (B, K, P)
    """
    block = over_content(probe)[-1]
    plain = probe.run(graph=False)
    X, normed = (plain.value(name, block) for name in ("x", "features"))
    masks = G.new_full((len(G), X.shape[1]), prefix)
    first = probe.layout.first_of(X.shape[1])
    masks[:, first : first + probe.layout.count] = G
    R = []
    for copies in micro_batches(probe, len(G)):
        M = masks[copies.start : copies.stop, None, :, None].to(X)
        edits = {
            (name, block): lambda like, value=value, M=M: (M * value).flatten(0, 1).to(like.dtype)
            for name, value in (("x", X), ("features", normed))
        }
        y = probe.score(inputs=repeated(probe.inputs, len(copies)), edits=edits, start=("x", block))
        R.append(y.reshape(len(copies), *probe.scores.shape))
    return torch.cat(R).permute(1, 2, 0).to(X.dtype)
