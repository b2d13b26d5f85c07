"""Texts as figures: words on their colours, in lines as wide as the page."""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from gradtoken.draw.layout import BAR, BOLD, LINE, MARGIN, NAME, SPACE, Place
from gradtoken.draw.panels import GREY, SMALL, draw_scale
from gradtoken.draw.style import Style
from gradtoken.draw.texts import Shades, clean, cut, slices, told
from gradtoken.draw.words import doubts, fit, method, score

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from gradtoken.result import Explanation

WIDE = 7.0  # inches of a line
SIZE, STEP = 10.0, 0.21  # font size in points; from line to line in inches
MOST = 60  # lines of a text; the rest is in the other formats
PALE, FAINT = "0.6", "0.75"  # what was not read, and what a mask hides


@dataclass(frozen=True)
class Word:
    """Something drawn at once. x: inches from the left; number: of its value, None for none; ink: its colour."""

    text: str
    x: float
    width: float
    number: int | None
    ink: str


@dataclass(frozen=True)
class Block:
    """One explanation as it is drawn."""

    one: "Explanation"
    shades: Shades
    names: list[str]
    facts: list[str]
    lines: list[list[Word]]
    below: list[str]

    @property
    def total(self) -> float:
        """In inches."""
        return LINE * (len(self.names) + len(self.facts) + len(self.below)) + STEP * len(self.lines) + BAR + 4 * SPACE


def block(one: "Explanation", among: "Sequence[Explanation]", style: Style) -> Block:
    """The lines of one explanation."""
    shades = Shades.of(one, among, style)
    facts = [score(one), method(one), *doubts(one)]
    lines = list(flowed(one, shades))
    more = [f"the first {MOST} of {len(lines)} lines; .html shows all"] if len(lines) > MOST else []
    below = [line for note in (told(one), cut(one), *more) if note for line in fit(drawable(note), WIDE, SMALL, 3)]
    names = fit(drawable(one.name), WIDE, NAME, 2, BOLD)
    return Block(one, shades, names, [line for fact in facts for line in fit(fact, WIDE, SMALL)], lines[:MOST], below)


def flowed(one: "Explanation", shades: Shades) -> Iterator[list[Word]]:
    """Lines of words; those of a script that is written from the right begin there."""
    assert one.words is not None
    line: list[Word] = []
    for text, number, read in tokens(one):
        if text == "\n":
            yield placed(line)
            line = []
            continue
        used = sum(word.width for word in line)
        for part, width in fitting(text, used):
            if line and sum(word.width for word in line) + width > WIDE:
                yield placed(line)
                line = []
            if line or not part.isspace():
                ink = PALE if not read else "black" if number is None else shades.ink(number)
                ink = FAINT if number is not None and shades.hidden[number] else ink
                ink = "black" if number is not None and shades.plain[number] and not shades.hidden[number] else ink
                line.append(Word(part, 0.0, width, number, ink))
    yield placed(line)


def tokens(one: "Explanation") -> Iterator[tuple[str, int | None, bool]]:
    """Words, blanks and line breaks of the text, in order."""
    assert one.words is not None
    for part in slices(one.words):
        for i, line in enumerate(drawable(part.text).split("\n")):
            if i:
                yield "\n", None, part.read
            if part.word is not None and line:
                yield line, part.word, True
                continue
            for j, word in enumerate(line.replace("\t", " ").split(" ")):
                if j:
                    yield " ", None, part.read
                if word:
                    yield word, None, part.read


def fitting(text: str, used: float) -> Iterator[tuple[str, float]]:
    """The text with its width; in parts where it is wider than a whole line."""
    while width_of(text) > WIDE:
        keep = max(1, int(len(text) * (WIDE - used) / width_of(text) * 0.95)) if used < WIDE else 1
        while keep > 1 and width_of(text[:keep]) > WIDE:
            keep -= 1
        yield text[:keep], width_of(text[:keep])
        text, used = text[keep:], 0.0
    yield text, width_of(text)


def placed(line: list[Word]) -> list[Word]:
    """With their places: from the left, or from the right where the first letter is written so."""
    strong = (unicodedata.bidirectional(c) for word in line for c in word.text)
    right = next((kind in ("R", "AL") for kind in strong if kind in ("L", "R", "AL")), False)
    found, x = [], 0.0
    for word in line:
        at = WIDE - x - word.width if right else x
        found.append(Word(word.text, at, word.width, word.number, word.ink))
        x += word.width
    return found


def draw(sheet: "Figure", b: Block, top: float, masked: bool) -> None:
    """One explanation, its upper edge at `top`."""
    from matplotlib.patches import Rectangle

    place = Place(sheet, MARGIN, top - b.total, WIDE, b.total)
    y = b.total
    for line, font in [(n, {"fontsize": NAME, "fontweight": "bold"}) for n in b.names] + [
        (f, {"fontsize": SMALL, "color": GREY}) for f in b.facts
    ]:
        y -= LINE
        place.write(line, y, **font)
    ax: Any = place.axes()
    ax.axis("off")
    ax.set(xlim=(0, WIDE), ylim=(0, b.total))
    y -= SPACE
    for words in b.lines:
        y -= STEP
        for word in words:
            if word.number is not None and not b.shades.plain[word.number]:
                colour = b.shades.colours[word.number] / 255
                ax.add_patch(Rectangle((word.x, y + 0.01), word.width, STEP - 0.03, color=colour, linewidth=0))
            ax.text(word.x, y + 0.055, word.text, fontsize=SIZE, color=word.ink, va="baseline")
    if not masked and b.one.relevance.any():
        strip = place.axes(low=y - 0.15, height=0.065)
        draw_scale(strip, b.shades.scale)
        strip.images[0].set_data(b.shades.table[None])
    y -= BAR + SPACE
    for line in b.below:
        y -= LINE
        place.write(line, y, fontsize=SMALL, color=GREY)


# Fonts ----------------------------------------------------------------------------------------------------------------


def drawable(text: str) -> str:
    """With a square for what no font has; marks that only steer the look of a sign are left out."""
    known = characters()
    kept = (c for c in clean(text) if c not in "\u200b\u200d\u200e\u200f\ufe0e\ufe0f")
    return "".join(c if c in "\n\t" or ord(c) in known else "\N{WHITE SQUARE}" for c in kept)


@lru_cache(maxsize=1)
def fonts() -> tuple[Any, ...]:
    """Those of figures that are installed, opened."""
    from matplotlib import font_manager

    from gradtoken.draw.sheet import FONTS

    known = {font.name: font.fname for font in font_manager.fontManager.ttflist if font.style == "normal"}
    return tuple(font_manager.get_font(known[name]) for name in FONTS if name in known)


@lru_cache(maxsize=1)
def characters() -> frozenset[int]:
    """What these fonts have."""
    return frozenset(code for font in fonts() for code in font.get_charmap())


@lru_cache(maxsize=2**14)
def width_of(text: str) -> float:
    """Inches of a text on one line."""
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.font_manager import FontProperties

    from gradtoken.draw.sheet import SCREEN, settings

    with settings():
        width, _, _ = RendererAgg(10, 10, SCREEN).get_text_width_height_descent(text, FontProperties(size=SIZE), False)
    return float(width) / SCREEN
