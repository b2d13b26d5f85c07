"""The first pass of a model: its scores, its attentions, and the gradient by the last of them alone."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from gradtoken.call import Call, apart
from gradtoken.errors import BadModel, NoAttention
from gradtoken.inputs import Inputs, batch_of, call
from gradtoken.record import Freed, Recorder, Unread
from gradtoken.targets import Chosen, Scores, Target, read


class Tail(NamedTuple):
    """Behind the last attention, as the model made it: K gradients by q before its scale, K by Z = A v, and v."""

    dq: list[Tensor]
    dZ: list[Tensor]
    v: Tensor


@dataclass(frozen=True)
class First:
    """What a first pass gave.

    tail: None where the pass kept its whole graph instead. start, limit: where the tail starts, and how many attentions
    count.
    """

    chosen: Chosen
    logits: Tensor | None
    scores: Tensor
    calls: list[Call]
    grids: list[tuple[int, int]]
    unread: int
    tail: Tail | None
    start: int
    limit: int | None

    @classmethod
    def of(cls, record: Recorder, target: Target, found: Scores, calls: list[Call], tail: Tail | None) -> "First":
        """From a pass that is over and its scores."""
        scores = found.values.detach()
        return cls(
            Chosen(target, found),
            found.logits,
            scores,
            calls,
            record.grids,
            record.unread,
            tail,
            calls[-1].site,
            record.limit,
        )


def first_pass(net: nn.Module, inputs: Inputs, target: Target, record: Recorder) -> First:
    """Forward, then backward through the tail; without a `start` the tail is found on the way."""
    start, limit = record.start, record.limit
    again: tuple[int | None, int | None] | None = None
    try:
        with torch.set_grad_enabled(start is None), saved_tensors_hooks(record.pack, record.unpack):
            with record:
                output = call(net, inputs)
            torch.set_grad_enabled(True)
            if start in (None, record.last_site):
                found = read(output, target, batch_of(inputs))
                tail = tail_of(net, record, found.values)
            else:
                again = (None, None)
    except Freed:  # where gradients are off, nothing is checkpointed
        again = (record.last_site, limit)
    except Unread:
        again = (None, len(record.calls) - 1)
    finally:
        calls = record.close()
    if again is not None:  # the model took another path than the first time, is checkpointed, or has an unused end
        return first_pass(net, inputs, target, Recorder(again[0], limit=again[1], keeping=record.keeping))
    return First.of(record, target, found, calls, tail)


def tail_of(net: nn.Module, record: Recorder, scores: Tensor) -> Tail:
    """Gradients of each score, summed over the batch, in one backward pass each."""
    check_followed(net, record)
    last, (v, Z) = record.calls[-1], record.end
    tail = Tail([], [], apart(v.detach()))
    for score in scores.sum(dim=0):
        dq, dZ = (
            torch.autograd.grad(score, [last.q, Z], retain_graph=True, allow_unused=True)
            if score.requires_grad and last.q.requires_grad
            else (None, None)
        )
        if dq is None and last.q.requires_grad and len(record.calls) > 1:
            raise Unread
        tail.dq.append(reaching(net, dq, len(record.calls)) * last.q_factor)
        tail.dZ.append(reaching(net, dZ, len(record.calls)))
    return tail


def check_followed(net: nn.Module, record: Recorder) -> None:
    """Refuse a model whose last attention was not seen."""
    name = type(net).__name__
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


def reaching(net: nn.Module, g: Tensor | None, count: int) -> Tensor:
    """A gradient by the last query that is not zero everywhere."""
    if g is None or not g.any():
        raise NoAttention(
            f"the last of {count} attentions of {type(net).__name__} does not reach the explained score: its "
            "query has no gradient; explain an output that depends on it, pad on the side that the readout does not "
            "read, and turn off detach, inference_mode and reentrant checkpoints inside the model"
        )
    return g


def reading(dq: Tensor) -> Tensor:
    """Queries that have a gradient, of which every sample must have one. (B, K, H, N, D) -> (B, N)"""
    read = (dq != 0).any(dim=4).any(dim=2).any(dim=1)
    if not read.any(dim=1).all():
        raise NoAttention(
            f"the scores of samples {(~read.any(dim=1)).nonzero()[:, 0].tolist()} do not depend on the last attention: "
            "the readout is a padding token, or the gradient is zero; pad on the other side (padding_side of the "
            "tokenizer), or leave these samples out"
        )
    return read


def check_repeats(net: nn.Module, first: First, output: Any) -> None:
    """Refuse a model whose second pass on the same inputs, with the same random state, gave other scores."""
    gap = (first.chosen.scores(output).detach() - first.scores).abs().max()
    if gap > 10 * torch.finfo(first.scores.dtype).eps ** 0.5 * (1 + first.scores.abs().max()):
        raise BadModel(
            f"{type(net).__name__} gave scores that differ by {gap:.2g} in two passes on the same inputs: it keeps "
            "something between calls, or draws numbers that no seed fixes; explain a model that repeats itself"
        )
