"""Which attentions of a model work on the tokens of its last one."""

from collections.abc import Sequence

import torch

from gradtoken.attention import MASKED, Attention
from gradtoken.call import Call
from gradtoken.errors import NoBlocks


def blocks_over(attentions: list[Attention | None], count: int | None) -> list[int]:
    """Numbers of the attentions over the tokens of the last one, itself included; `count` of them are patches.

    None stands for an attention that cannot be put on the tokens of the inputs: windows.
    """
    found = [len(attentions) - 1]
    after = attentions[-1]
    assert after is not None
    for number in reversed(range(decoder_from(attentions) if after.cross else found[0])):
        attention = attentions[number]
        if attention is not None and attention.square and follows(attention, after, count if len(found) == 1 else None):
            found.insert(0, number)
            after = attention
    return found


def hides_later(x: Attention | Call) -> bool:
    """Whether the first query sees no later key, as in causal attention."""
    if x.causal or x.k.shape[-2] == 1:
        return True
    if x.weights is not None:
        return not x.weights[..., 0, 1:].any()
    if x.mask is None:
        return False
    seen = x.mask[..., 0, 1:]
    return not (seen if seen.dtype == torch.bool else seen > MASKED).any()


def decoder_from(attentions: Sequence[Attention | Call | None]) -> int:
    """Number of the first causal attention, or how many there are where none is."""
    return next((i for i, x in enumerate(attentions) if x is not None and hides_later(x)), len(attentions))


def is_cross(calls: Sequence[Call]) -> bool:
    """Whether the last attention has a decoder's tokens as queries and an encoder's as keys, which may be as many.

    A decoder's own attention is causal; what follows it and is not reads the encoder.
    """
    return not hides_later(calls[-1]) and decoder_from(calls[:-1]) < len(calls) - 1


def check_stream(name: str, last: Attention, residual: bool) -> None:
    """Refuse a decoder, or queries of a detector, past whose last attention to an encoder is a residual connection."""
    if last.cross or (residual and not last.square and last.shape[2] > 1):
        raise NoBlocks(
            f"in {name} the tokens of a decoder read those explained, past residual connections of their own; "
            "this method follows one from the input to the head"
        )


def follows(before: Attention, after: Attention, count: int | None) -> bool:
    """Whether `after` works on the tokens that `before` gave. `count`: how many patches `after`, as the last, has."""
    N, M = before.shape[3], after.shape[3]
    if after.square:  # a class token may have joined for the last attention
        return before.width == after.width and N in (M, count)
    return N == M or (count is not None and count <= N < 2 * count)  # attention pooling may leave prefix tokens out


def candidates(attentions: list[Attention | None], count: int) -> list[list[int]]:
    """What the blocks may be: those over as many tokens; the last alone, where the others' tokens may be channels."""
    blocks = blocks_over(attentions, count)
    several = [attentions[number] for number in blocks[:-1]]
    channels = any(a is not None and a.q.shape[2] == a.q.shape[3] for a in several)
    return [blocks, blocks[-1:]] if channels else [blocks]


def fullest(attentions: list[Attention | None], blocks: list[int]) -> int:
    """Number of the first block with the most tokens: prefix tokens may join late or leave early."""
    tokens = {number: a.shape[3] for number in blocks if (a := attentions[number]) is not None}
    return max(blocks, key=lambda number: (tokens[number], -number))
