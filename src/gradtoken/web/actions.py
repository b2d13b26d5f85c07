"""What happens when a visitor does something: from the values of the controls to the parts of the page that change."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Concatenate, ParamSpec

import torch

from gradtoken import manual
from gradtoken.comparing import VARIED
from gradtoken.erasing import curves, grid_of
from gradtoken.errors import BadPicture, BadTarget, GradTokenError, UnknownName
from gradtoken.models.model import Model
from gradtoken.result import Explanation
from gradtoken.web import charts, exports, panels
from gradtoken.web.answers import Answer
from gradtoken.web.asked import Asked
from gradtoken.web.samples import FOLDER, SAMPLES
from gradtoken.web.subjects import Subject, checked, chosen, found, methods_of, opened, subject_of
from gradtoken.web.visits import Desk, Visit

P = ParamSpec("P")
CAPTIONS_KEPT = 31  # of those that were asked for, beside a new one
FOLLOWED = 3  # most methods whose curves are drawn
SHARED = "Click, or move with the arrow keys, on any map: all maps show their number of the same patch."
VARIANTS = {
    "heads": ("Heads", "Signed, before they are clipped and averaged: the map is the mean of their positive parts."),
    "depth": ("Depths", "The first block whose attention smooths the map; 1 is the published method."),
    "propagation": ("Propagation schemes", "How earlier attention smooths the map; average_matmul is published."),
}


def answering(act: Callable[Concatenate[Desk, Visit, P], Answer]) -> Callable[Concatenate[Desk, Visit, P], Answer]:
    """An action that says on the page what it was refused for, and leaves the page as it was."""

    def answered(desk: Desk, visit: Visit, /, *args: P.args, **kwargs: P.kwargs) -> Answer:
        try:
            with visit.lock:
                return act(desk, visit, *args, **kwargs)
        except GradTokenError as error:
            return Answer(panels.message(str(error)))
        except (torch.OutOfMemoryError, MemoryError):
            return Answer(panels.message(manual.NO_MEMORY))

    return answered


@answering
def start(desk: Desk, visit: Visit, model: str, *controls: Any) -> Answer:
    """The first sample, for a page that was opened."""
    return sample(desk, visit, next(iter(SAMPLES)), model, Asked.of(*controls))


@answering
def press(desk: Desk, visit: Visit, data: dict[str, Any], model: str, *controls: Any) -> Answer:
    """What a button asks for: another picture or class, or a file."""
    kind, value, asked = data.get("kind"), data.get("value"), Asked.of(*controls)
    if kind in ("class", "beside"):
        return another_class(desk, visit, value, kind == "beside", asked)
    if kind == "file":
        return download(desk, visit, value)
    opener = {"sample": sample, "upload": sent}.get(str(kind))
    if opener is None:
        raise BadTarget(f"no button asks for {str(kind)[:40]!r}; load the page again")
    return opener(desk, visit, value, model, asked)


@answering
def choose_model(desk: Desk, visit: Visit, model: str, *controls: Any) -> Answer:
    """Show the same picture to another model."""
    old, asked = subject_in(visit), Asked.of(*controls)
    loaded, lock = desk.shelf.get(model)
    loaded.for_pictures  # noqa: B018  which refuses a model of texts
    return settled(desk, visit, subject_of(old.picture, old.source, loaded, lock, desk.recordings), asked)


@answering
def redraw(desk: Desk, visit: Visit, *controls: Any) -> Answer:
    """Other methods, or other colours."""
    asked, before = Asked.of(*controls), visit.asked.methods
    answer = table(desk, visit, visit.classes, asked)
    return answer if asked.methods == before else replace(answer, erasing="")


@answering
def search(desk: Desk, visit: Visit, words: str) -> Answer:  # noqa: ARG001
    """The classes that hold the words."""
    return Answer(message=None, classes=panels.classes(subject_in(visit), visit.classes, str(words)[:200]))


@answering
def ask(desk: Desk, visit: Visit, words: Any, *controls: Any) -> Answer:
    """What Enter asks for: the first class that holds the words; of a model of captions, the words as one more."""
    subject, asked, wanted = subject_in(visit), Asked.of(*controls), str(words).strip()[:200]
    listed = panels.looked_up(subject, wanted, 1)
    if subject.towers is not None and wanted and wanted not in subject.names:
        captions = [*subject.names[-CAPTIONS_KEPT:], wanted]
        how = (subject.towers, subject.lock, desk.recordings, captions)
        return settled(desk, visit, subject_of(subject.picture, subject.source, *how), asked, len(captions) - 1)
    if not wanted or not listed:
        return Answer(message=None, classes=panels.classes(subject, visit.classes, wanted))
    return another_class(desk, visit, listed[0], False, asked)


@answering
def vary(desk: Desk, visit: Visit) -> Answer:
    """Heads, depths and schemes of GradToken, for the class that is explained."""
    subject, index = subject_in(visit), visit.classes[0]
    probe = desk.recordings.of(subject, (index,)).probe
    parts = [panels.said(f"{subject.names[index]}. {SHARED}")]
    for name, (title, words) in VARIANTS.items():
        columns = found(desk.recordings, subject, (index,), VARIED[name](probe, {}))
        parts.append(panels.variants(title, words, columns, visit.asked.style(1)))
    return Answer(variants="".join(parts))


@answering
def erase(desk: Desk, visit: Visit) -> Answer:
    """Curves of the methods that are shown, for the class that is explained."""
    subject, index = subject_in(visit), visit.classes[0]
    maps = explained(found(desk.recordings, subject, (index,), methods_of(visit.asked.methods[:FOLLOWED])))
    case = desk.recordings.of(subject, (index,))
    with subject.lock:
        drawn = curves(case, maps)
    eraser = charts.eraser(maps[0], drawn, grid_of(case))
    chart = charts.chart(drawn, subject.names[index])
    return Answer(erasing=panels.curves(chart, eraser, FOLLOWED if len(visit.asked.methods) > FOLLOWED else 0))


def download(desk: Desk, visit: Visit, kind: Any) -> Answer:
    """The maps that are shown, as a file."""
    subject = subject_in(visit)
    maps = explained(found(desk.recordings, subject, visit.classes, methods_of(visit.asked.methods)))
    return Answer(file=exports.file_of(maps, kind, visit.asked.style(len(visit.classes))))


# Shared by the actions ------------------------------------------------------------------------------------------------


def sample(desk: Desk, visit: Visit, name: Any, model: str, asked: Asked) -> Answer:
    """Show a picture that comes with the package."""
    if not isinstance(name, str) or name not in SAMPLES:
        raise UnknownName.among("sample", name, SAMPLES)
    return shown(desk, visit, (FOLDER / name).read_bytes(), name, model, asked)


def sent(desk: Desk, visit: Visit, key: Any, model: str, asked: Asked) -> Answer:
    """Show a picture that waits under a key."""
    upload = desk.upload(key)
    return shown(desk, visit, upload.content, upload.name, model, asked)


def another_class(desk: Desk, visit: Visit, index: Any, beside: bool, asked: Asked) -> Answer:
    """Explain a class, or put it beside the one that is explained; there twice, it goes."""
    subject = subject_in(visit)
    classes = chosen(visit.classes, checked(index, len(subject.names)), beside)
    listed = panels.classes(subject, classes)
    return replace(table(desk, visit, classes, asked), classes=listed, variants="", erasing="")


def subject_in(visit: Visit) -> Subject:
    """What the visitor looks at."""
    if visit.subject is None:
        raise BadPicture("there is no picture yet, or it was forgotten after a while; drop one, or choose a sample")
    return visit.subject


def shown(desk: Desk, visit: Visit, content: bytes, name: str, model: str, asked: Asked) -> Answer:
    """Open a picture and explain its most probable class."""
    loaded, lock = desk.shelf.get(model)
    loaded.for_pictures  # noqa: B018  which refuses a model of texts
    picture = opened(content, name, desk.settings.pixels)
    return settled(desk, visit, subject_of(picture, name, loaded, lock, desk.recordings), asked)


def settled(desk: Desk, visit: Visit, subject: Subject, asked: Asked, index: int | None = None) -> Answer:
    """The page of a new subject and a class, by default the predicted one; the visitor's last one is forgotten."""
    classes = (subject.predicted if index is None else index,)
    before, visit.subject = visit.subject, subject
    try:
        answer = table(desk, visit, classes, asked)
    except GradTokenError:
        desk.recordings.forget(subject)
        visit.subject = before
        raise
    desk.recordings.forget(before)
    note = answer.message or panels.message(said_of(subject.model), "note")
    listed = panels.classes(subject, classes)
    answer = replace(answer, picture=panels.picture(subject), classes=listed)
    return replace(answer, message=note, variants="", erasing="")


def said_of(model: Model) -> str:
    """What users should know of the model; of the bundled one the page says it in other words."""
    return "" if model.name == "bundled" else model.note


def table(desk: Desk, visit: Visit, classes: tuple[int, ...], asked: Asked) -> Answer:
    """The maps of these classes, which become the visitor's, and the code that makes them."""
    subject = subject_in(visit)
    style = asked.style(len(classes))
    columns = found(desk.recordings, subject, classes, methods_of(asked.methods))
    maps = explained(columns)
    drawn = panels.maps(columns, style)
    visit.classes, visit.asked = classes, asked
    return Answer(maps=drawn, code=panels.code(exports.lines(subject, maps, style)) if maps else "")


def explained(columns: list[Any]) -> list[Explanation]:
    """The maps in the order in which `explain` gives them."""
    return [cell.explanation for _, cells in columns for cell in cells if cell.explanation is not None]
