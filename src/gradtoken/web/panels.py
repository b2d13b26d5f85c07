"""The parts of the page that show results, as HTML. Whatever came from outside goes through `text`."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from gradtoken.comparison import Cell, Column
from gradtoken.draw import text_html
from gradtoken.draw.colours import Scale
from gradtoken.draw.html import bar, text, uri, values
from gradtoken.draw.overlay import resized
from gradtoken.draw.panels import drawn, map_note, scale_of
from gradtoken.draw.style import Style
from gradtoken.draw.words import AGNOSTIC, base_name, percent
from gradtoken.models.labels import plain
from gradtoken.result import Explanation

if TYPE_CHECKING:
    from gradtoken.web.passages import Passage
    from gradtoken.web.subjects import Subject

PREVIEW, THUMB = 480, 200  # pixels of the longest side: the picture itself; a variant
SIZES = ((2, 720), (6, 520), (99, 360))  # up to so many maps: pixels of the longest side of each


def message(words: str, kind: str = "error") -> str:
    """What went wrong, or nothing. kind: error or note."""
    role = "alert" if kind == "error" else "status"
    return f'<div class="gt-message gt-{kind}" role="{role}">{text(words)}</div>' if words else ""


def said(words: str) -> str:
    """A remark."""
    return f'<p class="gt-note">{text(words)}</p>'


def picture(subject: "Subject") -> str:
    """The picture that is explained, and what was found in it."""
    small = resized(subject.picture, (0, 0, 1, 1), min(PREVIEW, max(subject.picture.size)))[0]
    width, height = subject.picture.size
    name = base_name(subject.source) or "picture"
    facts = text(f"{name} · {width} x {height} pixels · {subject.model.name}")
    shown = image(small, f"the picture {name}")
    return f'<figure class="gt-picture">{shown}<figcaption>{facts}</figcaption></figure>'


def drop(most: int, samples: Mapping[str, tuple[Image.Image, str]]) -> str:
    """Where a picture is dropped, pasted or picked, and the samples. most: bytes of a file."""
    limit = f"{most // 2**20} MB"
    buttons = "".join(
        f'<button type="button" data-sample="{text(name)}" title="{text(words)}">{image(thumb, words)}</button>'
        for name, (thumb, words) in samples.items()
    )
    return (
        f'<label class="gt-drop" data-most="{most}"><input type="file" accept="image/*" id="gt-file">'
        f"<span><b>Drop, paste or pick a picture</b><br>up to {limit}; it is not kept</span></label>"
        f'<div class="gt-sent" role="status" aria-live="polite"></div>'
        f'<div class="gt-samples" role="group" aria-label="sample pictures">{buttons}</div>'
    )


def image(drawing: Image.Image, words: str) -> str:
    """A picture within the page."""
    return f'<img src="{uri(drawing)}" alt="{text(words)}">'


def classes(subject: "Subject | Passage", chosen: Sequence[int], words: str = "") -> str:
    """Buttons of classes with their probabilities: those chosen and the most probable, or those that hold the words."""
    found = looked_up(subject, words)
    listed = list(dict.fromkeys([*chosen, *found])) if not words.strip() else found
    if not found:
        near = f"no class holds {words.strip()[:60]!r}; there are {len(subject.names)}"
        return f'<p role="status">{text(near)}</p>'
    rows = "".join(class_row(subject, i, chosen) for i in listed)
    return f'<ul class="gt-classes">{rows}</ul>'


def looked_up(subject: "Subject | Passage", words: str, most: int = 6) -> list[int]:
    """Classes whose name holds all the words, or whose index it is; the most probable first. All, without words."""
    wanted = plain(words).split()
    order = np.argsort(-subject.probabilities, kind="stable").tolist()
    if wanted:
        order = [i for i in order if [str(i)] == wanted or all(w in plain(subject.names[i]) for w in wanted)]
    return [int(i) for i in order[:most]]


def class_row(subject: "Subject | Passage", index: int, chosen: Sequence[int]) -> str:
    """A class: one button explains it, the other puts it beside the one that is explained."""
    name, p = subject.names[index], float(subject.probabilities[index])
    pressed = str(index in chosen).lower()
    beside = "remove" if index in chosen[1:] else "compare"
    label = f"{beside} {name}"
    second = (
        f'<button type="button" class="gt-beside" data-beside="{index}" aria-label="{text(label)}">{beside}</button>'
    )
    if index in chosen[:1]:
        second = '<span class="gt-beside"></span>'
    return (
        f'<li><button type="button" class="gt-class" data-class="{index}" aria-pressed="{pressed}">'
        f'<span class="gt-bar" style="width:{100 * p:.0f}%"></span>'
        f'<span class="gt-name">{text(name)}</span><span class="gt-p">{text(percent(p))}</span></button>{second}</li>'
    )


# Maps -----------------------------------------------------------------------------------------------------------------


def maps(table: Sequence[tuple[Column, Sequence[Cell]]], options: dict[str, Any]) -> str:
    """A row for each method, with the classes side by side. options: see `Style`."""
    style = Style.of(**options)
    count = sum(len(cells) for _, cells in table)
    longest = next(pixels for most, pixels in SIZES if count <= most or most == SIZES[-1][0])
    rows = "".join(method_row(column, cells, style, longest) for column, cells in table)
    return f'<div class="gt-maps gt-columns-{len(table[0][1])} gt-size-{longest}">{rows}</div>'


def method_row(column: Column, cells: Sequence[Cell], style: Style, longest: int) -> str:
    """The maps of one method."""
    from gradtoken.methods import METHODS

    entry = METHODS[column.method]
    note = "" if entry.class_aware else f'<span class="gt-note">{AGNOSTIC}</span>'
    among = [cell.explanation for cell in cells if cell.explanation is not None]
    figures = "".join(figure(cell, among, style, longest) for cell in cells)
    title = f'<h2 title="{text(entry.summary)}">{text(column.title)}{note}</h2>'
    return f'<section aria-label="{text(column.title)}">{title}<div class="gt-row">{figures}</div></section>'


def figure(cell: Cell, among: Sequence[Explanation], style: Style, longest: int, title: str = "") -> str:
    """One map with the bar of its colours and a place for the number of a patch; or why there is none."""
    one = cell.explanation
    if one is None:
        head = f"<figcaption>{text(title)}</figcaption>" if title else ""
        return f'<figure class="gt-map gt-none">{head}<p><b>no map</b> {text(cell.refusal)}</p></figure>'
    if one.words is not None:
        return passage(one, among, style, title)
    scale = scale_of(one, among, style)
    sure = "" if one.probability is None else f'<span class="gt-p">{text(percent(one.probability))}</span>'
    name = text(title) if title else f"<b>{text(one.name)}</b> {sure}"
    name += "".join(f'<br><span class="gt-note">{text(doubt)}</span>' for doubt in one.warnings if doubt != AGNOSTIC)
    return (
        f'<figure class="gt-map" data-map="{text(json.dumps(values(one)))}"><figcaption>{name}</figcaption>'
        f'{stack(one, scale, style, longest)}{below(one, scale, style)}<div class="gt-number"></div></figure>'
    )


def passage(one: Explanation, among: Sequence[Explanation], style: Style, title: str) -> str:
    """The words of a text on their colours, which take the pointer and the arrow keys."""
    sure = "" if one.probability is None else f'<span class="gt-p">{text(percent(one.probability))}</span>'
    said = f"words of the text for {one.name} by {one.method} {title}".rstrip()
    name = text(f"{said}; arrow keys move between them")
    words = text_html.words(one, among, style)
    return (
        f'<figure class="gt-map gt-text"><figcaption>{text(title) or f"<b>{text(one.name)}</b> {sure}"}</figcaption>'
        f'<div class="gt-words" tabindex="0" role="group" aria-label="{name}">{words}</div>'
        '<div class="gt-number"></div></figure>'
    )


def stack(one: Explanation, scale: Scale, style: Style, longest: int) -> str:
    """The map over its picture, which takes the pointer and the arrow keys."""
    rows, columns = one.relevance.shape
    peak = divmod(int(one.relevance.argmax()), columns)
    words = f"heat map of {one.method} for {one.name}, {rows} rows by {columns} columns, strongest in row "
    words += f"{peak[0] + 1}, column {peak[1] + 1}"
    return (
        f'<div class="gt-stack" tabindex="0" role="group" aria-label="{text(words)}; arrow keys move between patches">'
        f'{image(drawn(one, scale, longest, style), words)}<div class="gt-cursor" hidden></div></div>'
    )


def below(one: Explanation, scale: Scale, style: Style) -> str:
    """The bar of the colours, or what a masked view keeps."""
    note = map_note(one, style)
    return f'<p class="gt-note">{text(note)}</p>' if note else f'<div class="gt-scale">{bar(scale)}</div>'


def variants(title: str, words: str, table: Sequence[tuple[Column, Sequence[Cell]]], options: dict[str, Any]) -> str:
    """Small maps of the variants of one method for one class, all with the number of the same patch."""
    style = Style.of(**options | {"lines": False, "shared_scale": False})
    found = [(column, cells[0]) for column, cells in table]
    among = [cell.explanation for _, cell in found if cell.explanation is not None]
    figures = "".join(figure(cell, among, style, THUMB, heading(column)) for column, cell in found)
    return (
        f'<section class="gt-variants" aria-label="{text(title)}"><h2>{text(title)}</h2>'
        f'<p class="gt-note">{text(words)}</p><div class="gt-row">{figures}</div></section>'
    )


def curves(chart: str, eraser: str, first: int) -> str:
    """Curves of erasing beside what is erased. first: of how many methods they are, 0 for all."""
    note = f'<p class="gt-note">the first {first} methods</p>' if first else ""
    return f'<div class="gt-curves"><div>{chart}{note}</div>{eraser}</div>'


def heading(column: Column) -> str:
    """Title of a variant, with the name that the paper gives it."""
    return f"{column.title} ({column.note})" if column.note and column.note != AGNOSTIC else column.title


def code(lines: str) -> str:
    """Lines of Python, with a button that copies them."""
    return (
        f'<div class="gt-code"><pre tabindex="0"><code>{escaped(lines)}</code></pre>'
        '<button type="button" data-copy>copy</button></div>'
    )


def escaped(lines: str) -> str:
    """Several lines, each safe inside HTML."""
    return "\n".join(text(line) for line in lines.splitlines())


def downloads() -> str:
    """Buttons that save what is shown."""
    kinds = {"png": "picture", "svg": "vector graphics", "npz": "raw numbers", "html": "page with the numbers"}
    buttons = "".join(
        f'<button type="button" data-file="{kind}" title="{words}">{kind.upper()}</button>'
        for kind, words in kinds.items()
    )
    return f'<div class="gt-files" role="group" aria-label="download the maps">download {buttons}</div>'
