"""Which token belongs to which patch of the picture: found by looking, never by counting on a convention."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice

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

    `sizes` are the heights and widths that the model's convolutions produced, of 1-D ones 0 and the length. A later
    stage halves them. Where no convolution made the patches, any patch size that divides the picture is tried. The grid
    with the fewest tokens left over wins. In a picture of one row, as which a sound may come, it is a row of tokens.
    """
    if picture[0] == 1:
        return 1, max((w for h, w in sizes if h < 2 and w <= total < 2 * w), default=total)
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


def marked_cells(grid: tuple[int, int]) -> list[tuple[int, int]]:
    """The corners, the middles of the sides and the middle of a grid, each once."""
    rows, columns = grid
    return sorted({(i, j) for i in (0, rows // 2, rows - 1) for j in (0, columns // 2, columns - 1)})


def marked_pictures(picture: Tensor, grid: tuple[int, int], size: int) -> Iterator[Tensor]:
    """The picture itself, and one copy changed in each of the marked patches, in batches of `size`. (..., C, H, W)"""
    noise = torch.randn(
        picture.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64, device="cpu"
    ).to(picture)
    boxes = (patch_box(cell, grid, (picture.shape[-2], picture.shape[-1])) for cell in marked_cells(grid))
    pictures = chain([picture], (marked(picture, noise, box) for box in boxes))
    while batch := list(islice(pictures, size)):
        yield torch.stack(batch)


def marked(picture: Tensor, noise: Tensor, box: tuple[slice, slice]) -> Tensor:
    """The picture with other contents in one patch. (C, H, W)"""
    y, x = box
    changed = picture.clone()
    changed[:, y, x] = 2 * noise[:, y, x] - picture[:, y, x]
    return changed


def specific_change(change: Tensor) -> Tensor:
    """How much each token changes with one marked patch and not with the others. (cells, N), of the whole change

    Where tokens have mixed, every patch changes every token; and tokens that answer to anything change most.
    """
    change = change / change.amax(dim=1, keepdim=True).clamp(min=torch.finfo(change.dtype).tiny)
    return change / (change.mean(dim=0) + 0.01)


def first_patch(change: Tensor, grid: tuple[int, int]) -> int:
    """The number of the first patch among the tokens: where the marked patches show most."""
    change = specific_change(change)
    places = torch.tensor([i * grid[1] + j for i, j in marked_cells(grid)], device=change.device)
    offsets = torch.arange(change.shape[1] - grid[0] * grid[1] + 1, device=change.device)
    shown = change[torch.arange(len(places), device=change.device), places + offsets[:, None]]
    return int(shown.sum(dim=1).argmax())


def disorder(change: Tensor, grid: tuple[int, int], mixed: bool) -> str | None:
    """What speaks against tokens being the patches row by row, if anything. change: as for `specific_change`.

    Before an attention has mixed the tokens, patches are found where they should be, or one token away where
    convolutions reach over. After, some are nearby; in channels or another order, anywhere.
    """
    first, (rows, columns), cells = first_patch(change, grid), grid, marked_cells(grid)
    change = specific_change(change)[:, first : first + rows * columns]
    found = [divmod(place, columns) for place in change.argmax(dim=1).tolist()]
    away = [max(abs(i - k), abs(j - m)) for (i, j), (k, m) in zip(cells, found, strict=True)]
    mean = sum(away) / len(away)
    if mean <= min(2 if mixed else 1, min(side for side in grid if side > 1) / 5):
        return None
    return (
        f"changed patches of a {rows} x {columns} grid showed on average {mean:.1f} tokens away from those that should "
        "be theirs; the tokens are not the patches row by row, but windows, channels or another order"
    )
