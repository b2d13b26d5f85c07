"""Curves of erasing as a drawing inside the page, with a slider that erases the picture along."""

import json
from collections.abc import Sequence
from typing import Any

from gradtoken.draw import text_html
from gradtoken.draw.html import text, uri, values
from gradtoken.draw.overlay import resized
from gradtoken.draw.texts import slices
from gradtoken.draw.words import number, percent
from gradtoken.erasing import Curve
from gradtoken.result import Explanation

WIDTH, HEIGHT, LEFT, RIGHT, BOTTOM = 400, 230, 46, 22, 40  # of the drawing; its margins
HUES = 3  # of page.css: of Okabe and Ito, safe for colour-blind eyes, and lighter ones in the dark
WORDS = {True: "most relevant first", False: "least relevant first", None: ""}
SHOWN = 420  # pixels of the longest side of the picture that is erased


def chart(found: Sequence[Curve], name: str, what: str = "patches") -> str:
    """The curves with a legend that has their areas; solid: most relevant first, dashed: least, dotted: at random."""
    names = list(dict.fromkeys(curve.name for curve in found if curve.most_first is not None))
    lines = "".join(line(curve, names) for curve in found)
    rows = "".join(legend(curve, names) for curve in found)
    words = f"probability of {name} while {what} are erased: " + "; ".join(map(told, found))
    return (
        f'<svg class="gt-chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text(words)}">'
        f'{axes(name)}{lines}<line class="gt-at" x1="{LEFT}" x2="{LEFT}" y1="8" y2="{HEIGHT - BOTTOM}"/></svg>'
        '<table class="gt-legend"><thead><tr><th>order</th><th>area under the curve</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )


def told(curve: Curve) -> str:
    """A curve in words."""
    p = curve.probability
    return f"{titled(curve)}, from {percent(p[0])} over {percent(p[len(p) // 2])} half way, area {number(curve.area)}"


def titled(curve: Curve) -> str:
    """`gradtoken, most relevant first`."""
    return ", ".join(filter(None, (curve.name, WORDS[curve.most_first])))


def place(share: float, probability: float) -> tuple[float, float]:
    """Where a point of a curve stands in the drawing."""
    x = LEFT + share * (WIDTH - LEFT - RIGHT)
    return x, HEIGHT - BOTTOM - probability * (HEIGHT - BOTTOM - 8)


def line(curve: Curve, names: Sequence[str]) -> str:
    """One curve."""
    last = len(curve.probability) - 1
    points = " ".join("{:.1f},{:.1f}".format(*place(i / last, p)) for i, p in enumerate(curve.probability))
    return f'<polyline points="{points}" fill="none" {stroke(curve, names)}/>'


def stroke(curve: Curve, names: Sequence[str]) -> str:
    """Colour by method, dashes by order."""
    if curve.most_first is None:
        return 'stroke="currentColor" stroke-width="1.5" stroke-dasharray="2 4"'
    dashes = "" if curve.most_first else ' stroke-dasharray="8 4"'
    return f'class="gt-hue-{names.index(curve.name) % HUES}" stroke-width="2.5"{dashes}'


def legend(curve: Curve, names: Sequence[str]) -> str:
    """A row of the legend: a piece of the line, what it is, its area, and which way is better."""
    better = {True: " (lower is better)", False: " (higher is better)", None: ""}[curve.most_first]
    piece = f'<svg width="34" height="8" aria-hidden="true"><path d="M0 4H34" {stroke(curve, names)}/></svg>'
    return f"<tr><td>{piece} {text(titled(curve))}</td><td>{number(curve.area)}{better}</td></tr>"


def axes(name: str) -> str:
    """Lines at 0, 50 and 100 %, and what the axes are."""
    parts = []
    for share in (0.0, 0.5, 1.0):
        (x0, y), (x1, _), (x, low) = place(0, share), place(1, share), place(share, 0)
        parts.append(f'<line class="gt-grid" x1="{x0}" x2="{x1}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{share:.0%}</text>')
        parts.append(f'<text x="{x}" y="{low + 15}" text-anchor="middle">{share:.0%}</text>')
    short = name if len(name) <= 40 else name[:39] + "…"
    parts.append(f'<text x="{LEFT}" y="{HEIGHT - 4}">share erased; height: probability of {text(short)}</text>')
    return "".join(parts)


def eraser(one: Explanation, found: Sequence[Curve], grid: tuple[int, int]) -> str:
    """The picture, whose most relevant patches a slider erases. grid: rows and columns of the patches that go."""
    assert one.picture is not None
    small = resized(one.picture, (0, 0, 1, 1), SHOWN)[0]
    drawn = f'<div class="gt-canvas"><img src="{uri(small)}" alt="the picture, partly erased"><canvas></canvas></div>'
    return sliding(one, found, drawn, rows=grid[0], columns=grid[1], box=values(one)["box"])


def eraser_of_words(one: Explanation, found: Sequence[Curve]) -> str:
    """The text, whose most relevant words a slider erases."""
    assert one.words is not None
    parts = [
        text_html.escaped(s.text)
        if s.word is None
        else f'<span data-word="{s.word}">{text_html.escaped(s.text)}</span>'
        for s in slices(one.words)
    ]
    return sliding(one, found, f'<div class="gt-erased" dir="auto" tabindex="0">{"".join(parts)}</div>')


def sliding(one: Explanation, found: Sequence[Curve], drawn: str, **how: Any) -> str:
    """What is erased above its slider; page.js knows how."""
    curve = next(c for c in found if c.name == one.method and c.most_first)
    steps = {"probability": [round(float(p), 4) for p in curve.probability], "order": [int(i) for i in curve.order]}
    steps |= how | {"left": LEFT, "width": WIDTH - LEFT - RIGHT}
    words, last = f"erased, most relevant first by {one.method}", len(curve.probability) - 1
    return (
        f'<div class="gt-erase" data-erase="{text(json.dumps(steps))}">{drawn}'
        f'<label>{text(words)} <input type="range" min="0" max="{last}" value="0" step="1"></label>'
        '<output aria-live="polite"></output></div>'
    )
