"""A text on the terminal, its words on their colours."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from gradtoken.draw.colours import Scale
from gradtoken.draw.style import Style
from gradtoken.draw.texts import Shades, clean, cut, slices, told
from gradtoken.draw.words import doubts, method, printable, score
from gradtoken.errors import BadRelevance

if TYPE_CHECKING:
    from gradtoken.result import Explanation

FAINT = 0.15  # share of the largest value from which one of sixteen colours is given
MOST = 20_000  # characters that a terminal is given


def terminal(explanations: "Sequence[Explanation]", few: bool = False) -> Text:
    """Of each its target, its text, and the words that stand out; of a very long text the beginning.

    few: for a terminal of sixteen colours.
    """
    found = Text()
    for one in explanations:
        title = [score(one), method(one), *doubts(one)]
        found.append(printable(one.name), "bold").append(f"  {printable(', '.join(title))}\n", "dim")
        if one.words is not None:
            found.append_text(coloured(one, explanations, few)).append("\n")
            for note in filter(None, (told(one), cut(one), one.note)):
                found.append(clean(note) + "\n", "dim")
    return found


def coloured(one: "Explanation", among: "Sequence[Explanation]", few: bool) -> Text:
    """The slices of the text."""
    assert one.words is not None
    shades, found = Shades.of(one, among, Style()), Text()
    for part in slices(one.words):
        if len(found) > MOST:
            return found.append("\N{HORIZONTAL ELLIPSIS} (save as .html for the other characters)", "dim")
        look = "" if part.read else "dim"
        if part.word is not None and not shades.plain[part.word]:
            look = f"{shades.ink(part.word)} on {shades.hex(part.word)}"
            look = plain_look(float(one.relevance[part.word]), shades.scale) if few else look
        mark = "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}" if part.word is not None and part.text == "\n" else ""
        found.append(mark + clean(part.text), look)
    return found


def plain_look(value: float, scale: Scale) -> str:
    """Red for, blue against, yellow where nothing is against; from half of the largest value on the ground too."""
    colour = "yellow" if not scale.signed else "red" if value > 0 else "blue"
    share = abs(value) / max(abs(scale.low), abs(scale.high))
    ink = "black" if colour == "yellow" else "white"
    return f"{ink} on {colour}" if share >= 0.5 else colour if share >= FAINT else ""


def table(one: "Explanation") -> list[str]:
    """Lines for a file: what was explained, then relevance, first and end character, and the word of each value."""
    if one.words is None:
        raise BadRelevance(".txt lists the words of a text, and this is a picture; save it as .json for its values")
    lines = [f"# {printable(part)}" for part in (one.name, score(one), method(one), one.model, one.note) if part]
    for value, span, name in zip(one.relevance.tolist(), one.words.spans, one.words.names, strict=True):
        place = ("", "") if span is None else span
        lines.append(f"{value:.6g}\t{place[0]}\t{place[1]}\t{json.dumps(name, ensure_ascii=False)[1:-1]}")
    return lines
