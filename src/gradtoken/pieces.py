"""Word pieces put together to words, and their relevance to that of the words."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradtoken.errors import UnknownName
from gradtoken.words import Piece, Span, Words, words_in

Values = NDArray[Any]
Numbers = NDArray[np.intp]


def grouped(text: str, pieces: Sequence[Span]) -> tuple[list[Span], list[int]]:
    """The words that pieces lie in, in order, and the number of its word for each piece.

    A piece that lies in several words makes one of them. One of blanks alone belongs to the word that follows, or else
    to the one before; with a line break it is a word by itself.
    """
    words = np.array(words_in(text), np.intp).reshape(-1, 2)
    a, b = np.array(pieces, np.intp).reshape(-1, 2).T
    first, last = np.searchsorted(words[:, 1], a, side="right"), np.searchsorted(words[:, 0], b) - 1
    lies = (first <= last) & (a < b)
    borders = np.zeros(len(words) + 1, np.intp)  # how many pieces lie across the border before each word
    np.add.at(borders, first[lies] + 1, 1)
    np.add.at(borders, last[lies] + 1, -1)
    begins = borders.cumsum()[: len(words)] == 0
    heads = np.flatnonzero(begins)
    tails = np.append(heads[1:], len(words)) - 1 if len(heads) else heads
    wholes = list(zip(words[heads, 0].tolist(), words[tails, 1].tolist(), strict=True))
    group = begins.cumsum() - 1
    owners = [wholes[group[i]] if inside else None for i, inside in zip(first.tolist(), lies.tolist(), strict=True)]
    return numbered(text, pieces, owners)


def numbered(text: str, pieces: Sequence[Span], owners: Sequence[Span | None]) -> tuple[list[Span], list[int]]:
    """Words in order, and the number of its word for each piece. Pieces of blanks, which have none yet, find theirs."""
    known = sorted({span for span in owners if span is not None})
    starts = [a for a, _ in known]
    free = [piece for piece, span in zip(pieces, owners, strict=True) if span is None]
    breaks = overlapping([p for p in free if not known or {"\n", "\r"} & {*text[slice(*p)]}])

    def owner(piece: Span) -> Span:
        """Of a piece of blanks: the word around it, itself, or the word that follows."""
        before = bisect_right(starts, piece[0]) - 1
        if before >= 0 and piece[0] < known[before][1]:
            return known[before]
        return breaks.get(piece) or known[min(bisect_left(starts, piece[0]), len(known) - 1)]

    found = [owner(piece) if span is None else span for piece, span in zip(pieces, owners, strict=True)]
    words = sorted({*found})
    number = {span: i for i, span in enumerate(words)}
    return words, [number[span] for span in found]


def overlapping(pieces: Sequence[Span]) -> dict[Span, Span]:
    """For each piece the slice that it covers together with all that overlap it."""
    groups: list[list[Span]] = []
    end = -1
    for piece in sorted({*pieces}):
        if piece[0] >= end:
            groups.append([])
        groups[-1].append(piece)
        end = max(end, piece[1], piece[0] + 1)
    return {piece: (group[0][0], max(b for _, b in group)) for group in groups for piece in group}


def trimmed(text: str, span: Span) -> Span:
    """Without blanks at its ends, unless it is all blanks."""
    a, b = span
    inner = text[a:b]
    return (a + len(inner) - len(inner.lstrip()), a + len(inner.rstrip())) if inner.strip() else span


# From values of pieces to values of words -----------------------------------------------------------------------------


def total(values: Values, words: Numbers, count: int) -> Values:
    """Sum of the values of a word's pieces: the sum over the text stays the same."""
    return np.bincount(words, values, count)


def mean(values: Values, words: Numbers, count: int) -> Values:
    """Their mean."""
    return np.bincount(words, values, count) / np.maximum(np.bincount(words, minlength=count), 1)


def largest(values: Values, words: Numbers, count: int) -> Values:
    """The one of largest magnitude, with its sign; the first among equals."""
    order = np.lexsort((-np.arange(len(words)), np.abs(values), words))
    found = np.zeros(count)
    found[words[order]] = values[order]  # the last one assigned stays
    return found


MERGES: dict[str, Callable[[Values, Numbers, int], Values]] = {"max": largest, "sum": total, "mean": mean}
APART = "pieces"
MEANINGS = {
    "max": "a word has the value of largest magnitude of its pieces",
    "sum": "a word has the sum of its pieces",
    "mean": "a word has the mean of its pieces",
    APART: "word pieces for themselves",
}


def check_merge(merge: str) -> str:
    """Refuse a rule that does not exist."""
    if merge not in MEANINGS:
        raise UnknownName.among("rule for word pieces", merge, MEANINGS)
    return merge


Token = tuple[Span | None, str]  # its place in the text, None for a special one; its name


@dataclass(frozen=True, eq=False)
class Grouping:
    """Tokens of a text by words, the same for all methods and targets; words as in `Words`.

    kept: numbers of the tokens that count. owners: of each of these its word. places: of each its place in the text.
    """

    words: Words
    kept: Numbers
    owners: Numbers
    places: tuple[Span | None, ...]

    @classmethod
    def of(cls, text: str, tokens: Sequence[Token], merge: str, special: bool) -> "Grouping":
        """special: whether special tokens count, each as a word by itself."""
        content = [i for i, (span, _) in enumerate(tokens) if span is not None]
        pieces = [span for span, _ in tokens if span is not None]
        apart = check_merge(merge) == APART
        spans, owners = ([trimmed(text, p) for p in pieces], [*range(len(pieces))]) if apart else grouped(text, pieces)
        before = [*range(min(content, default=0))] if special else []
        after = [i for i, (span, _) in enumerate(tokens) if span is None and i >= len(before)] if special else []
        kept = [*before, *content, *after]
        owners = [*before, *(len(before) + n for n in owners), *range(len(before) + len(spans), len(spans) + len(kept))]
        words = Words(
            text,
            spans=(*(None for _ in before), *spans, *(None for _ in after)),
            names=tuple([tokens[i][1] for i in before] + [text[a:b] for a, b in spans] + [tokens[i][1] for i in after]),
            merge=merge,
            read=(min((a for a, _ in pieces), default=0), max((b for _, b in pieces), default=0)),
        )
        places = tuple(tokens[i][0] for i in kept)
        return cls(words, np.array(kept, np.intp), np.array(owners[: len(kept)], np.intp), places)

    def explained(self, relevance: Values) -> tuple[Words, Values]:
        """The words with the values of their pieces, and the words' own. (tokens,) -> (words,), float64"""
        values = np.asarray(relevance, np.float64)[self.kept]
        own = MERGES.get(self.words.merge, total)(values, self.owners, len(self.words.spans))
        rows = zip(self.owners.tolist(), self.places, values.tolist(), strict=True)
        pieces = tuple(Piece(word, *place, value) for word, place, value in rows if place is not None)
        return replace(self.words, pieces=pieces), own
