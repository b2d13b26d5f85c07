"""Words of a text: slices of it, whatever a tokenizer makes of them."""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from gradtoken.errors import GradTokenError

Span = tuple[int, int]

SCRIPTS = (  # that part words by no blanks: Thai to Myanmar, Khmer, kana, ideographs
    *((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3005, 0x3007), (0x3040, 0x30FF), (0x31F0, 0x31FF)),
    *((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0xFF66, 0xFF9F), (0x20000, 0x3FFFF)),
)
APOSTROPHES = "'\N{RIGHT SINGLE QUOTATION MARK}-\N{NON-BREAKING HYPHEN}"  # inside a word
SEPARATORS = ".,:"  # inside a number
# letters, numbers and their marks; what has no blanks around it, flags and other signs each for itself
WORD = re.compile(r"(?:[wd]m*j?)+(?:(?:a(?=[wd])|(?<=d)n(?=d))(?:[wd]m*j?)+)*|im*|f+m*|[pan]m*(?:jpm*)*|[mj]")


@lru_cache(maxsize=2**16)
def kind(c: str) -> str:
    """One letter: (w)ord, (d)igit, sign that may be inside a word (a) or a number (n), script without blanks (i).

    Further (m)ark on the sign before, (j)oiner of signs, (f)lag, other sign (p), blank or nothing to see (s).
    """
    code, category = ord(c), unicodedata.category(c)
    if c.isspace() or category in ("Cc", "Cs") or c in "\u200b\ufeff":
        return "s"
    if c in APOSTROPHES or c in SEPARATORS:
        return "a" if c in APOSTROPHES else "n"
    if category[0] == "M" or category == "Cf" or 0x1F3FB <= code <= 0x1F3FF:
        return "j" if c == "\N{ZERO WIDTH JOINER}" else "m"
    if 0x1F1E6 <= code <= 0x1F1FF:
        return "f"
    if any(low <= code <= high for low, high in SCRIPTS):
        return "i"
    return {"L": "w", "N": "d"}.get(category[0], "w" if category == "Pc" else "p")


def words_in(text: str) -> list[Span]:
    """First and end character of each word, in order; every character that is no blank is in one of them.

    Words are letters and digits with apostrophes, hyphens and decimal points inside; every other sign is one, and so is
    each of a script that puts no blanks between words. Nothing depends on a tokenizer.
    """
    return [match.span() for match in WORD.finditer("".join(map(kind, text)))]


class Piece(NamedTuple):
    """A word piece with its raw relevance; word: the number of the word it belongs to."""

    word: int
    start: int
    end: int
    relevance: float


@dataclass(frozen=True, eq=False)
class Words:
    """What the values of an explanation of a text belong to.

    spans: of each value its first and end character in the text, None for a special token. names: the words, and the
    special tokens as their tokenizer writes them. merge: how the values of a word's pieces became one. read: from
    which to which character the model read. pieces: word pieces with their own values, special tokens left out.
    """

    text: str
    spans: tuple[Span | None, ...]
    names: tuple[str, ...]
    merge: str
    read: Span
    pieces: tuple[Piece, ...] = ()

    def __post_init__(self) -> None:
        ends = [(0, 0), *(span for span in (*self.spans, self.read) if span is not None)]
        if len(self.names) != len(self.spans) or not all(0 <= a <= b <= len(self.text) for a, b in ends):
            raise GradTokenError(f"expected a name and a span in the text of {len(self.text)} characters for each word")
        if not all(0 <= p.word < len(self.spans) and 0 <= p.start <= p.end <= len(self.text) for p in self.pieces):
            raise GradTokenError("expected word pieces inside the text, each of one of its words")
