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
from gradtoken.errors import NoAttention
from gradtoken.inputs import Inputs, batch_of, call, picture_of, replaced, signature, tensors
from gradtoken.record import Enough, Recorder
from gradtoken.state import original, untouched
from gradtoken.targets import Target, read
from gradtoken.tokens import Layout, find_grid, locate, marked_pictures


@dataclass(frozen=True)
class Learnt:
    """What a first run on inputs of one shape showed: where the tail starts, and the layout of a picture."""

    start: int
    layout: Layout | None


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
        facts, key = LEARNT.setdefault(self.net, {}), signature(inputs)
        with untouched(self.net, tensors(inputs)):
            self._run(target, facts[key].start if key in facts else None)
            if key not in facts:
                layout = None if self.picture is None else self._look(self.picture)
                facts[key] = Learnt(self._start, layout)
        self.layout = facts[key].layout or self._sequence()

    def _run(self, target: Target, start: int | None) -> None:
        """Forward, then backward through the tail; without `start` the tail is found on the way."""
        record = Recorder(start)
        try:
            with torch.set_grad_enabled(start is None), saved_tensors_hooks(record.pack, record.unpack):
                with record:
                    output = call(self.net, self.inputs)
                torch.set_grad_enabled(True)
                as_learnt = start in (None, record.last_site)
                if as_learnt:
                    scores = read(output, target, self.batch)
                    self._dq = self._differentiate(record, scores.values)
        finally:
            self.calls = record.close()
        if not as_learnt:  # the model took another path than the first time
            return self._run(target, None)
        self.logits, self.scores, self.several = scores.logits, scores.values.detach(), scores.several
        self.grids, self._start = record.grids, self.calls[-1].site
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
        last, dq = record.calls[-1], []
        for score in scores.sum(dim=0):
            (g,) = (
                torch.autograd.grad(score, last.q, retain_graph=True, allow_unused=True)
                if score.requires_grad
                else [None]
            )
            if g is None or not g.any():
                raise NoAttention(
                    f"the last of {len(record.calls)} attentions of {name} does not reach the explained score: its "
                    "query has no gradient; explain an output that depends on it"
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
        found: list[Attention] = []
        for earlier in reversed(self.calls[:-1]):
            attention = aligned(earlier, self.batch)
            if attention is None or not attention.square or not self._same_tokens(attention, found):
                continue
            found.insert(0, attention)
        return found

    def _same_tokens(self, attention: Attention, found: list[Attention]) -> bool:
        N, M, width = attention.shape[2], self.last.shape[3], attention.shape[1] * attention.q.shape[3]
        if found:
            return (N, width) == (found[0].shape[2], found[0].shape[1] * found[0].q.shape[3])
        return N in (M, self.layout.count) if self.layout.is_grid else N == M

    @cached_property
    def readers(self) -> Tensor:
        """Query rows of the last attention that the score depends on: the class token, or every pooled token. (B, N)"""
        return (self.dq != 0).any(dim=4).any(dim=2).any(dim=1)

    @cached_property
    def reachable(self) -> Tensor:
        """Tokens that the readers may attend to; padding is False. (B, M)"""
        return reachable(self.last, self.readers)

    # The layout -----------------------------------------------------------------------------------------------------

    def _look(self, picture: Tensor) -> Layout:
        """Change single patches of the first picture and see which tokens of the first attention change."""
        total = self.last.shape[3]
        grid = find_grid(total, self.grids, (picture.shape[-2], picture.shape[-1]))
        count = grid[0] * grid[1]
        assumed = Layout(total - count, count, *grid)
        first = aligned(self.calls[0], self.batch)
        if first is None or not first.square or not count <= first.shape[3] <= total:
            return assumed  # a later stage: tokens have mixed before, nothing to see
        record = Recorder(start=-1, until=lambda _: True)
        with torch.no_grad(), contextlib.suppress(Enough), record:
            call(self.net, replaced(self.inputs, picture, marked_pictures(picture[0], grid)))
        seen = align(record.calls[0].k, 4)
        assert seen is not None
        found = locate(seen, grid)
        return found if seen.shape[2] == total else assumed

    def _sequence(self) -> Layout:
        """Every token; the first one apart where it is the one the head reads, and is no content (a class token)."""
        total = self.last.shape[3]
        only_first = bool(self.readers[:, 0].all() and not self.readers[:, 1:].any()) and self.last.square
        first = 1 if only_first and total > 1 and not self.last.causal else 0
        return Layout(first, total - first)
