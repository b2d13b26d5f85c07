"""A viewer for notebooks: the classes, the methods and the display are picked with the mouse or the keys."""

import threading
from typing import Any

from torch import nn

from gradtoken.comparison import Cell
from gradtoken.draw.html import fragment, text
from gradtoken.draw.words import percent
from gradtoken.errors import GradTokenError
from gradtoken.explaining import file_name
from gradtoken.methods import METHODS
from gradtoken.models.load import load
from gradtoken.models.model import Model, need
from gradtoken.models.pictures import Source, open_picture
from gradtoken.result import Explanations
from gradtoken.web.panels import looked_up
from gradtoken.web.subjects import Recordings, found, methods_of, subject_of

LISTED = 8  # classes at once
HINT = "Ctrl, or ⌘, and a click puts classes or methods side by side."


class Viewer:
    """One picture before one model, which runs once; the maps of classes and methods are kept.

    picture, model, method: as in `gradtoken.explain`. Needs the extra `notebook`. `explanations` are what is shown.
    """

    def __init__(self, picture: Source, model: str | nn.Module | Model = "bundled", method: str = "gradtoken") -> None:
        widgets = need("ipywidgets", "notebook")
        methods_of([method])
        loaded = model if isinstance(model, Model) else load(model)
        loaded.for_pictures  # noqa: B018  which refuses a model of texts
        self.recordings = Recordings()
        opened = open_picture(picture)
        self.subject = subject_of(opened, file_name(picture), loaded, threading.RLock(), self.recordings)
        narrow = {"layout": widgets.Layout(width="20rem")}
        first = looked_up(self.subject, "", LISTED)
        self.search = widgets.Text(placeholder="search all classes", **narrow)
        self.classes = widgets.SelectMultiple(options=self.named(first), value=first[:1], rows=LISTED, **narrow)
        self.methods = widgets.SelectMultiple(options=list(METHODS), value=[method], rows=LISTED, **narrow)
        self.opacity = widgets.FloatSlider(value=0.6, min=0, max=1, step=0.05, description="opacity", **narrow)
        self.patches = widgets.Checkbox(value=False, description="show the patches", indent=False, **narrow)
        self.drawn = widgets.HTML()
        self.box = widgets.VBox([self.controls(widgets), self.drawn])
        self.search.observe(lambda _: self.list_classes(), "value")
        for control in (self.classes, self.methods, self.opacity, self.patches):
            control.observe(lambda _: self.draw(), "value")
        self.draw()

    def controls(self, widgets: Any) -> Any:
        """What is picked, above what is shown."""
        columns = [[self.search, self.classes], [self.methods, self.opacity, self.patches]]
        names = [f"<b>{title}</b>" for title in ("class", "method")]
        boxes = [widgets.VBox([widgets.HTML(n), *parts]) for n, parts in zip(names, columns, strict=True)]
        row = widgets.HBox(boxes, layout=widgets.Layout(flex_flow="row wrap"))
        return widgets.VBox([row, widgets.HTML(f"<small>{HINT}</small>")])

    def named(self, indices: list[int]) -> list[tuple[str, int]]:
        """Classes as a list shows them."""
        names, p = self.subject.names, self.subject.probabilities
        return [(f"{names[i]}  {percent(float(p[i]))}", i) for i in indices]

    def list_classes(self) -> None:
        """Those that are explained, and those that hold the words of the search."""
        chosen = list(self.classes.value)
        listed = [*chosen, *(i for i in looked_up(self.subject, self.search.value, LISTED) if i not in chosen)]
        self.classes.options = self.named(listed)  # which picks none
        self.classes.value = chosen

    @property
    def cells(self) -> list[Cell]:
        """A map for each method and class that are picked, or why there is none."""
        if not self.classes.value:
            return []
        columns = found(self.recordings, self.subject, tuple(self.classes.value), methods_of(self.methods.value))
        return [cell for _, cells in columns for cell in cells]

    @property
    def explanations(self) -> Explanations:
        """What is shown."""
        return Explanations(tuple(cell.explanation for cell in self.cells if cell.explanation is not None))

    def draw(self) -> None:
        """Show what is picked, computed where it is not known yet; while nothing is picked, what was shown stays."""
        if not self.classes.value or not self.methods.value:
            return
        self.drawn.value = "<p>computing ...</p>"
        try:
            cells = self.cells
        except GradTokenError as error:
            self.drawn.value = f"<p>{text(str(error))}</p>"
            return
        maps = [cell.explanation for cell in cells if cell.explanation is not None]
        refusals = dict.fromkeys(cell.refusal for cell in cells if cell.explanation is None)
        style = {"opacity": self.opacity.value, "interpolation": "nearest" if self.patches.value else "bilinear"}
        shown = fragment(maps, shared_scale=len(self.classes.value) > 1, **style) if maps else ""
        self.drawn.value = shown + "".join(f"<p>no map: {text(reason)}</p>" for reason in refusals)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return self.box._repr_mimebundle_(**options)


def viewer(picture: Source, model: str | nn.Module | Model = "bundled", method: str = "gradtoken") -> Viewer:
    """A viewer of one picture; put it on the last line of a cell."""
    return Viewer(picture, model, method)
