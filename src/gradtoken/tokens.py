"""Which token belongs to which patch of the picture: found by looking, never by counting on a convention."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gradtoken.errors import NoGrid


@dataclass(frozen=True)
class Layout:
    """Content tokens are numbers first ... first + count - 1, row by row on a rows x columns grid.

    For a sequence (a text) rows and columns are None and every token is content.
    """

    first: int
    count: int
    rows: int | None = None
    columns: int | None = None

    @property
    def is_grid(self) -> bool:
        """Whether the tokens are patches of a picture."""
        return self.rows is not None

    def content(self, tokens: Tensor, total: int) -> Tensor:
        """Patch entries of the last axis, of an attention over `total` tokens. (..., total) -> (..., count)"""
        first = self.first_of(total)
        return tokens[..., first : first + self.count]

    def first_of(self, total: int) -> int:
        """First patch token of an attention over `total` tokens, which may have fewer prefix tokens than the last."""
        return max(0, min(self.first, total - self.count))

    def to_map(self, relevance: Tensor) -> Tensor:
        """(..., count) -> (..., rows, columns); a sequence stays as it is."""
        if self.rows is None or self.columns is None:
            return relevance
        return relevance.reshape(*relevance.shape[:-1], self.rows, self.columns)


def find_grid(total: int, sizes: list[tuple[int, int]], picture: tuple[int, int]) -> tuple[int, int]:
    """The grid of the patches among `total` tokens: rows, columns.

    `sizes` are the heights and widths that the model's convolutions produced. A later stage halves them. Where no
    convolution made the patches, any patch size that divides the picture is tried. The grid with the fewest tokens
    left over wins.
    """
    halved = [(math.ceil(h / 2**j), math.ceil(w / 2**j)) for h, w in sizes for j in range(6)]
    fitting = [(h, w) for h, w in halved if h * w > 1 and h * w <= total < 2 * h * w]
    if not fitting:
        H, W = picture
        squares = [(H // p, W // p) for p in range(2, min(H, W) + 1) if H % p == 0 and W % p == 0]
        fitting = [(h, w) for h, w in squares if h * w > 1 and h * w <= total < 2 * h * w]
    if not fitting:
        raise NoGrid(
            f"the last attention has {total} tokens, which no grid of patches of a {picture[0]} x {picture[1]} picture "
            f"fits (convolutions made {sizes or 'none'}); its tokens are windows or channels, not patches"
        )
    return max(fitting, key=lambda grid: grid[0] * grid[1])


def patch_box(cell: tuple[int, int], grid: tuple[int, int], picture: tuple[int, int]) -> tuple[slice, slice]:
    """The pixels of one patch, as slices over height and width."""
    (i, j), (rows, columns), (H, W) = cell, grid, picture
    return slice(i * H // rows, (i + 1) * H // rows), slice(j * W // columns, (j + 1) * W // columns)


def marked_pictures(picture: Tensor, grid: tuple[int, int]) -> Tensor:
    """The picture and three copies, changed in the first, the second and the last patch. (C, H, W) -> (4, C, H, W)"""
    cells = [(0, 0), (0, 1) if grid[1] > 1 else (1, 0), (grid[0] - 1, grid[1] - 1)]
    noise = torch.randn(picture.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    marked = picture.expand(4, *picture.shape).clone()
    for number, cell in enumerate(cells, start=1):
        y, x = patch_box(cell, grid, tuple(picture.shape[-2:]))  # type: ignore[arg-type]
        marked[number, :, y, x] = 2 * noise[:, y, x].to(picture) - marked[number, :, y, x]
    return marked


def locate(keys: Tensor, grid: tuple[int, int]) -> Layout:
    """The layout that the keys of `marked_pictures` show before tokens mix. (4, H, N, D) -> Layout"""
    change = (keys[1:] - keys[:1]).float().square().sum(dim=(1, 3))  # (3, N)
    first, second, last = change.argmax(dim=1).tolist()
    count, step = grid[0] * grid[1], 1
    if (second - first, last - first) != (step, count - 1):
        raise NoGrid(
            f"the first, second and last patch of a {grid[0]} x {grid[1]} grid were found at tokens {first}, {second} "
            f"and {last}, expected n, n + 1 and n + {count - 1}; the tokens are not the patches row by row"
        )
    return Layout(first, count, *grid)
