"""The waist: what a method may know about one forward pass, for any model."""

import contextlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from gradtoken.align import align, aligned
from gradtoken.attention import Attention, reachable, working_dtype
from gradtoken.blocks import blocks_over, candidates, fullest
from gradtoken.errors import NoAttention, NoGrid
from gradtoken.inputs import Inputs, batch_of, call, picture_of, replaced, signature, tensors
from gradtoken.record import Enough, Freed, Recorder, Unread
from gradtoken.state import original, untouched
from gradtoken.targets import Target, read
from gradtoken.tokens import Layout, disorder, find_grid, first_patch, marked_pictures


@dataclass(frozen=True)
class Learnt:
    """What a first run on inputs of one shape showed.

    Where the tail starts, how many attentions count where the score depends on no later one, the layout of a picture,
    and which attentions work on the tokens of the last one.
    """

    start: int
    limit: int | None
    layout: Layout | None
    blocks: list[int]


LEARNT: WeakKeyDictionary[nn.Module, dict[Any, Learnt]] = WeakKeyDictionary()


class Probe:
    """One forward pass of `net`, with the gradient of each target's score by the last attention's query.

    inputs: a tensor, a tuple of arguments or a mapping of keyword arguments, batch first.
    target: class indices of shape (B,) or (B, K), one index for all, None for the predicted class, or a callable from
    the model's output to scores of shape (B,) or (B, K).

    logits (B, classes), or None where a callable target reads another output; scores (B, K) raw, before any softmax;
    `several` says whether targets came as (B, K).
    """

    def __init__(self, net: nn.Module, inputs: Inputs, target: Target = None) -> None:
        self.net, self.inputs = original(net), inputs
        self.batch, self.picture = batch_of(inputs), picture_of(inputs)
        facts, key = dict(LEARNT.setdefault(self.net, {})), signature(inputs)
        with untouched(self.net, tensors(inputs)):
            self._run(target, *((facts[key].start, facts[key].limit) if key in facts else (None, None)))
            if key not in facts or facts[key].start != self._start:
                facts[key] = Learnt(self._start, self._limit, *self._look())
                if self._limit is None or not callable(target):  # another callable may read what this one does not
                    LEARNT[self.net][key] = facts[key]
        self.layout, self.blocks = facts[key].layout or self._sequence(), facts[key].blocks

    def _run(self, target: Target, start: int | None, limit: int | None = None) -> None:
        """Forward, then backward through the tail; without `start` the tail is found on the way."""
        record = Recorder(start, limit=limit)
        again: tuple[int | None, int | None] | None = None
        try:
            with torch.set_grad_enabled(start is None), saved_tensors_hooks(record.pack, record.unpack):
                with record:
                    output = call(self.net, self.inputs)
                torch.set_grad_enabled(True)
                if start in (None, record.last_site):
                    scores = read(output, target, self.batch)
                    self._dq = self._differentiate(record, scores.values)
                else:
                    again = (None, None)
        except Freed:  # where gradients are off, nothing is checkpointed
            again = (record.last_site, limit)
        except Unread:
            again = (None, len(record.calls) - 1)
        finally:
            self.calls = record.close()
        if again is not None:  # the model took another path than the first time, is checkpointed, or has an unused end
            return self._run(target, *again)
        self.logits, self.scores, self.several = scores.logits, scores.values.detach(), scores.several
        self.grids, self.unread = record.grids, record.unread
        self._start, self._limit = self.calls[-1].site, limit
        return None

    def _differentiate(self, record: Recorder, scores: Tensor) -> list[Tensor]:
        """Gradient of each score, summed over the batch, by the last query before its scale: K tensors."""
        name = type(self.net).__name__
        if not record.calls:
            raise NoAttention(
                f"{name} computed no attention that can be seen: neither scaled_dot_product_attention, nor "
                "nn.MultiheadAttention, nor a softmax over the last axis between two matrix products; load the model "
                "with an sdpa or eager attention implementation"
            )
        if record.unfinished:
            raise NoAttention(
                f"{name} takes the softmax of a matrix product after the {len(record.calls)} attentions that could be "
                "followed, and uses it in another way; load the model with an sdpa or eager attention implementation"
            )
        last, dq = record.calls[-1], []
        for score in scores.sum(dim=0):
            (g,) = (
                torch.autograd.grad(score, last.q, retain_graph=True, allow_unused=True)
                if score.requires_grad and last.q.requires_grad
                else [None]
            )
            if g is None and last.q.requires_grad and len(record.calls) > 1:
                raise Unread
            if g is None or not g.any():
                raise NoAttention(
                    f"the last of {len(record.calls)} attentions of {name} does not reach the explained score: its "
                    "query has no gradient; explain an output that depends on it, and turn off detach, inference_mode "
                    "and reentrant checkpoints inside the model"
                )
            dq.append(g * last.q_factor)
        return dq

    # What methods read ----------------------------------------------------------------------------------------------

    @cached_property
    def last(self) -> Attention:
        """The last attention of the model: (B, H, N, M)."""
        attention = aligned(self.calls[-1], self.batch)
        if attention is None:
            raise NoAttention(
                f"the last attention works on {tuple(self.calls[-1].q.shape)}, not on the tokens of {self.batch} "
                "inputs: windows or groups of tokens that cannot be put back on the picture"
            )
        return attention

    @cached_property
    def dq(self) -> Tensor:
        """Gradient of each score by the last query before its scale. (B, K, H, N, D), float32 or float64"""
        dq = torch.stack([g.reshape(self.last.q.shape) for g in self._dq], dim=1)
        return dq.to(working_dtype(dq))

    @cached_property
    def earlier(self) -> list[Attention]:
        """The attentions before the last one over the same tokens, in order: all of them in a plain ViT."""
        return [a for a in (aligned(self.calls[number], self.batch) for number in self.blocks[:-1]) if a is not None]

    @cached_property
    def readers(self) -> Tensor:
        """Query rows of the last attention that the score depends on: the class token, or every pooled token. (B, N)"""
        return (self.dq != 0).any(dim=4).any(dim=2).any(dim=1)

    @cached_property
    def reachable(self) -> Tensor:
        """Tokens that the readers may attend to; padding is False. (B, M)"""
        return reachable(self.last, self.readers)

    # The layout -----------------------------------------------------------------------------------------------------

    def _look(self) -> tuple[Layout | None, list[int]]:
        """Change single patches of the first picture and see which tokens change: the layout, and the blocks."""
        attentions = [*(aligned(c, self.batch) for c in self.calls[:-1]), self.last]
        if self.picture is None:
            return None, blocks_over(attentions, None)
        rows, columns = find_grid(self.last.shape[3], self.grids, (self.picture.shape[-2], self.picture.shape[-1]))
        fault: str | None = None
        for blocks in candidates(attentions, rows * columns):
            numbers = blocks[0], fullest(attentions, blocks)
            first, full = self._changes(self.picture, (rows, columns), numbers)
            fault = disorder(first, (rows, columns), mixed=blocks[0] > 0)
            if fault is None:
                return Layout(first_patch(full, (rows, columns)), rows * columns, rows, columns), blocks
        raise NoGrid(fault)

    def _changes(self, picture: Tensor, grid: tuple[int, int], numbers: tuple[int, ...]) -> list[Tensor]:
        """How much the keys of these attentions change with each of `marked_pictures`: (cells, N) each.

        In batches of the inputs' size, of which nothing but the change is kept.
        """
        unmarked: list[Tensor] = []
        seen: list[list[Tensor]] = []
        for pictures in marked_pictures(picture[0], grid, self.batch):
            record = Recorder(start=-1, until=max(numbers) + 1)
            with torch.no_grad(), contextlib.suppress(Enough), record:
                call(self.net, replaced(self.inputs, picture, pictures))
            found = [align(record.calls[number].k, len(pictures)) for number in numbers]
            keys = [k for k in found if k is not None]
            unmarked = unmarked or [k[:1].clone() for k in keys]
            seen.append([(k - u).float().square().sum(dim=(1, 3)) for k, u in zip(keys, unmarked, strict=True)])
        return [torch.cat(changes)[1:] for changes in zip(*seen, strict=True)]

    def _sequence(self) -> Layout:
        """Every token; the first one apart where it is the one the head reads, and is no content (a class token)."""
        total = self.last.shape[3]
        only_first = bool(self.readers[:, 0].all() and not self.readers[:, 1:].any()) and self.last.square
        first = 1 if only_first and total > 1 and not self.last.causal else 0
        return Layout(first, total - first)
