"""A web page in one file: overlays, the value of each patch under the pointer, and how the maps were made."""

import base64
import html
import io
import json
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gradtoken.draw.colours import Scale
from gradtoken.draw.panels import canvas, drawn, map_note, scale_of, ticks
from gradtoken.draw.spectrogram import beyond_note, html_ticks
from gradtoken.draw.style import Style
from gradtoken.draw.words import doubts, method, percent, printable, score
from gradtoken.errors import BadRelevance

if TYPE_CHECKING:
    from gradtoken.result import Explanation

LONGEST = 900  # pixels of a picture in a page
FIGURE = "margin:0;flex:1 1 12rem;min-width:0;max-width:30rem"  # side by side as long as there is room
LISTED, HOVER = 2**12, 2**20  # most values of a map that a page lists as text; that it holds at all


def page(explanations: "Sequence[Explanation]", **options: Any) -> str:
    """The page of some maps. options: see `Style`."""
    if not explanations:
        raise BadRelevance("there is no explanation to draw; give at least one")
    style = Style.of(**options)
    figures = "".join(panel(one, explanations, style, live=True) for one in explanations)
    return document(explanations, f'<div class="maps">{figures}</div>')


def document(explanations: "Sequence[Explanation]", body: str) -> str:
    """A whole document around maps, which fetches nothing."""
    title = text(", ".join(dict.fromkeys(one.name for one in explanations)))
    parts = {"title": title, "body": body, "facts": facts(explanations)}
    head, *pieces = template().split("{{")
    return head + "".join(parts[name] + rest for name, rest in (piece.split("}}", 1) for piece in pieces))


def fragment(explanations: "Sequence[Explanation]", **options: Any) -> str:
    """Overlays and captions for a notebook, without script or style sheet."""
    style = Style.of(**options)
    figures = "".join(panel(one, explanations, style, live=False) for one in explanations)
    return f'<div style="display:flex;flex-wrap:wrap;gap:1rem">{figures}</div>'


@lru_cache
def template() -> str:
    """The page without its contents; `{{name}}` marks where they go."""
    return files("gradtoken.draw").joinpath("page.html").read_text(encoding="utf-8")


def panel(one: "Explanation", among: "Sequence[Explanation]", style: Style, live: bool) -> str:
    """One map with its caption and its colour bar; live: with the picture beneath and the values."""
    name = f"<b>{text(one.name)}</b><br>{text(score(one))}<br>{text(method(one))}"
    name += "".join(f"<br>{text(note)}" for note in [*doubts(one), *beyond_note(one.axes)])
    if one.words is not None:
        from gradtoken.draw.text_html import words

        inner = words(one, among, style)
        return f'<figure class="words" style="margin:0;max-width:60rem"><figcaption>{name}</figcaption>{inner}</figure>'
    if one.relevance.ndim == 1:
        return f'<figure style="{FIGURE}"><figcaption>{name}</figcaption>{as_image(one)}</figure>'
    scale = scale_of(one, among, style)
    ticked = "" if one.axes is None else html_ticks(one.axes)
    below = text(map_note(one, style)) or bar(scale)
    heat = f'<img class="heat" style="max-width:100%" src="{uri(drawn(one, scale, LONGEST, style))}" '
    heat += f'alt="heat map for {text(one.name)}">'
    data, under = "", ""
    if live:
        data = f' data-map="{text(json_of(one))}"'
        under = f'<img src="{uri(canvas(one, LONGEST, style)[0])}" alt="{text(one.source or "picture")}">'
    return (
        f'<figure style="{FIGURE}"{data}><figcaption>{name}</figcaption>'
        f'<div class="stack" style="position:relative">{under}{heat}{ticked}</div>{below}<output></output></figure>'
    )


def as_image(one: "Explanation") -> str:
    """The figure of a map without a grid."""
    from gradtoken.draw.figure import figure, rendered

    content = base64.b64encode(rendered(figure([one]), "png")).decode()
    return f'<img style="max-width:100%" src="data:image/png;base64,{content}" alt="relevance of each token">'


def bar(scale: Scale) -> str:
    """The colours, with the raw values at their ends and middle."""
    stops = ",".join("#{:02x}{:02x}{:02x}".format(*colour) for colour in scale.table()[::15])
    numbers = "".join(f"<span>{text(tick)}</span>" for tick in ticks(scale))
    return (
        f'<div style="height:.5em;margin-top:.4em;background:linear-gradient(90deg,{stops})"></div>'
        f'<div style="display:flex;justify-content:space-between;font-size:.85em">{numbers}</div>'
    )


def json_of(one: "Explanation") -> str:
    """The values of a map for the script of a page."""
    return json.dumps(values(one))


def values(one: "Explanation") -> dict[str, Any]:
    """What the page needs to say the value under the pointer: the box in shares of the picture, and the map."""
    width, height = one.picture.size if one.picture is not None else one.relevance.shape[::-1]
    x0, y0, x1, y1 = (one.box if one.picture is not None else None) or (0, 0, width, height)
    rows, columns = one.relevance.shape
    place: dict[str, Any] = {"box": [x0 / width, y0 / height, x1 / width, y1 / height]}
    place |= {"rows": rows, "columns": columns}
    if one.axes is not None:
        place |= {"seconds": one.axes.seconds, "hertz": [round(hertz) for hertz in one.axes.hertz]}
    if one.relevance.size <= LISTED:
        return place | {"values": [[float(f"{value:.4g}") for value in row] for row in one.relevance.tolist()]}
    return place | halves(one.relevance) if one.relevance.size <= HOVER else place


def halves(relevance: NDArray[Any]) -> dict[str, Any]:
    """A map of pixels as shares of its largest magnitude in half precision, three digits each, little-endian."""
    unit = float(np.abs(relevance).max()) or 1.0
    content = base64.b64encode((relevance / unit).astype("<f2").tobytes()).decode()
    return {"unit": unit, "halves": content}


def facts(explanations: "Sequence[Explanation]") -> str:
    """How the maps were made, as table rows; what differs between them is listed once each."""
    rows: dict[str, dict[str, None]] = {}
    for one in explanations:
        found = {
            "file": one.source,
            "model": one.model,
            "method": method(one),
            "note": one.note,
            "predicted": ", ".join(f"{name} {percent(p)}" for name, p in one.predicted),
            "preprocessing": listing(one.preprocessing),
            "versions": listing(one.versions),
        }
        for name, value in found.items():
            rows.setdefault(name, {}).setdefault(value)
    cells = {name: "; ".join(filter(None, found)) for name, found in rows.items()}
    return "".join(f"<tr><th>{name}</th><td>{text(value)}</td></tr>" for name, value in cells.items() if value)


def listing(mapping: dict[str, Any]) -> str:
    """`torch 2.6, gradtoken 0.1`."""
    return ", ".join(f"{name} {value}" for name, value in mapping.items())


def text(value: str) -> str:
    """Safe inside HTML, attributes included."""
    return html.escape(printable(value), quote=True)


def uri(picture: Image.Image) -> str:
    """The picture inside the page."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=92, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
