"""The web page of a comparison: a row for each picture and class, a column for each method."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradtoken.draw.caption import footer
from gradtoken.draw.colours import Scale
from gradtoken.draw.html import bar, document, json_of, text, uri
from gradtoken.draw.overlay import resized
from gradtoken.draw.panels import drawn, map_note, scale_of
from gradtoken.draw.style import Style
from gradtoken.draw.words import base_name, score

if TYPE_CHECKING:
    from gradtoken.comparison import Cell, Column, Comparison, Row
    from gradtoken.result import Explanation

CELL, FITS = "padding:.2rem .4rem", "max-width:100%;height:auto"  # not every notebook keeps pictures in their cells
LONGEST, SMALL = 416, 208  # pixels of a picture in a page, and in a notebook


def page(comparison: "Comparison", **options: Any) -> str:
    """The whole document, with the values under the pointer. options: see `Style`."""
    style = Style.of(**options)
    pictures = list({id(row.picture): row.picture for row in comparison.rows}.values())
    sources = [uri(resized(picture, (0, 0, 1, 1), LONGEST)[0]) for picture in pictures]
    # each picture is in the page once, however many maps lie over it
    rules = "".join(f".picture-{i}{{background-image:url({source})}}" for i, source in enumerate(sources))
    places = {id(picture): i for i, picture in enumerate(pictures)}
    rows = "".join(row_of(comparison, i, style, places[id(row.picture)]) for i, row in enumerate(comparison.rows))
    body = f'<style>{rules}</style><div class="wide"><table class="grid">{head(comparison.columns)}{rows}</table></div>'
    body += f"<p>{text(footer(comparison, style))}</p>"
    return document(comparison.explanations, body)


def fragment(comparison: "Comparison", **options: Any) -> str:
    """The table for a notebook, without script or style sheet."""
    style = Style.of(**options)
    rows = "".join(row_of(comparison, i, style, None) for i in range(len(comparison.rows)))
    columns = 1 + len(comparison.columns)
    fixed = f"table-layout:fixed;width:100%;min-width:{10 * columns + 8}rem;max-width:{13 * columns + 9}rem"
    table = f'<table style="{fixed}">{head(comparison.columns)}{rows}</table>'
    return f'<div style="overflow-x:auto">{table}</div>'


def head(columns: "Sequence[Column]") -> str:
    """Titles of the columns."""
    cells = "".join(f"<th>{text(c.title)}{small(c.note) if c.note else ''}</th>" for c in columns)
    return f'<thead><tr><th style="width:8rem"></th><th>picture</th>{cells}</tr></thead>'


def row_of(comparison: "Comparison", number: int, style: Style, picture: int | None) -> str:
    """One row; its picture only where the row above has another. picture: its number in a page; None for a notebook."""
    row = comparison.rows[number]
    name = f"<th>{text(row.name)}{''.join(map(small, [*score(row).split(', '), base_name(row.source)]))}</th>"
    alike = 0 if number and comparison.rows[number - 1].picture is row.picture else run_of(comparison.rows[number:])
    image_of = uri(resized(row.picture, (0, 0, 1, 1), SMALL if picture is None else LONGEST)[0])
    bare = (
        f'<td rowspan="{alike}" style="{CELL}"><img style="{FITS}" src="{image_of}" alt="picture"></td>'
        if alike
        else ""
    )
    cells = "".join(
        f'<td style="{CELL}">{cell_of(cell, comparison.column(i), style, picture)}</td>'
        for i, cell in enumerate(row.cells)
    )
    return f"<tr>{name}{bare}{cells}</tr>"


def run_of(rows: "Sequence[Row]") -> int:
    """How many of the first rows show one picture."""
    return next((i for i, row in enumerate(rows) if row.picture is not rows[0].picture), len(rows))


def cell_of(cell: "Cell", among: "Sequence[Explanation]", style: Style, picture: int | None) -> str:
    """A map over its picture, or why there is none. among: the maps of its column."""
    one = cell.explanation
    if one is None:
        return f'<div style="max-width:13rem">no map{small(cell.refusal)}</div>'
    scale = scale_of(one, among, style)
    below = small(map_note(one, style)) if map_note(one, style) else bar(scale)
    if picture is None:
        return f'{image(one, scale, SMALL, style)}<div style="font-size:.75em">{below}</div>'
    stack = f'<div class="stack picture-{picture}">{image(one, scale, LONGEST, style)}</div>'
    return f'<figure data-picture="{picture}" data-map="{text(json_of(one))}">{stack}{below}<output></output></figure>'


def image(one: "Explanation", scale: Scale, longest: int, style: Style) -> str:
    """The map over its picture."""
    alt = f"{one.method} for {one.name}" if one.class_aware else one.method
    return f'<img class="heat" style="{FITS}" src="{uri(drawn(one, scale, longest, style))}" alt="{text(alt)}">'


def small(words: str) -> str:
    """A line below, in small letters."""
    return f'<small style="display:block;font-weight:normal">{text(words)}</small>'
