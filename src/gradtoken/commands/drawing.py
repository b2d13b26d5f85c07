"""What the shell can say of drawings and of what is drawn."""

from pathlib import Path
from typing import Annotated, Any

import typer

Colours = Annotated[str | None, typer.Option(help="A colour map of matplotlib, for example jet.")]
Nearest = Annotated[bool, typer.Option("--nearest", help="Patches as squares, not smoothed.")]
Threshold = Annotated[float | None, typer.Option(help="Dim what is below this share of the maximum.")]
Pictures = Annotated[list[str] | None, typer.Argument(help="Pictures, sounds, folders, patterns, .txt; - reads stdin.")]
Form = Annotated[str | None, typer.Option("--format", help="png (default), svg, pdf, gif, html, npy, npz, json, txt.")]
Sheet = Annotated[Path, typer.Option("--out", "-o", help="png, svg, pdf, html, npz, json.")]
Blank = Annotated[bool, typer.Option("--allow-blank", help="Also draw maps that are zero.")]


def styled(colours: str | None, nearest: bool, threshold: float | None, shared_scale: bool) -> dict[str, Any]:
    """The options of the drawing that were given, checked before anything is computed."""
    from gradtoken.draw.style import Style

    style = {"colours": colours, "interpolation": "nearest" if nearest else None, "threshold": threshold}
    given = {name: value for name, value in style.items() if value is not None} | {"shared_scale": shared_scale}
    Style.of(**given)
    return given
