"""What every drawing of a text shares: its slices in order, their colours, and which words stand out."""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradtoken.draw.colours import NOISE, Scale
from gradtoken.draw.overlay import level
from gradtoken.draw.style import Style
from gradtoken.draw.words import method, number, printable

if TYPE_CHECKING:
    from gradtoken.result import Explanation
    from gradtoken.words import Words

PAPER = "Oranges"  # white is zero
LEAST = 0.02  # share of the largest magnitude from which a word is coloured
KEPT = {"\n", "\t"}  # control characters that are left in a text
QUOTES = "\N{LEFT DOUBLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}"
TOP = 5  # words that are named for and against


class Slice(NamedTuple):
    """A part of a text as it stands there; word: the number of its value, None between words and where none is read."""

    text: str
    word: int | None
    read: bool


def slices(words: "Words") -> Iterator[Slice]:
    """The whole text in order, special tokens before and after it by their names."""
    at, (first, end) = 0, words.read
    for i, (span, name) in enumerate(zip(words.spans, words.names, strict=True)):
        if span is None:
            yield from between(words.text, at, len(words.text) if at else 0, words.read)
            after, at = at > 0, len(words.text) if at else 0
            yield from [Slice(" ", None, True), Slice(name, i, True)][:: 1 if after else -1]
            continue
        a, b = max(span[0], at), max(span[1], at)  # pieces of one character overlap
        yield from between(words.text, at, a, (first, end))
        yield Slice(words.text[a:b], i, True)
        at = b
    yield from between(words.text, at, len(words.text), (first, end))


def between(text: str, a: int, b: int, read: tuple[int, int]) -> Iterator[Slice]:
    """What stands between two words, or beyond what was read."""
    for start, end, inside in ((a, min(b, read[0]), False), (max(a, read[0]), min(b, read[1]), True)):
        if start < end:
            yield Slice(text[start:end], None, inside)
    if max(a, read[1]) < b:
        yield Slice(text[max(a, read[1]) : b], None, False)


def clean(text: str) -> str:
    """Without control characters, by which a terminal could be steered, and signs that turn the direction of a line."""
    return "".join(c if c in KEPT or not is_control(c) else "\N{REPLACEMENT CHARACTER}" for c in text)


def is_control(c: str) -> bool:
    """Control characters, and overrides of the direction that outlast a word."""
    return unicodedata.category(c) in ("Cc", "Cs") or c in "\u202a\u202b\u202d\u202e\u2066\u2067\u2068"


@dataclass(frozen=True)
class Shades:
    """Colours of the words on white; hidden: words that a mask leaves out."""

    scale: Scale
    table: NDArray[np.uint8]  # (256, 3), mixed with white as opaque as the style says
    colours: NDArray[np.uint8]  # (words, 3)
    plain: NDArray[np.bool_]  # words without colour
    hidden: NDArray[np.bool_]

    @classmethod
    def of(cls, one: "Explanation", among: "Sequence[Explanation]", style: Style) -> "Shades":
        """Of one explanation, among those it is shown with."""
        scale, R = scale_of(one, among, style), one.relevance
        table = 255 - (255 - scale.table().astype(float)) * style.opacity
        rows = np.minimum((scale.position(R) * 256).astype(int), 255)
        size = np.abs(R)
        plain = size <= LEAST * max(abs(scale.low), abs(scale.high))
        hidden = np.zeros(len(R), bool)
        if style.masks:
            hidden = level(R, replace(style, interpolation="nearest")) > R
            plain = np.ones(len(R), bool)
        shades = np.rint(table).astype(np.uint8)
        return cls(scale, shades, shades[rows], plain, hidden)

    def hex(self, word: int) -> str:
        """`#fdd0a2`."""
        return "#{:02x}{:02x}{:02x}".format(*self.colours[word].tolist())

    def ink(self, word: int) -> str:
        """Black or white, whichever can be read on the colour."""
        return "black" if luminance(self.colours[word]) > 0.18 else "white"


def luminance(colour: NDArray[np.uint8]) -> float:
    """Relative luminance of sRGB; 0.18 is as far from black as from white (WCAG 2)."""
    c = colour / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def scale_of(one: "Explanation", among: "Sequence[Explanation]", style: Style) -> Scale:
    """White is zero: from 0 to the largest value, or from -m to m where any value of this method is negative."""
    alike = [e.relevance for e in among if method(e) == method(one)]
    signed = any(bool(m.min() < -NOISE * np.abs(m).max()) for m in alike)
    maps = alike if style.shared_scale else [one.relevance]
    scale = Scale.of(maps, style.colours or (None if signed else PAPER), style.limits, style.clip or 0.0, signed)
    return scale if signed or style.limits else replace(scale, low=0.0, high=scale.high if scale.high > 0 else 1.0)


def told(one: "Explanation") -> str:
    """`for cat: “purrs” 0.41, “soft” 0.2; against: “barks” −0.3`: the words that stand out."""
    R = one.relevance
    order = np.argsort(-np.abs(R), kind="stable")
    parts = []
    for side, sign in ((f"for {printable(one.name)}", 1), ("against", -1)):
        found = [i for i in order[: 50 * TOP] if R[i] * sign > 0][:TOP]
        # a left-to-right mark, or the number would go before a word that is written from the right
        listed = ", ".join(f"{QUOTES[0]}{shown(one, i)}{QUOTES[1]}\u200e {number(float(R[i]))}" for i in found)
        parts += [f"{side}: {listed}"] if found else []
    return "; ".join(parts) or "every word has the value zero"


def shown(one: "Explanation", word: int) -> str:
    """A word on one line."""
    assert one.words is not None
    return " ".join(clean(one.words.names[word]).split()) or "line break"


def cut(one: "Explanation") -> str:
    """What is said where a text was not read whole, or ""."""
    assert one.words is not None
    (a, b), text = one.words.read, one.words.text
    unread = len(text[:a].strip()) + len(text[b:].strip())
    return f"grey: {unread:,} of {len(text):,} characters that the model did not read" if unread else ""
