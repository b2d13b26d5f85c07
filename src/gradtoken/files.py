"""Explanations as files. A file is complete or not there: it is written beside its place and moved at the end."""

import io
import json
import os
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradtoken.errors import BadRelevance, GradTokenError, UnknownName

if TYPE_CHECKING:
    from gradtoken.result import Explanation

SCHEMA = 1  # of json and npz; a reader refuses what is newer
FIELDS = (
    *("box", "target", "name", "logit", "probability", "predicted", "model", "method"),
    *("options", "versions", "preprocessing", "source", "note"),
)
STYLES = ("colours", "opacity", "interpolation", "threshold", "shared_scale")


def save(explanations: "list[Explanation]", path: Path, style: dict[str, Any]) -> Path:
    """Write the file that the suffix asks for."""
    if not explanations:
        raise BadRelevance("there is no explanation to save")
    content = rendered(explanations, path.suffix.lower(), style)
    write(path, content)
    return path


def rendered(explanations: "list[Explanation]", suffix: str, style: dict[str, Any]) -> bytes:
    """The content of a file."""
    check_format(suffix)
    unknown = [name for name in style if name not in STYLES]
    if unknown:
        raise UnknownName.among("style", unknown[0], STYLES)
    return WRITERS[suffix](explanations, style)


def check_format(suffix: str) -> None:
    """Refuse a suffix that nothing can be written as."""
    if suffix.lower() not in WRITERS:
        raise UnknownName(f"no file format {suffix!r}; known: {', '.join(WRITERS)}")


def write(path: Path, content: bytes) -> None:
    """Put the content in place at once, with the permissions of a new file."""
    try:
        handle, temporary = tempfile.mkstemp(prefix=".gradtoken-", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.chmod(temporary, 0o666 & ~mask())
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise GradTokenError(
            f"cannot write {str(path)!r}: {error.strerror}; is the folder there and writable?"
        ) from error


def mask() -> int:
    """The process's umask, which can only be read by setting it."""
    value = os.umask(0o022)
    os.umask(value)
    return value


def described(one: "Explanation") -> dict[str, Any]:
    """Everything but the map and the picture, as JSON values."""
    return {name: getattr(one, name) for name in FIELDS}


def as_json(explanations: "list[Explanation]", _style: dict[str, Any]) -> bytes:
    items = [described(one) | {"relevance": one.relevance.tolist()} for one in explanations]
    return (json.dumps({"schema": SCHEMA, "explanations": items}, indent=1, allow_nan=False) + "\n").encode()


def as_npz(explanations: "list[Explanation]", _style: dict[str, Any]) -> bytes:
    facts = json.dumps({"schema": SCHEMA, "explanations": [described(one) for one in explanations]}, allow_nan=False)
    arrays = {f"relevance_{i}": one.relevance for i, one in enumerate(explanations)}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, facts=np.frombuffer(facts.encode(), dtype=np.uint8), **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def as_npy(explanations: "list[Explanation]", _style: dict[str, Any]) -> bytes:
    maps = [one.relevance for one in explanations]
    buffer = io.BytesIO()
    np.save(buffer, maps[0] if len(maps) == 1 else np.stack(maps), allow_pickle=False)
    return buffer.getvalue()


def as_html(explanations: "list[Explanation]", style: dict[str, Any]) -> bytes:
    from gradtoken.draw.html import page

    return page(explanations, **style).encode()


def as_figure(form: str) -> "Callable[[list[Explanation], dict[str, Any]], bytes]":
    def write_figure(explanations: "list[Explanation]", style: dict[str, Any]) -> bytes:
        from gradtoken.draw import figure

        return figure.rendered(figure.figure(explanations, **style), form)

    return write_figure


WRITERS = {
    **{f".{form}": as_figure(form) for form in ("png", "svg", "pdf")},
    ".html": as_html,
    ".npy": as_npy,
    ".npz": as_npz,
    ".json": as_json,
}


def load(path: Path) -> list[dict[str, Any]]:
    """Read .npz or .json: the parts of each explanation. Nothing in the file is executed; misfits are refused."""
    try:
        facts, maps = from_npz(path) if path.suffix.lower() == ".npz" else from_json(path)
        if facts["schema"] > SCHEMA:
            raise GradTokenError(f"{str(path)!r} has schema {facts['schema']}; this version reads up to {SCHEMA}")
        return [parts(item, m) for item, m in zip(facts["explanations"], maps, strict=True)]
    except OSError as error:
        raise GradTokenError(f"cannot read {str(path)!r}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise GradTokenError(
            f"{str(path)!r} is no saved explanation ({error}); give .npz or .json of save()"
        ) from error


def from_json(path: Path) -> tuple[dict[str, Any], list[Any]]:
    facts = json.loads(path.read_text(encoding="utf-8"))
    return facts, [item.pop("relevance") for item in facts["explanations"]]


def from_npz(path: Path) -> tuple[dict[str, Any], list[Any]]:
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
        facts = json.loads(arrays["facts"].tobytes().decode())
        return facts, [arrays[f"relevance_{i}"] for i in range(len(facts["explanations"]))]


def parts(item: dict[str, Any], relevance: Any) -> dict[str, Any]:
    """What an `Explanation` is made of, tuples where JSON has lists."""
    known = {name: item[name] for name in FIELDS}
    known["box"] = tuple(map(float, known["box"]))
    known["predicted"] = tuple((str(name), float(p)) for name, p in known["predicted"])
    return known | {"relevance": np.asarray(relevance, dtype=np.float32), "picture": None}
