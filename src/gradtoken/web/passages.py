"""A text before one model, and what a visitor does with it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from numpy.typing import NDArray

from gradtoken.comparing import VARIED, step_of
from gradtoken.comparison import Cell, Column
from gradtoken.erasing import curves_of_words
from gradtoken.errors import BadRelevance, BadTarget, BadText, GradTokenError
from gradtoken.explaining import explain
from gradtoken.methods import METHODS
from gradtoken.models.model import Model
from gradtoken.probe import Probe
from gradtoken.progress import track
from gradtoken.reading import Read, Reading
from gradtoken.result import Explanation, Explanations
from gradtoken.web import charts, exports, panels
from gradtoken.web.actions import FOLLOWED, VARIANTS, answering
from gradtoken.web.answers import Answer
from gradtoken.web.subjects import checked, chosen
from gradtoken.web.visits import Desk, Visit

WRITTEN = 300  # letters up to which a text stands in the lines of Python
SHARED = 4  # windows share this part of their tokens
NOTE = "Point at a word, or move with the arrow keys: all show their number of the same word."


@dataclass(frozen=True, eq=False)
class Passage:
    """A text, a model, and the probability of each class.

    lock: of the model. cells: words with their values, or why there are none, by method and class. options: windows=,
    where it is read in several.
    """

    text: str
    model: Model
    lock: Any
    probabilities: NDArray[Any]
    names: tuple[str, ...]
    options: dict[str, Any]
    cells: dict[tuple[str, int], Cell] = field(default_factory=dict)
    source = "text"

    @property
    def given(self) -> str:
        """As Python names the text."""
        return repr(self.text) if len(self.text) <= WRITTEN else "open('text.txt').read()"

    def read(self, index: int) -> Read:
        """The tokens of the text, to ask for one class."""
        return Read.of(self.text, self.model, [index], Reading(**self.options))


def passage_of(text: str, model: Model, lock: Any, whole: bool) -> Passage:
    """Run the model once. whole: all of a text that is longer than the model reads, in windows."""
    encode = model.for_texts
    room = encode.length - encode.tokenizer.num_special_tokens_to_add()
    with lock:
        read = Read.of(text, model, [None], Reading(windows=room // SHARED if whole else None))
        read.choice.over(read.outputs())
    options = {"windows": read.reading.windows} if len(read.windows.parts) > 1 else {}
    choice = read.choice
    assert choice.logits is not None
    probabilities = model.probabilities(choice.logits).numpy()
    names = tuple(choice.name(i) for i in range(len(probabilities)))
    return Passage(text, model, lock, probabilities, names, options)


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
            several = explain(passage.text, passage.model, classes, [method], **passage.options)
        assert isinstance(several, Explanations)
        return [Cell(one) for one in several]
    except GradTokenError as error:
        return [Cell(None, str(error))] * len(classes)


# What a visitor does --------------------------------------------------------------------------------------------------


@answering
def read_text(desk: Desk, visit: Visit, text: Any, model: Any, methods: Any, whole: Any = False) -> Answer:
    """Explain the most probable class of a text. whole: see `passage_of`."""
    if not isinstance(text, str) or not text.strip():
        raise BadText("there is no text yet; write or paste one")
    if len(text) > desk.settings.letters:
        raise BadText(f"the text has {len(text):,} letters; this page takes {desk.settings.letters:,}")
    if not model:
        raise BadTarget("name a model of texts: a classifier on the Hugging Face hub, or a folder with one")
    wanted = named(methods)
    loaded, lock = desk.shelf.get(model)
    loaded.for_texts  # noqa: B018  which refuses a model of pictures
    passage = passage_of(text, loaded, lock, bool(whole))
    return shown(visit, passage, (int(passage.probabilities.argmax()),), wanted)


@answering
def press_text(_: Desk, visit: Visit, data: dict[str, Any], methods: Any) -> Answer:
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
def redraw_text(_: Desk, visit: Visit, methods: Any) -> Answer:
    """Other methods."""
    return shown(visit, passage_in(visit), visit.text_classes, named(methods))


@answering
def vary_text(_: Desk, visit: Visit) -> Answer:
    """Heads, depths and schemes of GradToken, for the class that is explained."""
    passage = passage_in(visit)
    cell = found(passage, visit.text_classes[:1], ("gradtoken",))[0][1][0]
    if cell.explanation is None:
        raise BadRelevance(cell.refusal)
    with passage.lock:
        parts = [
            panels.variants(title, words, columns, {}) for title, words, columns in variants(passage, cell.explanation)
        ]
    return Answer(variants=panels.said(f"{cell.explanation.name}. {NOTE}") + "".join(parts))


def variants(passage: Passage, one: Explanation) -> Iterator[tuple[str, str, list[tuple[Column, list[Cell]]]]]:
    """Title, meaning and words of each kind of variant. one: of GradToken as published."""
    assert one.target is not None
    read = passage.read(one.target)
    probe = Probe(read.model.net, next(read.batches())[1], read.choice, read.model.memory)
    for name, (title, meaning) in VARIANTS.items():
        runs = {
            column.title: (column, lambda probe, step=step, i=i: step.run(probe)[i])
            for step in VARIED[name](probe, {})
            for i, column in enumerate(step.columns)
        }
        R = read.relevance({key: run for key, (_, run) in runs.items()})
        rows = {key: read.words(R[key], "gradtoken", allow_blank=True)[0] for key in runs}
        yield title, meaning, [(c, [Cell(replace(one, warnings=(), **rows[key]))]) for key, (c, _) in runs.items()]


@answering
def erase_text(_: Desk, visit: Visit) -> Answer:
    """Curves of the methods that are shown, for the class that is explained."""
    passage = passage_in(visit)
    maps = [cells[0].explanation for _, cells in found(passage, visit.text_classes, visit.text_methods)]
    kept = [one for one in maps if one is not None][:FOLLOWED]
    with passage.lock:
        drawn = curves_of_words(passage.read(visit.text_classes[0]), kept)
    chart = charts.chart(drawn, kept[0].name, "words")
    more = FOLLOWED if len(visit.text_methods) > FOLLOWED else 0
    return Answer(erasing=panels.curves(chart, charts.eraser_of_words(kept[0], drawn), more))


def passage_in(visit: Visit) -> Passage:
    """What the visitor reads."""
    if visit.passage is None:
        raise BadText("there is no text yet, or it was forgotten after a while; write one and explain it")
    return visit.passage


def named(methods: Any) -> tuple[str, ...]:
    """The methods that were chosen."""
    if not isinstance(methods, list) or not methods:
        raise BadTarget("choose at least one method")
    return tuple(METHODS[name].name for name in dict.fromkeys(map(str, methods)))


def style_of(classes: tuple[int, ...]) -> dict[str, Any]:
    """Options of the drawing: one scale for two classes."""
    return {"shared_scale": True} if len(classes) > 1 else {}


def shown(visit: Visit, passage: Passage, classes: tuple[int, ...], methods: tuple[str, ...]) -> Answer:
    """The page of these classes, which become the visitor's."""
    style, table = style_of(classes), found(passage, classes, methods)
    maps = [cell.explanation for _, cells in table for cell in cells if cell.explanation is not None]
    before = (visit.passage, visit.text_classes, visit.text_methods)
    visit.passage, visit.text_classes, visit.text_methods = passage, classes, methods
    notes = "; ".join(dict.fromkeys(one.note for one in maps if one.note))
    return Answer(
        message=panels.message(notes, "note"),
        maps=panels.maps(table, style),
        classes=panels.classes(passage, classes),
        code=panels.code(exports.lines(passage, maps, style)) if maps else "",
        variants=None if before[:2] == (passage, classes) else "",
        erasing=None if before == (passage, classes, methods) else "",
    )
