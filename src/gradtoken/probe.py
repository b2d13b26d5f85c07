"""The waist: what a method may know about one forward pass, for any model."""

import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode

from gradtoken import passes
from gradtoken.align import aligned
from gradtoken.anatomy import Anatomy
from gradtoken.attention import Attention, reachable, working_dtype
from gradtoken.errors import NoAttention, NoBlocks, NoGrid
from gradtoken.inputs import Inputs, batch_of, call, picture_of, signature, tensors, with_picture
from gradtoken.look import look, sequence
from gradtoken.record import Freed, Recorder, Unread
from gradtoken.run import Run, tokens_in
from gradtoken.state import original, untouched
from gradtoken.targets import Chosen, Target, read
from gradtoken.tokens import Layout


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
ANATOMY: WeakKeyDictionary[nn.Module, dict[Any, Anatomy]] = WeakKeyDictionary()


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
                facts[key] = Learnt(self._start, self.limit, *look(self))
                if self.limit is None or not callable(target):  # another callable may read what this one does not
                    LEARNT[self.net][key] = facts[key]
        self.layout, self.blocks = facts[key].layout or sequence(self), facts[key].blocks

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
        self.chosen = Chosen(target, scores)
        self.logits, self.scores, self.several = scores.logits, scores.values.detach(), scores.several
        self.grids, self.unread = record.grids, record.unread
        self._start, self.limit = self.calls[-1].site, limit
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
    def attention(self) -> list[Attention]:
        """The attentions over the tokens of the last one, itself included: all of them in a plain ViT."""
        earlier = [aligned(self.calls[number], self.batch) for number in self.blocks[:-1]]
        return [*(a for a in earlier if a is not None), self.last]

    @cached_property
    def earlier(self) -> list[Attention]:
        """The attentions before the last one over the same tokens, in order."""
        return self.attention[:-1]

    @cached_property
    def readers(self) -> Tensor:
        """Query rows of the last attention that the score depends on: the class token, or every pooled token. (B, N)"""
        return (self.dq != 0).any(dim=4).any(dim=2).any(dim=1)

    @cached_property
    def reachable(self) -> Tensor:
        """Tokens that the readers may attend to; padding is False. (B, M)"""
        return reachable(self.last, self.readers)

    # Further passes -------------------------------------------------------------------------------------------------

    @cached_property
    def plain(self) -> Run:
        """One whole forward pass with its graph, as the model makes it; all methods read the same one."""
        return self.run()

    def run(self, **how: Any) -> Run:
        """One more forward pass, in another way; see `passes.run`."""
        return passes.run(self, **how)

    def under(self, rules: TorchFunctionMode, probability: bool = False) -> "Probe":
        """The same probe, but its `plain` pass is made under rules that modify gradients."""
        other = copy.copy(self)
        other.__dict__["plain"] = self.run(rules=rules, probability=probability)
        return other

    def score(self, **how: Any) -> Tensor:
        """Scores of one more forward pass without a graph; see `passes.run`. (m * B, K)"""
        return self.run(graph=False, **how).scores

    def pictured(self, pictures: Tensor) -> Inputs:
        """The inputs with other pictures: m repeats of the batch. (m * B, C, H, W)"""
        return with_picture(self.inputs, self.grid, pictures)

    @cached_property
    def anatomy(self) -> Anatomy:
        """Where the blocks begin and end."""
        facts, key = ANATOMY.setdefault(self.net, {}), (signature(self.inputs), self.batch)
        if key not in facts:
            facts[key] = passes.find_anatomy(self)
        return facts[key]

    @cached_property
    def followed(self) -> list[int]:
        """Which of `blocks` have a residual connection that was found, past an attention over all their tokens."""
        blocks, shapes = self.anatomy.blocks, self.anatomy.shapes

        def is_whole(i: int, number: int) -> bool:
            places = [n for n in (blocks[number].x, blocks[number].features, blocks[number].middle) if n >= 0]
            return all(tokens_in(shapes[n], self.batch, self.attention[i].shape[2]) is not None for n in places)

        return [i for i, number in enumerate(self.blocks) if number in blocks and is_whole(i, number)]

    @property
    def missing_blocks(self) -> str:
        """Why a block has no input or output."""
        found = len(self.followed)
        return (
            f"{type(self.net).__name__} has {len(self.blocks)} attentions over the tokens that are explained, and a "
            f"residual connection past {found} of them was found; this method needs the inputs and outputs of blocks"
        )

    # What a method may need -----------------------------------------------------------------------------------------

    @property
    def stream(self) -> list[int]:
        """Which of `blocks` have a residual connection: all but an attention pooling. Raises NoBlocks for none."""
        if not self.followed or self.anatomy.end is None:
            raise NoBlocks(self.missing_blocks)
        return self.followed

    @property
    def grid(self) -> Tensor:
        """The pictures of the batch. (B, C, H, W). Raises NoGrid for other inputs."""
        if self.picture is None:
            raise NoGrid("this method erases or mixes parts of a picture; expected inputs (B, C, H, W), got none")
        return self.picture
