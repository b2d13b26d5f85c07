"""What a method reads of one whole forward pass: values in each block, and gradients of the scores by them."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from gradtoken.align import align
from gradtoken.anatomy import Anatomy
from gradtoken.attention import Attention, rows, working_dtype
from gradtoken.errors import NoBlocks
from gradtoken.tape import same

Place = tuple[str, int]


class Node(NamedTuple):
    """A tensor of the graph as the model made it, and how it is read."""

    raw: Tensor
    read: Callable[[Tensor], Tensor]


class Run:
    """One forward pass with its graph.

    scores (copies * B, K) in the graph. attention: the attentions over the tokens of the last one, in order.
    Names of places, each for every block: `q`, `v` and `Z` = A v (B, H, N, D); `x` the block's input, `features` what
    the projections to q, k and v read, `branch` what the attention adds to x, `middle` their sum, `out` the block's
    output, (B, N, C) each. `input` (block 0) is the picture (B, C, H, W), or the embeddings of a text.
    logits (copies * B, classes) in the graph, where the targets are classes.
    """

    def __init__(
        self,
        scores: Tensor,
        attention: list[Attention],
        nodes: dict[Place, Node],
        missing: str,
        logits: Tensor | None = None,
    ) -> None:
        self.scores, self.logits, self.attention, self.nodes, self.missing = scores, logits, attention, nodes, missing
        self.gradients: dict[Place, Tensor] = {}

    def node(self, name: str, block: int) -> Node:
        if (name, block) not in self.nodes:
            raise NoBlocks(self.missing)
        return self.nodes[name, block]

    def value(self, name: str, block: int) -> Tensor:
        """The value of one place, cut from the graph, in float32 or float64."""
        raw, read = self.node(name, block)
        return read(raw.detach()).to(working_dtype(raw))

    def gradient(self, name: str, block: int) -> Tensor:
        """Gradient of each score by one place; see `differentiate` for several at once. (B, K, ...)"""
        self.differentiate(name, [block])
        return self.gradients[name, block]

    def differentiate(self, name: str, blocks: list[int]) -> None:
        """Take the gradients by this place of all these blocks in one backward pass for each score."""
        wanted = [block for block in blocks if (name, block) not in self.gradients]
        nodes = [self.node(name, block) for block in wanted]
        if not nodes:
            return
        raw, found = [node.raw for node in nodes], [list[Tensor]() for _ in nodes]
        with torch.inference_mode(False):
            for score in self.scores.sum(dim=0):
                grads = torch.autograd.grad(score, raw, retain_graph=True, materialize_grads=True)
                for kept, node, g in zip(found, nodes, grads, strict=True):
                    kept.append(node.read(g).to(working_dtype(g)))
        for block, by_score in zip(wanted, found, strict=True):
            self.gradients[name, block] = torch.stack(by_score, dim=1)

    @property
    def blocks(self) -> list[int]:
        """Numbers of the blocks, 0 ... L - 1."""
        return list(range(len(self.attention)))

    def pull(self, source: Place, seed: Tensor, place: Place) -> Tensor:
        """Gradient of <value of source, seed> by another place: seed shaped as the source is read."""
        raw, read = self.node(*source)
        node = self.node(*place)
        with torch.inference_mode(False), torch.enable_grad():
            total = (read(raw) * seed.to(raw.dtype)).sum()
            (g,) = torch.autograd.grad(total, [node.raw], retain_graph=True, materialize_grads=True)
        return node.read(g).to(working_dtype(g))

    def A(self, block: int, start: int = 0, stop: int | None = None) -> Tensor:
        """Rows of an attention matrix. (B, H, stop - start, M)"""
        attention = self.attention[block]
        return rows(attention, start, attention.shape[2] if stop is None else stop)

    def dA(self, block: int, start: int = 0, stop: int | None = None) -> Tensor:
        """Rows of the gradient of each score by A, from Z = A v: dA = dZ v'. (B, K, H, stop - start, M)"""
        dZ = self.gradient("Z", block)[..., start:stop, :]
        result: Tensor = dZ @ self.value("v", block)[:, None].mT
        return result


def past_residuals(anatomy: Anatomy, numbers: list[int], attention: list[Attention]) -> list[int]:
    """Which of these attentions have a residual connection that was found, past all of their tokens."""
    blocks, shapes = anatomy.blocks, anatomy.shapes

    def is_whole(i: int, number: int) -> bool:
        batch, _, count, _ = attention[i].shape
        places = [n for n in (blocks[number].x, blocks[number].features, blocks[number].middle) if n >= 0]
        return all(tokens_in(shapes[n], batch, count) is not None for n in places)

    return [i for i, number in enumerate(numbers) if number in blocks and is_whole(i, number)]


class View(NamedTuple):
    """How a tensor that a model made is read, and how what was read is given back to the model."""

    read: Callable[[Tensor], Tensor]
    back: Callable[[Tensor], Tensor]


def heads_in(raw: Tensor, batch: int, heads: int) -> View:
    """(B, H, N, D); grouped heads are repeated."""

    def read(raw: Tensor) -> Tensor:
        x = align(raw, batch)
        assert x is not None
        return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], dim=1)

    return View(read, lambda x: x.reshape(raw.shape))


def tokens_in(shape: torch.Size, batch: int, count: int, tokens_first: bool = False) -> View | None:
    """(B, N, C): batch or tokens first, tokens on a grid, or all in one row.

    tokens_first decides where there are as many tokens as samples.
    """
    orders = {(batch, count): False, (count, batch): True}
    if batch == count:
        orders = {(batch, count): tokens_first}
    if len(shape) == 3 and shape[:2] in orders:
        return View(swapped, swapped) if orders[shape[:2]] else View(same, same)
    if len(shape) == 4 and shape[0] == batch and shape[1] * shape[2] == count:
        return View(lambda x: x.flatten(1, 2), lambda x: x.reshape(batch, *shape[1:3], -1))
    if len(shape) == 2 and shape[0] == batch * count:
        return View(lambda x: x.reshape(batch, count, -1), lambda x: x.reshape(batch * count, -1))
    return None


def swapped(x: Tensor) -> Tensor:
    return x.transpose(0, 1)
