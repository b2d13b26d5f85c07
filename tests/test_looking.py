"""The formulas by which patches are looked for, number by number."""

import pytest
import torch

from gradtoken.errors import NoGrid
from gradtoken.tokens import (
    Layout,
    disorder,
    find_grid,
    first_patch,
    marked_cells,
    marked_pictures,
    patch_box,
    specific_change,
)


@pytest.mark.parametrize(
    ("total", "sizes", "picture", "grid"),
    [
        (35, [(5, 7)], (11, 13), (5, 7)),  # as many tokens as patches, and one fewer than twice as many
        (69, [(5, 7)], (11, 13), (5, 7)),
        (4, [(64, 64)], (11, 13), (2, 2)),  # halved five times
        (2, [(1, 2)], (11, 13), (1, 2)),
        (12, [], (6, 8), (3, 4)),  # patches of two pixels
        (23, [], (6, 8), (3, 4)),
        (2, [], (4, 8), (1, 2)),  # as high as the picture
        (30, [], (40, 48), (5, 6)),
        (31, [(5, 6), (4, 5)], (11, 13), (5, 6)),  # the fewest left over
        (27, [(4, 5), (9, 3)], (11, 13), (9, 3)),
        (12, [(0, 12)], (1, 100), (1, 12)),  # pictures of one row
        (23, [(0, 12), (1, 13)], (1, 100), (1, 13)),
        (24, [(0, 12)], (1, 100), (1, 24)),
        (11, [(0, 12)], (1, 100), (1, 11)),
        (12, [(2, 12)], (1, 100), (1, 12)),
        (13, [(2, 12)], (1, 100), (1, 13)),
    ],
)
def test_grids_at_the_edges(total, sizes, picture, grid):
    found = find_grid(total, sizes, picture)
    assert found == grid
    assert all(isinstance(side, int) for side in found)


@pytest.mark.parametrize(
    ("total", "sizes", "picture"),
    [
        (5, [], (6, 8)),
        (70, [(5, 7)], (11, 13)),
        (34, [(5, 7)], (11, 13)),
        (1, [(64, 64)], (11, 13)),
        (48, [], (6, 8)),
        (1, [], (8, 8)),
    ],
)
def test_no_grid_at_the_edges(total, sizes, picture):
    told = f"{total} tokens, which no grid of patches of a {picture[0]} x {picture[1]} picture fits"
    with pytest.raises(NoGrid, match=told):
        find_grid(total, sizes, picture)


def test_a_marked_patch_is_noise_about_what_was_there():
    """2 z - x, always the same z."""
    x = torch.randn(3, 8, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    z = torch.randn(3, 8, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    pictures = torch.cat(list(marked_pictures(x, (4, 6), 3)))
    for (i, j), other in zip(marked_cells((4, 6)), pictures[1:], strict=True):
        assert patch_box((i, j), (4, 6), (8, 12)) == (slice(2 * i, 2 * i + 2), slice(2 * j, 2 * j + 2))
        expected = x.clone()
        for a in range(2 * i, 2 * i + 2):
            for b in range(2 * j, 2 * j + 2):
                expected[:, a, b] = 2 * z[:, a, b] - x[:, a, b]
        torch.testing.assert_close(other, expected)


def test_change_that_is_specific_and_where_the_patches_begin():
    change = torch.rand(4, 7, generator=torch.Generator().manual_seed(0))
    share = [[c / max(row) for c in row] for row in change.tolist()]
    mean = [sum(row[n] for row in share) / 4 for n in range(7)]
    expected = [[row[n] / (mean[n] + 0.01) for n in range(7)] for row in share]
    torch.testing.assert_close(specific_change(change), torch.tensor(expected))
    places = [i * 2 + j for i, j in marked_cells((2, 2))]
    shown = [sum(expected[c][place + offset] for c, place in enumerate(places)) for offset in range(4)]
    assert first_patch(change, (2, 2)) == shown.index(max(shown))
    assert specific_change(torch.zeros(2, 3)).tolist() == [[0, 0, 0]] * 2


def shown(grid: tuple[int, int], away: dict[tuple[int, int], tuple[int, int]], prefix: int = 0) -> torch.Tensor:
    """Each marked patch shows at its own token, or that many rows and columns from it."""
    cells = marked_cells(grid)
    change = torch.zeros(len(cells), prefix + grid[0] * grid[1])
    for number, (i, j) in enumerate(cells):
        down, right = away.get((i, j), (0, 0))
        change[number, prefix + (i + down) * grid[1] + j + right] = 1
    return change


@pytest.mark.parametrize(
    ("grid", "away", "mixed", "told"),
    [
        ((10, 10), {}, True, None),
        ((10, 10), {(0, 0): (9, 9), (0, 5): (8, 0), (9, 9): (-1, 0)}, True, None),  # 18 / 9 = 2
        ((10, 10), {(0, 0): (9, 9), (0, 5): (8, 0), (9, 9): (-2, 0)}, True, "2.1"),
        ((12, 12), {(0, 0): (11, 11), (0, 6): (9, 0)}, True, "2.2"),  # two at most, in a larger grid too
        ((10, 10), {(0, 0): (9, 0)}, False, None),  # 9 / 9 = 1
        ((10, 10), {(0, 0): (1, 9), (9, 9): (0, -1)}, False, "1.1"),
        ((5, 10), {(0, 0): (0, 9)}, True, None),  # a fifth of the shorter side
        ((5, 10), {(0, 0): (0, 9), (4, 9): (-1, 0)}, True, "1.1"),
        ((1, 10), {(0, 0): (0, 6)}, True, None),  # 6 / 3 = 2
        ((1, 10), {(0, 0): (0, 7)}, True, "2.3"),
    ],
)
@pytest.mark.parametrize("prefix", [0, 1])
def test_how_far_patches_may_show_from_their_tokens(grid, away, mixed, told, prefix):
    found = disorder(shown(grid, away, prefix), grid, mixed)
    start = f"changed patches of a {grid[0]} x {grid[1]} grid showed on average {told} tokens away"
    assert found is None if told is None else found.startswith(start)


def test_layouts_in_numbers():
    assert Layout(1, 3).is_grid is False
    assert Layout(1, 4, 2, 2).is_grid is True
    assert [Layout(2, 4).first_of(total) for total in (4, 5, 6, 7)] == [0, 1, 2, 2]
    assert Layout(1, 4).to_map(torch.arange(4)).tolist() == [0, 1, 2, 3]
    assert Layout(1, 6, 2, 3).to_map(torch.arange(12).reshape(2, 6)).shape == (2, 2, 3)
    assert Layout(1, 2).content(torch.arange(8).reshape(2, 4), 4).tolist() == [[1, 2], [5, 6]]
