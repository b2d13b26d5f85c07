"""Where the patches are among the tokens."""

import pytest
import torch
from torch import Tensor, nn

from gradtoken.attribution import attribute
from gradtoken.errors import NoGrid
from gradtoken.probe import Probe
from gradtoken.tokens import Layout, disorder, find_grid, first_patch, marked_cells, marked_pictures, patch_box

# The grid ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("total", "sizes", "picture", "grid"),
    [
        (197, [(14, 14)], (224, 224), (14, 14)),
        (198, [(14, 14)], (224, 224), (14, 14)),
        (196, [(14, 14)], (224, 224), (14, 14)),
        (1374, [(37, 37)], (518, 518), (37, 37)),
        (25, [(4, 6)], (16, 24), (4, 6)),
        (7, [(1, 6)], (4, 24), (1, 6)),
        (49, [(56, 56)], (224, 224), (7, 7)),  # a later stage, without convolutions of its own
        (65, [(31, 31), (16, 16)], (224, 224), (8, 8)),  # halved, rounded up
        (196, [(112, 112), (56, 56), (28, 28), (14, 14)], (224, 224), (14, 14)),
        (197, [], (224, 224), (14, 14)),  # patches cut by hand
        (50, [], (224, 224), (7, 7)),
    ],
)
def test_find_grid(total, sizes, picture, grid):
    assert find_grid(total, sizes, picture) == grid


@pytest.mark.parametrize(("total", "sizes"), [(32, [(56, 56), (7, 7)]), (11, [(16, 3)]), (11, [])])
def test_no_grid(total, sizes):
    with pytest.raises(NoGrid, match=rf"{total} tokens, which no grid of patches of a 224 x 224 picture fits"):
        find_grid(total, sizes, (224, 224))


def test_content_of_attentions_with_fewer_prefix_tokens():
    layout = Layout(2, 4, 2, 2)
    assert layout.content(torch.arange(6), 6).tolist() == [2, 3, 4, 5]
    assert layout.content(torch.arange(5), 5).tolist() == [1, 2, 3, 4]
    assert layout.content(torch.arange(4), 4).tolist() == [0, 1, 2, 3]
    assert layout.to_map(torch.arange(4)).tolist() == [[0, 1], [2, 3]]
    assert Layout(0, 4, 2, 2).content(torch.arange(5), 5).tolist() == [0, 1, 2, 3]  # the class token is the last


# Marked pictures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grid", "cells"),
    [
        ((4, 6), [(0, 0), (0, 3), (0, 5), (2, 0), (2, 3), (2, 5), (3, 0), (3, 3), (3, 5)]),
        ((1, 6), [(0, 0), (0, 3), (0, 5)]),
        ((2, 2), [(0, 0), (0, 1), (1, 0), (1, 1)]),
        ((1, 2), [(0, 0), (0, 1)]),
    ],
)
def test_marked_cells(grid, cells):
    assert marked_cells(grid) == cells


def test_patch_boxes_cover_a_picture_that_the_grid_does_not_divide():
    covered = torch.zeros(17, 23)
    for cell in ((i, j) for i in range(3) for j in range(4)):
        covered[patch_box(cell, (3, 4), (17, 23))] += 1
    assert (covered == 1).all()


@pytest.mark.parametrize("size", [1, 4, 10, 16])
def test_marked_pictures_differ_in_one_patch_each(size):
    picture = torch.randn(3, 16, 24)
    batches = list(marked_pictures(picture, (4, 6), size))
    assert all(len(batch) <= size for batch in batches)
    marked = torch.cat(batches)
    assert torch.equal(marked[0], picture)
    for cell, other in zip(marked_cells((4, 6)), marked[1:], strict=True):
        changed = (other != picture).all(dim=0)
        y, x = patch_box(cell, (4, 6), (16, 24))
        assert changed[y, x].all()
        assert changed.sum() == 16


# The order -----------------------------------------------------------------------------------------------------------


def change_of(grid, order=None, prefix=0, suffix=0, noise=0.0, blur=0.0) -> Tensor:
    """Change with marked pictures: each token holds its patch, in an order, between other tokens. (cells, N)"""
    generator = torch.Generator().manual_seed(0)
    count, cells = grid[0] * grid[1], marked_cells(grid)
    keys = torch.randn(count, 8, generator=generator).repeat(1 + len(cells), 1, 1)
    for number, (i, j) in enumerate(cells, start=1):
        keys[number, i * grid[1] + j] = torch.randn(8, generator=generator)
    keys = keys + blur * keys.mean(dim=1, keepdim=True) * count
    keys = keys if order is None else keys[:, order]
    keys = torch.cat([torch.ones(len(keys), prefix, 8), keys, torch.ones(len(keys), suffix, 8)], dim=1)
    keys = keys + noise * torch.randn(keys.shape, generator=generator)
    return (keys[1:] - keys[:1]).square().sum(dim=2)


@pytest.mark.parametrize("grid", [(4, 4), (7, 7), (4, 6), (1, 6), (2, 2)])
@pytest.mark.parametrize(("prefix", "suffix"), [(0, 0), (1, 0), (5, 0), (0, 1), (2, 1)])
def test_the_first_patch_is_found(grid, prefix, suffix):
    change = change_of(grid, prefix=prefix, suffix=suffix)
    assert disorder(change, grid, mixed=False) is None
    assert first_patch(change, grid) == prefix


@pytest.mark.parametrize("prefix", [0, 1])
def test_the_first_patch_is_found_after_tokens_have_mixed(prefix):
    change = change_of((7, 7), prefix=prefix, noise=0.1, blur=0.05)
    assert disorder(change, (7, 7), mixed=True) is None
    assert first_patch(change, (7, 7)) == prefix


def windows(rows: int, columns: int, side: int) -> Tensor:
    """Token numbers window by window."""
    return torch.arange(rows * columns).reshape(rows // side, side, columns // side, side).transpose(1, 2).flatten()


ORDERS = {
    "columns first": torch.arange(64).reshape(8, 8).T.flatten(),
    "upside down": torch.arange(64).flip(0),
    "mirrored": torch.arange(64).reshape(8, 8).flip(1).flatten(),
    "windows of 4": windows(8, 8, 4),
    "windows of 2": windows(8, 8, 2),
    "shifted windows": torch.arange(64).reshape(8, 8).roll((-2, -2), (0, 1)).flatten(),
    "at random": torch.randperm(64, generator=torch.Generator().manual_seed(0)),
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_another_order_is_noticed(order):
    assert "not the patches row by row" in (disorder(change_of((8, 8), order), (8, 8), mixed=True) or "")


def test_before_tokens_mix_patches_must_be_closer():
    cells = sorted((i, j) for i in (0, 4, 7) for j in (0, 4, 7))
    change = torch.zeros(9, 64)
    for number, (i, j) in enumerate(cells):  # each patch shows one or two tokens towards the middle, 1.4 on average
        shift = 1 + number % 2
        change[number, i * 8 + (j + shift if j < 4 else j - shift)] = 1
    assert disorder(change, (8, 8), mixed=True) is None
    assert "on average 1.4 tokens away" in (disorder(change, (8, 8), mixed=False) or "")


def test_channels_are_noticed():
    generator = torch.Generator().manual_seed(0)
    change = torch.randn(9, 16, 64, generator=generator).square().sum(dim=2)
    assert "not the patches row by row" in (disorder(change, (4, 4), mixed=True) or "")


# Whole models --------------------------------------------------------------------------------------------------------


class Tiny(nn.Module):
    """8 x 8 patches of 4 pixels through attentions over what `arranged` makes of them; `taken` ends it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.head = nn.Conv2d(3, 16, 4, stride=4), nn.Linear(16, 5)
        self.qkv = nn.ModuleList([nn.Linear(16, 48) for _ in range(2)])
        self.extra = nn.Parameter(torch.randn(1, 2, 16))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.taken(self.arranged(self.embed(x).flatten(2).mT)))

    def arranged(self, x: Tensor) -> Tensor:
        return x

    def attended(self, x: Tensor, number: int) -> Tensor:
        q, k, v = (y.unflatten(-1, (2, 8)).transpose(1, 2) for y in self.qkv[number](x).chunk(3, dim=-1))
        return x + nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    def taken(self, x: Tensor) -> Tensor:
        return self.attended(self.attended(x, 0), 1).mean(dim=1)


class ClassTokenLast(Tiny):
    def arranged(self, x):
        return torch.cat([x, self.extra[:, :1].expand(len(x), -1, -1)], dim=1)

    def taken(self, x):
        return self.attended(self.attended(x, 0), 1)[:, -1]


class ClassTokenJoinsLate(Tiny):
    def taken(self, x):
        x = self.attended(x, 0)
        return self.attended(torch.cat([self.extra[:, :1].expand(len(x), -1, -1), x], dim=1), 1)[:, 0]


class RegistersLeaveBeforePooling(Tiny):
    """Attention pooling over the patches alone, after a block with two registers."""

    def arranged(self, x):
        return torch.cat([self.extra.expand(len(x), -1, -1), x], dim=1)

    def taken(self, x):
        x = self.attended(x, 0)[:, 2:, None].transpose(1, 2)
        return nn.functional.scaled_dot_product_attention(self.extra[:, None, :1].expand(len(x), -1, -1, -1), x, x)[
            :, 0, 0
        ]


class ShiftedByOne(Tiny):
    def arranged(self, x):
        return x.roll(9, dims=1)


class InWindows(Tiny):
    """Four windows of 4 x 4 patches, put one after the other."""

    def arranged(self, x):
        return x[:, windows(8, 8, 4)]


class Padded(Tiny):
    """6 x 6 patches in one window of 8 x 8."""

    def arranged(self, x):
        x = x.mT.unflatten(2, (8, 8))[:, :, :6, :6]
        return nn.functional.pad(x, (0, 2, 0, 2)).flatten(2).mT


class OverChannels(Tiny):
    """First attention between 64 channels of 64 patches, then between the patches."""

    def taken(self, x):
        wide = x.repeat(1, 1, 4).mT[:, None]  # (B, 1, 64 channels, 64 patches)
        mixed = nn.functional.scaled_dot_product_attention(wide, wide, wide)[:, 0, :16].mT
        return self.attended(x + mixed, 1).mean(dim=1)


class InWindowsBefore(Tiny):
    """Four windows folded into the heads, as many tokens in each as the last attention has."""

    def taken(self, x):
        wide = x[:, :, None].expand(-1, -1, 4, -1)  # four times the tokens
        q = wide.reshape(len(x), 4, 64, 16).flatten(0, 1)
        mixed = nn.functional.scaled_dot_product_attention(q, q, q).unflatten(0, (-1, 4)).mean(dim=1)
        return self.attended(x + mixed, 1).mean(dim=1)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("net", "first", "blocks"),
    [
        (Tiny, 0, 2),
        (ClassTokenLast, 0, 2),
        (ClassTokenJoinsLate, 1, 2),
        (RegistersLeaveBeforePooling, 2, 2),
        (OverChannels, 0, 1),
        (InWindowsBefore, 0, 1),
    ],
)
def test_layouts(net, first, blocks, x):
    probe = Probe(net(), x, 0)
    assert probe.layout == Layout(first, 64, 8, 8)
    assert len(probe.earlier) + 1 == blocks
    assert attribute(net(), x, 0, heads="mean").shape == (2, 8, 8)


@pytest.mark.parametrize("net", [ShiftedByOne, InWindows])
def test_tokens_in_another_order_are_refused(net, x):
    with pytest.raises(NoGrid, match=r"changed patches of a 8 x 8 grid showed on average \d.\d tokens away"):
        attribute(net(), x, 0)


def test_a_padded_window_is_refused(x):
    with pytest.raises(NoGrid, match="tokens away from those that should be theirs"):
        attribute(Padded(), x, 0)
