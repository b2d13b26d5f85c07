"""A text before one model, and what a visitor does with it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from gradtoken.comparing import step_of
from gradtoken.comparison import Cell, Column
from gradtoken.errors import BadTarget, BadText, GradTokenError
from gradtoken.explaining import explain
from gradtoken.methods import METHODS
from gradtoken.models.model import Model
from gradtoken.progress import track
from gradtoken.reading import Read, Reading
from gradtoken.result import Explanations
from gradtoken.web import exports, panels
from gradtoken.web.actions import answering
from gradtoken.web.answers import Answer
from gradtoken.web.subjects import checked, chosen
from gradtoken.web.visits import Desk, Visit

WRITTEN = 300  # letters up to which a text stands in the lines of Python


@dataclass(frozen=True, eq=False)
class Passage:
    """A text, a model, and the probability of each class.

    lock: of the model. cells: words with their values, or why there are none, by method and class.
    """

    text: str
    model: Model
    lock: Any
    probabilities: NDArray[Any]
    names: tuple[str, ...]
    cells: dict[tuple[str, int], Cell] = field(default_factory=dict)
    source = "text"

    @property
    def given(self) -> str:
        """As Python names the text."""
        return repr(self.text) if len(self.text) <= WRITTEN else "open('text.txt').read()"


def passage_of(text: str, model: Model, lock: Any) -> Passage:
    """Run the model once."""
    with lock:
        read = Read.of(text, model, [None], Reading())
        read.choice.over(read.outputs())
    choice = read.choice
    assert choice.logits is not None
    probabilities = model.probabilities(choice.logits).numpy()
    names = tuple(choice.name(i) for i in range(len(probabilities)))
    return Passage(text, model, lock, probabilities, names)


def found(passage: Passage, classes: tuple[int, ...], methods: Sequence[str]) -> list[tuple[Column, list[Cell]]]:
    """The cells of each method for these classes; only those that are not known yet are computed."""
    for name in track(list(methods), "methods"):
        missing = [c for c in classes if (name, c) not in passage.cells]
        if missing:
            passage.cells.update(zip([(name, c) for c in missing], computed(passage, missing, name), strict=True))
    columns = [step_of(name, {}).columns[0] for name in methods]
    return [(column, [passage.cells[column.method, c] for c in classes]) for column in columns]


def computed(passage: Passage, classes: list[int], method: str) -> list[Cell]:
    """What a method says of these classes."""
    try:
        with passage.lock:
            several = explain(passage.text, passage.model, classes, [method])
        assert isinstance(several, Explanations)
        return [Cell(one) for one in several]
    except GradTokenError as error:
        return [Cell(None, str(error))] * len(classes)


# What a visitor does --------------------------------------------------------------------------------------------------


@answering
def read_text(desk: Desk, visit: Visit, text: Any, model: Any, *methods: Any) -> Answer:
    """Explain the most probable class of a text."""
    if not isinstance(text, str) or not text.strip():
        raise BadText("there is no text yet; write or paste one")
    if len(text) > desk.settings.letters:
        raise BadText(f"the text has {len(text):,} letters; this page takes {desk.settings.letters:,}")
    if not model:
        raise BadTarget("name a model of texts: a classifier on the Hugging Face hub, or a folder with one")
    wanted = named(methods)
    loaded, lock = desk.shelf.get(model)
    loaded.for_texts  # noqa: B018  which refuses a model of pictures
    passage = passage_of(text, loaded, lock)
    return shown(visit, passage, (int(passage.probabilities.argmax()),), wanted)


@answering
def press_text(_: Desk, visit: Visit, data: dict[str, Any], *methods: Any) -> Answer:
    """What a button asks for: another class, or a file."""
    passage, kind, value = passage_in(visit), data.get("kind"), data.get("value")
    if kind == "file":
        cells = [cell for _, cells in found(passage, visit.text_classes, named(methods)) for cell in cells]
        maps = [cell.explanation for cell in cells if cell.explanation is not None]
        return Answer(file=exports.file_of(maps, value, style_of(visit.text_classes), "text"))
    if kind not in ("class", "beside"):
        raise BadTarget(f"no button asks for {str(kind)[:40]!r}; load the page again")
    index = checked(value, len(passage.names))
    return shown(visit, passage, chosen(visit.text_classes, index, kind == "beside"), named(methods))


@answering
def redraw_text(_: Desk, visit: Visit, *methods: Any) -> Answer:
    """Other methods."""
    return shown(visit, passage_in(visit), visit.text_classes, named(methods))


def passage_in(visit: Visit) -> Passage:
    """What the visitor reads."""
    if visit.passage is None:
        raise BadText("there is no text yet, or it was forgotten after a while; write one and explain it")
    return visit.passage


def named(methods: Sequence[Any]) -> tuple[str, ...]:
    """The methods that were chosen: the one value is their list."""
    wanted = methods[0] if methods else None
    if not isinstance(wanted, list) or not wanted:
        raise BadTarget("choose at least one method")
    return tuple(METHODS[name].name for name in dict.fromkeys(map(str, wanted)))


def style_of(classes: tuple[int, ...]) -> dict[str, Any]:
    """Options of the drawing: one scale for two classes."""
    return {"shared_scale": True} if len(classes) > 1 else {}


def shown(visit: Visit, passage: Passage, classes: tuple[int, ...], methods: tuple[str, ...]) -> Answer:
    """The page of these classes, which become the visitor's."""
    style, table = style_of(classes), found(passage, classes, methods)
    maps = [cell.explanation for _, cells in table for cell in cells if cell.explanation is not None]
    visit.passage, visit.text_classes = passage, classes
    notes = "; ".join(dict.fromkeys(one.note for one in maps if one.note))
    return Answer(
        message=panels.message(notes, "note"),
        maps=panels.maps(table, style),
        classes=panels.classes(passage, classes),
        code=panels.code(exports.lines(passage, maps, style)) if maps else "",
    )
