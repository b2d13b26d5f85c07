"""Explanations as files. A file is complete or not there: it is written beside its place and moved at the end."""

import contextlib
import io
import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradtoken.draw.style import Style
from gradtoken.errors import BadRelevance, GradTokenError, UnknownName

if TYPE_CHECKING:
    from gradtoken.result import Explanation

SCHEMA = 1  # of json and npz; a reader refuses what is newer
FIELDS: tuple[str, ...] = ("box", "target", "name", "logit", "probability", "predicted", "model", "method")
FIELDS += ("options", "versions", "preprocessing", "source", "note", "class_aware", "warnings")


def save(explanations: "list[Explanation]", path: str | os.PathLike[str], style: dict[str, Any]) -> Path:
    """Write the file that the suffix asks for."""
    path = Path(path).expanduser()
    write(path, rendered(explanations, path.suffix.lower(), style))
    return path


def rendered(explanations: "list[Explanation]", suffix: str, style: dict[str, Any]) -> bytes:
    """The content of a file."""
    if not explanations:
        raise BadRelevance("there is no explanation to save; give at least one")
    check_format(suffix)
    Style.of(**style)  # refused even where numbers are written, which no style changes
    return DATA[suffix](explanations, {}) if suffix in DATA else DRAWN[suffix](explanations, style)


def check_format(suffix: str) -> None:
    """Refuse a suffix that nothing can be written as."""
    if suffix.lower() not in {**DRAWN, **DATA}:
        raise UnknownName(f"no file format {suffix!r}; known: {', '.join((*DRAWN, *DATA))}")


def check_place(path: Path) -> Path:
    """Where a file goes, through links as open does. Raises where it cannot be."""
    place = Path(os.path.realpath(path))
    if not os.path.isdir(place.parent):
        raise GradTokenError(f"cannot write {str(path)!r}: there is no folder {str(place.parent)!r}; make it first")
    if os.path.isdir(place):  # unlike Path.is_dir, no error for a name that is too long
        raise GradTokenError(f"cannot write {str(path)!r}: it is a folder; give the name of a file")
    return place


def write(path: Path, content: bytes) -> None:
    """Put the content in place at once, with the permissions of a new file."""
    place = check_place(path)
    temporary = place.with_name(f".gradtoken-{secrets.token_hex(6)}")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
        os.replace(temporary, place)
    except OSError as error:
        raise GradTokenError(f"cannot write {str(path)!r}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def described(one: "Explanation") -> dict[str, Any]:
    """Everything but the map and the picture, as JSON values."""
    parts = {name: getattr(one, name) for name in ("words", "axes")}
    own = {name: plain(vars(part)) for name, part in parts.items() if part is not None}
    return {name: plain(getattr(one, name)) for name in FIELDS} | own


def plain(value: Any) -> Any:
    """The JSON value nearest to any value: names of functions, text of what is unknown."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, dict):
        return {str(key): plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    if isinstance(value, int | float):
        return value
    if hasattr(value, "tolist"):  # numbers and arrays of numpy and torch
        return value.tolist()
    return getattr(value, "__qualname__", None) or str(value)


def encoded(items: list[dict[str, Any]], more: dict[str, Any], indent: int | None = None) -> bytes:
    """The JSON document; numbers that JSON cannot hold are refused. more: what else it says."""
    try:
        document = {"schema": SCHEMA, "explanations": items, **plain(more)}
        content = json.dumps(document, indent=indent, allow_nan=False)
    except ValueError as error:
        names = ", ".join(repr(item["name"]) for item in items)
        raise BadRelevance(f"cannot save the explanation of {names}: {error}; every number must be finite") from error
    return content.encode()


def as_json(explanations: "list[Explanation]", more: dict[str, Any]) -> bytes:
    items = [described(one) | {"relevance": one.relevance.tolist()} for one in explanations]
    return encoded(items, more, indent=1) + b"\n"


def as_npz(explanations: "list[Explanation]", more: dict[str, Any]) -> bytes:
    facts = encoded([described(one) for one in explanations], more)
    arrays: dict[str, Any] = {f"relevance_{i}": one.relevance for i, one in enumerate(explanations)}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, facts=np.frombuffer(facts, dtype=np.uint8), **arrays)
    return buffer.getvalue()


def as_npy(explanations: "list[Explanation]", more: dict[str, Any]) -> bytes:  # noqa: ARG001
    maps = [one.relevance for one in explanations]
    shapes = {m.shape for m in maps}
    if len(shapes) > 1:
        raise BadRelevance(f".npy stacks maps of one shape, got {', '.join(map(str, shapes))}; save as .npz")
    buffer = io.BytesIO()
    np.save(buffer, maps[0] if len(maps) == 1 else np.stack(maps), allow_pickle=False)
    return buffer.getvalue()


def as_txt(explanations: "list[Explanation]", more: dict[str, Any]) -> bytes:  # noqa: ARG001
    """A line for each word, tabs between: relevance, first and end character, the word."""
    from gradtoken.draw.terminal import table

    return "\n".join(line for one in explanations for line in table(one)).encode() + b"\n"


def as_html(explanations: "list[Explanation]", style: dict[str, Any]) -> bytes:
    from gradtoken.draw.html import page

    return page(explanations, **style).encode()


def as_figure(form: str) -> "Callable[[list[Explanation], dict[str, Any]], bytes]":
    def draw(explanations: "list[Explanation]", style: dict[str, Any]) -> bytes:
        from gradtoken.draw import figure

        return figure.rendered(figure.figure(explanations, **style), form)

    return draw


def as_gif(explanations: "list[Explanation]", style: dict[str, Any]) -> bytes:
    from gradtoken.draw.film import gif

    return gif(explanations, style)


DRAWN = {**{f".{form}": as_figure(form) for form in ("png", "svg", "pdf")}, ".html": as_html, ".gif": as_gif}
DATA = {".npy": as_npy, ".npz": as_npz, ".json": as_json, ".txt": as_txt}
