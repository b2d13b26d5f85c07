"""Pictures joined to a mosaic: does the map of a class lie in the cell that shows it?

R is (B, K, H, W), map k explaining the class of cell k; cells are K boxes x0, y0, x1, y1, fractions of the mosaic.
"""

from collections.abc import Sequence

from torch import Tensor

from gradtoken.metrics.entry import metric
from gradtoken.metrics.localisation import Box, boxes_mask, positive_share

TIE = 1e-5  # equal sums of many pixels differ by rounding


def shares(R: Tensor, cells: Sequence[Box]) -> Tensor:
    """Share of the positive relevance of map k that lies in cell c. (B, K, H, W) -> (B, K, K)"""
    masks = boxes_mask([[cell] for cell in cells], (R.shape[-2], R.shape[-1])).to(R.device)
    return positive_share(R[:, :, None], masks)


@metric(paper="https://arxiv.org/abs/2109.15035", better="higher")
def cell_share(R: Tensor, cells: Sequence[Box]) -> Tensor:
    """Share of each map's positive relevance in its own cell; 1 / K by chance. -> (B, K)

    0 for a map without positive relevance, told apart by has_positive; NaN for a map with a NaN. The Focus of
    arXiv:2109.15035, the grid pointing game of arXiv:2104.00032.
    """
    return shares(R, cells).diagonal(dim1=1, dim2=2)


@metric(paper="https://arxiv.org/abs/2109.15035", better="higher")
def cell_hit(R: Tensor, cells: Sequence[Box]) -> Tensor:
    """Whether each map's own cell has the largest share of its positive relevance, 1 or 0. -> (B, K)

    1 / m where m cells share the largest, up to rounding (1e-5); 0 without positive relevance; NaN for a NaN.
    """
    found = shares(R, cells)
    largest = found.amax(dim=2, keepdim=True)
    hit = ((found >= largest * (1 - TIE)) & (largest > 0)).to(found.dtype)
    credit = hit / hit.sum(dim=2, keepdim=True).clamp(min=1)
    return credit.where(~largest.isnan(), largest).diagonal(dim1=1, dim2=2)
