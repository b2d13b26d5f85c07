"""A web page in one file: overlays, the value of each patch under the pointer, and how the map was made."""

import base64
import html
import io
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from PIL import Image

from gradtoken.draw.figure import printable, scale_of, shrunk
from gradtoken.draw.overlay import overlay
from gradtoken.errors import BadRelevance

if TYPE_CHECKING:
    from gradtoken.result import Explanation

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif }}
body {{ margin: 1.5rem; max-width: 75rem }}
.maps {{ display: flex; flex-wrap: wrap; gap: 1.2rem }}
figure {{ margin: 0; max-width: min(100%, 30rem) }}
figure img {{ display: block; max-width: 100%; height: auto; touch-action: none }}
figcaption {{ margin-top: .3rem }} output {{ display: block; min-height: 1.5em; font-variant-numeric: tabular-nums }}
th {{ text-align: left; font-weight: normal; opacity: .7; padding-right: 1rem; vertical-align: top }}
</style>
<h1>{title}</h1><div class="maps">{figures}</div><table>{facts}</table>
<script>
for (const figure of document.querySelectorAll("figure[data-map]")) {{
  const map = JSON.parse(figure.dataset.map), image = figure.querySelector("img"), out = figure.querySelector("output");
  image.addEventListener("pointermove", event => {{
    const x = event.offsetX / image.clientWidth, y = event.offsetY / image.clientHeight, [x0, y0, x1, y1] = map.box;
    const column = Math.floor((x - x0) / (x1 - x0) * map.values[0].length);
    const row = Math.floor((y - y0) / (y1 - y0) * map.values.length);
    const value = map.values[row] && map.values[row][column];
    out.textContent = value === undefined ? "not seen by the model" : `row ${{row}}, column ${{column}}: ${{value}}`;
  }});
  image.addEventListener("pointerleave", () => out.textContent = "");
}}
</script>
</html>
"""


def page(explanations: "Sequence[Explanation]", *, shared_scale: bool = False, **style: Any) -> str:
    """The whole document. Style as in `figure`."""
    if explanations[0].picture is None:
        raise BadRelevance("this explanation holds no picture to draw on; save it as npz or json, or give the picture")
    figures = "".join(panel(one, explanations if shared_scale else [one], style) for one in explanations)
    title = text(", ".join(dict.fromkeys(one.name for one in explanations)))
    return PAGE.format(title=title, figures=figures, facts=facts(explanations[0]))


def panel(one: "Explanation", among: "Sequence[Explanation]", style: dict[str, Any]) -> str:
    """One overlay with its caption."""
    assert one.picture is not None
    shown, factor = shrunk(one.picture)
    width, height = one.picture.size
    options = {name: value for name, value in style.items() if name != "colours"}
    box = tuple(edge * factor for edge in one.box)
    drawn = overlay(shown, one.relevance, box, scale_of(one, among, style.get("colours")), **options)  # type: ignore[arg-type]
    share = [one.box[0] / width, one.box[1] / height, one.box[2] / width, one.box[3] / height]
    values = [[float(f"{value:.4g}") for value in row] for row in one.relevance.tolist()]
    data = text(json.dumps({"box": share, "values": values}))
    sure = "" if one.probability is None else f", probability {one.probability:.3f}"
    caption = f"{text(one.name)}{sure}, {text(one.method)}"
    return (
        f'<figure data-map="{data}"><img src="{data_uri(drawn)}" alt="heat map for {text(one.name)}">'
        f"<figcaption>{caption}<output></output></figcaption></figure>"
    )


def facts(one: "Explanation") -> str:
    """How the maps were made, as table rows."""
    rows = {
        "file": one.source,
        "model": one.model,
        "note": one.note,
        "predicted": ", ".join(f"{name} {probability:.3f}" for name, probability in one.predicted),
        "options": json.dumps(one.options),
        "preprocessing": json.dumps(one.preprocessing),
        "versions": json.dumps(one.versions),
    }
    return "".join(f"<tr><th>{name}<td>{text(value)}" for name, value in rows.items() if value)


def text(value: str) -> str:
    """Safe inside HTML, attributes included."""
    return html.escape(printable(value), quote=True)


def data_uri(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
