"""Files to take away, and the lines of Python that make the same ones. Nothing is written on the server."""

import base64
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradtoken import files
from gradtoken.draw.words import base_name
from gradtoken.errors import BadRelevance, UnknownName
from gradtoken.models.labels import Labels
from gradtoken.result import Explanation

if TYPE_CHECKING:
    from gradtoken.web.passages import Passage
    from gradtoken.web.subjects import Subject

KINDS = {"png": "image/png", "svg": "image/svg+xml", "npz": "application/octet-stream", "html": "text/html"}
NAME = 50  # most letters of a picture's name in that of a file


def stem(source: str) -> str:
    """The name of a picture as part of a file name: letters, digits, points, dashes."""
    name = base_name(source)
    return re.sub(r"[^A-Za-z0-9.-]+", "_", name.rsplit(".", 1)[0])[:NAME].strip("._-") or "picture"


def file_of(maps: Sequence[Explanation], kind: Any, style: dict[str, Any], title: str = "") -> dict[str, str]:
    """A file for the browser to save: its name, its type, and its content in base 64."""
    if not isinstance(kind, str) or kind not in KINDS:
        raise UnknownName.among("kind of file on this page", kind, KINDS)
    if not maps:
        raise BadRelevance("there is no map to save; choose another method or class")
    content = files.rendered(list(maps), f".{kind}", style)
    name = f"{title or stem(maps[0].source)}-gradtoken.{kind}"
    return {"name": name, "type": KINDS[kind], "content": base64.b64encode(content).decode()}


def lines(subject: "Subject | Passage", maps: Sequence[Explanation], style: dict[str, Any]) -> str:
    """Three lines that make the figure of these maps."""
    targets = [named(subject.model.labels, subject.names, one.target) for one in maps]
    methods = [one.method for one in maps]
    call = f"{subject.given}, {subject.model.name!r}, target={alone(targets)}, method={alone(methods)}"
    call += "".join(f", {name}={value!r}" for name, value in subject.options.items())
    options = "".join(f", {name}={value!r}" for name, value in style.items())
    return f"import gradtoken\nmaps = gradtoken.explain({call})\nmaps.save('{stem(subject.source)}.png'{options})\n"


def alone(names: Sequence[Any]) -> str:
    """As written in Python: each once, and without a list where there is one."""
    once = list(dict.fromkeys(names))
    return repr(once[0]) if len(once) == 1 else repr(once)


def named(labels: Sequence[str] | None, names: Sequence[str], index: int | None) -> str | int:
    """A class as a person would name it: by its label where that finds it, else by its number."""
    assert index is not None
    if not isinstance(labels, Labels) or labels.where(names[index], exact=True) != [index]:
        return index
    return names[index]
