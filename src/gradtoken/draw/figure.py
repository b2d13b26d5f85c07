"""Figures for a paper or a report: the picture, its maps, and a bar that says what the colours mean."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from gradtoken.draw.colours import Scale
from gradtoken.draw.overlay import overlay
from gradtoken.errors import BadRelevance

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from gradtoken.result import Explanation

PANEL = 3.1  # inches, the longer side of a panel
PIXELS = 1200  # a panel holds no more than this many pixels a side
FONTS = {"svg.fonttype": "none", "pdf.fonttype": 42, "font.size": 9}


def figure(explanations: "Sequence[Explanation]", *, shared_scale: bool = False, **style: Any) -> "Figure":
    """The picture on the left, then one panel a map with its colour bar; at most five panels a row.

    shared_scale: one scale for all maps of a method. style: colours, opacity, interpolation, threshold.
    """
    import matplotlib
    from matplotlib.figure import Figure

    picture = explanations[0].picture
    if picture is None:
        raise BadRelevance("this explanation holds no picture to draw on; save it as npz or json, or give the picture")
    shown, factor = shrunk(picture)
    width, height = panel_size(picture)
    columns = min(len(explanations) + 1, 5)
    rows = -(-(len(explanations) + 1) // columns)
    with matplotlib.rc_context(FONTS):
        canvas = Figure(figsize=(columns * (width + 0.75), rows * (height + 0.75)), layout="constrained")
        axes = canvas.subplots(rows, columns, squeeze=False).ravel()
        for ax in axes:
            ax.axis("off")
        axes[0].imshow(shown, interpolation="none")
        axes[0].set_title(headline(explanations[0]), parse_math=False)
        for ax, one in zip(axes[1:], explanations, strict=False):
            scale = scale_of(one, explanations if shared_scale else [one], style.get("colours"))
            draw(ax, one, shown, factor, scale, style)
        canvas.text(0.01, 0.0, footer(explanations), fontsize=6.5, color="0.4", va="bottom", parse_math=False)
    return canvas


def scale_of(one: "Explanation", among: "Sequence[Explanation]", colours: str | None) -> Scale:
    """The scale of one map, shared with those of the same method among the given ones."""
    return Scale.of([e.relevance for e in among if e.method == one.method], colours)


def draw(ax: Any, one: "Explanation", shown: Image.Image, factor: float, scale: Scale, style: dict[str, Any]) -> None:
    """One panel: overlay, title, colour bar."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    box = tuple(edge * factor for edge in one.box)
    options = {name: value for name, value in style.items() if name != "colours"}
    ax.imshow(overlay(shown, one.relevance, box, scale, **options), interpolation="none")  # type: ignore[arg-type]
    ax.set_title(caption(one), parse_math=False)
    colours = ScalarMappable(Normalize(scale.low, scale.high), scale.name)
    bar = ax.figure.colorbar(
        colours, ax=ax, fraction=0.04, pad=0.02, format="%.2g", ticks=np.linspace(scale.low, scale.high, 3)
    )
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=6.5, length=2)


def caption(one: "Explanation") -> str:
    """`cat, probability 0.81`, cut to a panel's width."""
    name = one.name if len(one.name) <= 28 else one.name[:27] + "…"
    sure = f"score {one.logit:.2f}" if one.probability is None else f"probability {one.probability:.2f}"
    return f"{printable(name)}\n{sure}"


def headline(one: "Explanation") -> str:
    """What the model predicts."""
    if not one.predicted:
        return "picture\n"
    name, probability = one.predicted[0]
    return f"picture\npredicted {printable(name.split(',')[0][:24])} {probability:.2f}"


def footer(explanations: "Sequence[Explanation]") -> str:
    """Model and methods."""
    methods = dict.fromkeys(
        " ".join([e.method, *(f"{name}={value}" for name, value in e.options.items())]) for e in explanations
    )
    return printable(f"{explanations[0].model} · {', '.join(methods)} · colour bars: raw relevance")


def printable(text: str) -> str:
    """Text without control characters, which fonts and SVG cannot show."""
    return "".join(c if c.isprintable() else "�" for c in text)


def shrunk(picture: Image.Image) -> tuple[Image.Image, float]:
    """The picture at no more pixels than a panel can show, and by how much it shrank."""
    factor = min(1.0, PIXELS / max(picture.size))
    if factor == 1.0:
        return picture, 1.0
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    return picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=3), factor


def panel_size(picture: Image.Image) -> tuple[float, float]:
    """Width and height of a panel in inches; very long pictures keep a legible short side."""
    width, height = picture.size
    longer = max(width, height)
    return max(1.6, PANEL * width / longer), max(0.9, PANEL * height / longer)


def rendered(canvas: "Figure", form: str) -> bytes:
    """The figure as a file: png, svg or pdf."""
    import matplotlib

    buffer = io.BytesIO()
    facts: dict[str, Any] = {"metadata": {"Date": None}} if form == "svg" else {}
    with matplotlib.rc_context(FONTS):
        canvas.savefig(buffer, format=form, dpi=200, bbox_inches="tight", pad_inches=0.06, **facts)
    return buffer.getvalue()
