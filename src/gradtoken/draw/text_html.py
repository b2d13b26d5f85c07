"""A text in a web page: its words on their colours, the value of each under the pointer."""

import html
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gradtoken.draw.colours import Scale
from gradtoken.draw.panels import ticks
from gradtoken.draw.style import Style
from gradtoken.draw.texts import Shades, clean, cut, shown, slices, told
from gradtoken.draw.words import number

if TYPE_CHECKING:
    from gradtoken.result import Explanation

PAGE = "white-space:pre-wrap;overflow-wrap:anywhere;background:#fff;color:#000;padding:.6em .8em;line-height:1.9"
SMALL = "font-size:.85em;margin-top:.3em"


def words(one: "Explanation", among: "Sequence[Explanation]", style: Style) -> str:
    """The text, what its colours mean, and the words that stand out."""
    shades = Shades.of(one, among, style)
    below = "" if style.masks or not one.relevance.any() else bar(shades)
    notes = [told(one), signs(one, shades.scale, style), cut(one)]
    lines = "".join(f'<div style="{SMALL}">{escaped(note)}</div>' for note in notes if note)
    return f'<div class="text" dir="auto" style="{PAGE}">{body(one, shades)}</div>{below}{lines}'


def body(one: "Explanation", shades: Shades) -> str:
    """Every slice of the text, once."""
    assert one.words is not None
    pieces = parts(one)
    found = []
    for part in slices(one.words):
        if part.word is None:
            found.append(
                escaped(part.text) if part.read else f'<span style="color:#737373">{escaped(part.text)}</span>'
            )
            continue
        i = part.word
        style = f"background:{shades.hex(i)};color:{shades.ink(i)};border-radius:.2em"
        style = "background:none;color:inherit" if shades.plain[i] else style
        style = "background:none;color:#737373" if shades.hidden[i] else style
        mark = "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}" if part.text in ("\n", "\r\n") else ""
        title = escaped(f"{shown(one, i)}: {number(float(one.relevance[i]))}{pieces[i]}")
        found.append(f'<mark style="{style}" title="{title}">{mark}{escaped(part.text)}</mark>')
    return "".join(found)


def parts(one: "Explanation") -> dict[int, str]:
    """` = un 0.1, forget 0.2`: the values of each word's pieces where it has several."""
    assert one.words is not None
    of_word = defaultdict[int, list[str]](list)
    for piece in one.words.pieces:
        name = clean(one.words.text[piece.start : piece.end]).strip() or "blank"
        of_word[piece.word].append(f"{name} {number(piece.relevance)}")
    told = {word: f" ({one.words.merge} of {', '.join(pieces)})" for word, pieces in of_word.items() if len(pieces) > 1}
    return defaultdict(str, told)


def signs(one: "Explanation", scale: Scale, style: Style) -> str:
    """What the two ends of the colours mean, where they are the usual ones."""
    if not scale.signed or style.colours is not None or style.masks:
        return ""
    return f"red speaks for {one.name}, blue against it, white is zero"


def bar(shades: Shades) -> str:
    """The colours, with the raw values at their ends and middle."""
    stops = ",".join("#{:02x}{:02x}{:02x}".format(*colour) for colour in shades.table[::15].tolist())
    numbers = "".join(f"<span>{escaped(tick)}</span>" for tick in ticks(shades.scale))
    return (
        f'<div style="height:.5em;margin-top:.4em;background:linear-gradient(90deg,{stops})"></div>'
        f'<div style="display:flex;justify-content:space-between;font-size:.85em">{numbers}</div>'
    )


def escaped(text: str) -> str:
    """Safe inside HTML, attributes included; line breaks stay."""
    return html.escape(clean(text), quote=True)
