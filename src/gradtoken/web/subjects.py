"""One picture before one model, and what was found out about it so far: recorded once, and reused."""

import io
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from numpy.typing import NDArray
from PIL import Image

from gradtoken.comparing import Step, step_of, taken
from gradtoken.comparison import Cell, Column
from gradtoken.draw.words import base_name
from gradtoken.errors import BadPicture, BadTarget
from gradtoken.explaining import Case
from gradtoken.models.clip import with_captions
from gradtoken.models.model import Model
from gradtoken.models.pictures import BROKEN, FORMATS, decode, quiet
from gradtoken.outside import whole
from gradtoken.progress import track
from gradtoken.web.samples import SAMPLES

CAPTIONS = tuple(f"a photo of {words}" for words in SAMPLES.values())
MOST = 3  # recordings kept: each may hold the graph of a whole pass


@dataclass(frozen=True, eq=False)
class Subject:
    """A picture, a model, and the probability of each class.

    lock: of the model. cells: maps, or why there are none, by method, title of the variant and class. towers: what the
    model is made of where captions are its classes.
    """

    picture: Image.Image
    source: str
    model: Model
    lock: Any
    probabilities: NDArray[Any]
    names: tuple[str, ...]
    cells: dict[tuple[str, str, int], Cell] = field(default_factory=dict)
    towers: Model | None = None
    options: ClassVar[dict[str, Any]] = {}  # of how it is read

    @property
    def pixels(self) -> int:
        """How many are kept."""
        return self.picture.width * self.picture.height

    @property
    def given(self) -> str:
        """As Python names the picture."""
        return repr(base_name(self.source) or "picture.png")

    @property
    def predicted(self) -> int:
        """The most probable class."""
        return int(self.probabilities.argmax())


def checked(index: Any, count: int) -> int:
    """A class of `count` that a browser named by its index."""
    index = whole(index) if isinstance(index, str) else index
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < count:
        raise BadTarget(f"expected a class from 0 to {count - 1}, got {index!r}")
    return index


def chosen(classes: tuple[int, ...], index: int, beside: bool) -> tuple[int, ...]:
    """The classes once a button was pressed: this one, or this one beside the first; there twice, it goes."""
    if not beside or index in classes[:1]:
        return (index,)
    return classes[:1] if index in classes else (*classes[:1], index)


class Recordings:
    """The latest passes over pictures, with all that methods share; older ones are dropped."""

    def __init__(self, most: int = MOST) -> None:
        self.most, self.lock = most, threading.Lock()
        self.cases: OrderedDict[tuple[Subject, tuple[int, ...]], Case] = OrderedDict()

    def of(self, subject: Subject, classes: tuple[int, ...]) -> Case:
        """The pass that asked for these classes, made where there is none."""
        with self.lock:
            case = self.cases.get((subject, classes))
        if case is None:
            case = Case.of(subject.picture, subject.source, subject.model, list(classes))
            with subject.lock:
                case.probe.first  # noqa: B018  the pass itself
        self.keep(subject, classes, case)
        return case

    def keep(self, subject: Subject, classes: tuple[int, ...], case: Case) -> None:
        """Remember a pass as the latest."""
        with self.lock:
            self.cases[subject, classes] = case
            self.cases.move_to_end((subject, classes))
            while len(self.cases) > self.most:
                self.cases.popitem(last=False)

    def forget(self, subject: Any) -> None:
        """Drop what was recorded of a picture."""
        with self.lock:
            for key in [key for key in self.cases if key[0] is subject]:
                del self.cases[key]


def opened(content: bytes, name: str, pixels: int) -> Image.Image:
    """A picture that a visitor gave. Raises BadPicture, also where it is larger than the page takes."""
    what = repr(name[:80]) if name else "the picture"
    check_pixels(content, what, pixels)
    return decode(io.BytesIO(content), what)


def check_pixels(content: bytes, what: str, most: int) -> None:
    """Refuse a picture of too many pixels before it is decoded; one that is none is refused when it is."""
    Image.init()
    known = [name for name in FORMATS if name in Image.OPEN]
    with quiet():
        try:
            width, height = Image.open(io.BytesIO(content), formats=known).size
        except Image.DecompressionBombError:
            width = height = most
        except BROKEN:  # which `decode` tells apart
            return
    if width * height > most:
        raise BadPicture(
            f"{what} has more than the {most // 10**6} megapixels that this page takes; make it smaller first"
        )


def subject_of(
    picture: Image.Image,
    source: str,
    model: Model,
    lock: Any,
    recordings: Recordings,
    captions: Sequence[str] = CAPTIONS,
) -> Subject:
    """Run the model once. What was recorded serves the predicted class.

    captions: the classes of a model of pictures and captions, which has none of its own.
    """
    towers = model if model.captions is not None else None
    if towers is not None:
        with lock:
            model = with_captions(towers, captions)
    case = Case.of(picture, source, model, [None])
    with lock:
        case.probe.first  # noqa: B018  the pass itself
    choice = case.choice
    assert choice.logits is not None
    probabilities = model.probabilities(choice.logits).numpy()
    names = tuple(choice.name(i) for i in range(len(probabilities)))
    subject = Subject(picture, source, model, lock, probabilities, names, towers=towers)
    recordings.keep(subject, (subject.predicted,), case)
    return subject


# Maps -----------------------------------------------------------------------------------------------------------------


def methods_of(names: Sequence[str]) -> list[Step]:
    """One step for each method."""
    return [step_of(name, {}) for name in dict.fromkeys(names)]


def found(
    recordings: Recordings, subject: Subject, classes: tuple[int, ...], steps: Sequence[Step]
) -> list[tuple[Column, list[Cell]]]:
    """The cells of each column for these classes; only those that are not known yet are computed."""
    for step in track(list(steps), "methods"):
        missing = tuple(c for c in classes if any(key(column, c) not in subject.cells for column in step.columns))
        if missing:
            case = recordings.of(subject, missing)
            with subject.lock:
                columns = taken(step, case, allow_blank=False)
            for column, cells in zip(step.columns, columns, strict=True):
                subject.cells.update({key(column, c): cell for c, cell in zip(missing, cells, strict=True)})
    return [(column, [subject.cells[key(column, c)] for c in classes]) for step in steps for column in step.columns]


def key(column: Column, index: int) -> tuple[str, str, int]:
    """Where the cell of a class is kept."""
    return column.method, column.title, index
