"""Who looks at what: visitors, pictures on their way, and loaded models. All of it in memory, and bounded.

PyTorch is imported when a model is first asked for, so that the page is up before.
"""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from gradtoken.errors import BadPicture, UnknownName
from gradtoken.lazy import once
from gradtoken.web.asked import Asked
from gradtoken.web.settings import Settings

if TYPE_CHECKING:
    from gradtoken.models.model import Model
    from gradtoken.web.passages import Passage
    from gradtoken.web.subjects import Recordings, Subject

V = TypeVar("V")
LARGE, SHORT = 8, 120.0  # pictures of the largest size that may wait to be opened, and how many seconds they wait
LONGEST = 255  # letters of a model's name; files have no longer ones


@dataclass(eq=False)
class Visit:
    """One visitor. subject: what is looked at. classes: one, or two side by side. asked: what the controls said last.

    passage, text_classes, text_methods: the same of the tab for texts.
    lock: held while this visitor's page is changed, so that answers that overlap agree.
    """

    subject: "Subject | None" = None
    classes: tuple[int, ...] = ()
    asked: Asked = field(default_factory=Asked)
    passage: "Passage | None" = None
    text_classes: tuple[int, ...] = ()
    text_methods: tuple[str, ...] = ()
    lock: Any = field(default_factory=threading.RLock)

    @property
    def size(self) -> int:
        """Pixels that are kept for it."""
        return self.subject.pixels if self.subject is not None else 0


class Kept(Generic[V]):
    """Values by random keys: the longest unused go first, where they are many, large or old."""

    def __init__(self, most: int, idle: float, weigh: Callable[[V], int] = lambda _: 0, held: int = 0) -> None:
        self.most, self.idle, self.weigh, self.held = most, idle, weigh, held
        self.lock = threading.Lock()
        self.values: OrderedDict[str, tuple[float, V]] = OrderedDict()

    def add(self, value: V) -> str:
        """The key of a new value."""
        key = secrets.token_urlsafe(16)
        with self.lock:
            self.values[key] = (time.monotonic(), value)
            self.tidy()
        return key

    def get(self, key: Any) -> V | None:
        """The value, as long as it is kept."""
        with self.lock:
            self.tidy()
            if not isinstance(key, str) or key not in self.values:
                return None
            value = self.values.pop(key)[1]
            self.values[key] = (time.monotonic(), value)
            return value

    def take(self, key: Any) -> V | None:
        """The value, which is kept no longer."""
        with self.lock:
            self.tidy()
            found = self.values.pop(key, None) if isinstance(key, str) else None
        return None if found is None else found[1]

    def tidy(self) -> None:
        """Drop what is too old, and the longest unused of what is too much; the latest stays."""
        oldest = time.monotonic() - self.idle
        weight = sum(self.weigh(value) for _, value in self.values.values()) if self.held else 0
        for key, (used, value) in list(self.values.items()):
            last = len(self.values) == 1
            if used >= oldest and (last or (len(self.values) <= self.most and weight <= self.held)):
                break
            weight -= self.weigh(value) if self.held else 0
            del self.values[key]


class Shelf:
    """Loaded models, the longest unused dropped; each with the lock that lets one visitor at a time run it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.lock = threading.RLock()
        self.models: OrderedDict[str, tuple[Model, Any]] = OrderedDict()

    def get(self, name: str) -> "tuple[Model, Any]":
        """A model by name, loaded where it is not yet, and its lock."""
        from gradtoken.models.load import load

        name = name.strip() if isinstance(name, str) else ""
        if not self.settings.private and name not in self.settings.models:
            raise UnknownName.among("model on this page", name, self.settings.models)
        if len(name) > LONGEST:
            raise UnknownName(f"expected the name of a model of at most {LONGEST} letters, got {len(name)}")
        with self.lock:
            if name not in self.models:
                self.models[name] = (load(name, device=self.settings.device), threading.RLock())
            self.models.move_to_end(name)
            while len(self.models) > self.settings.loaded:
                self.models.popitem(last=False)
            return self.models[name]


@dataclass(frozen=True)
class Upload:
    """A picture as it came: its bytes, and the name that the visitor's file has."""

    content: bytes
    name: str


class Desk:
    """Everything that the page keeps."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.shelf = Shelf(settings)
        self.visits: Kept[Visit] = Kept(settings.visitors, settings.idle, lambda visit: visit.size, settings.held)
        most = LARGE * settings.bytes
        self.uploads: Kept[Upload] = Kept(settings.visitors, SHORT, lambda upload: len(upload.content), most)

    @once
    def recordings(self) -> "Recordings":
        """The latest passes."""
        from gradtoken.web.subjects import Recordings

        return Recordings()

    def visit(self, key: Any) -> tuple[str, Visit]:
        """The visit of a key, or a new one."""
        known = self.visits.get(key)
        if known is not None:
            return key, known
        visit = Visit()
        return self.visits.add(visit), visit

    def upload(self, key: Any) -> Upload:
        """The picture that waits under a key."""
        found = self.uploads.take(key)
        if found is None:
            raise BadPicture("the picture is no longer waiting on the server; drop it again")
        return found
