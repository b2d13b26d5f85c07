"""What an explanation holds, and how it is saved, loaded and shown."""

import io
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from PIL import Image

from gradtoken import files, stored
from gradtoken.axes import Axes
from gradtoken.checks import describe, is_box
from gradtoken.errors import BadRelevance, GradTokenError
from gradtoken.words import Words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.figure import Figure
    from rich.console import Console
    from rich.text import Text

Array = np.ndarray[Any, Any]
Box = tuple[float, float, float, float]
Path = str | os.PathLike[str]


def show(content: bytes) -> None:
    """Show a picture in the notebook, or else in the system's picture viewer."""
    picture = Image.open(io.BytesIO(content))
    if "ipykernel" in sys.modules:
        from IPython.display import display

        display(picture)
    else:
        picture.show()


@dataclass(frozen=True, repr=False, eq=False)
class Explanation:
    """How much each patch of a picture, or each word of a text, speaks for one target.

    relevance: raw and unscaled, float32; (rows, columns), (height, width) for methods on the pixels that the model
    reads, (words,) for a text, (tokens,) for tokens that form no grid. Signed unless the method clips it.
    picture: the original, or None where it was loaded without. box: x0, y0, x1, y1 of what the grid covers, in pixels
    of the picture; smaller than it where the model crops, larger where it pads; None for all of it.
    target: class index, None for a callable. logit: the explained score. probability: softmax over classes
    (a sigmoid where each class is told by itself), or None.
    predicted: the five most probable classes. options: of the method. source: file name. note: what users should know.
    class_aware: whether the method asks for the target at all; else its map is the same for every class.
    words: of a text, what the values belong to. axes: of a sound, the seconds and hertz along the sides of its picture,
    a spectrogram; the first row of the relevance is the highest pitch.
    warnings: what speaks against reading the map as the reason of this class, see `gradtoken.doubts`.
    """

    relevance: Array
    picture: Image.Image | None
    box: Box | None
    target: int | None
    name: str
    logit: float
    probability: float | None = None
    predicted: tuple[tuple[str, float], ...] = ()
    model: str = ""
    method: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    preprocessing: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    note: str = ""
    class_aware: bool = True
    words: Words | None = None
    axes: Axes | None = None
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused
            values = np.array(self.relevance, dtype=np.float32)
        if values.ndim not in (1, 2) or not values.size or not np.isfinite(values).all():
            raise BadRelevance(f"expected finite relevance (rows, columns) or (tokens,), got {describe(values)}")
        values.setflags(write=False)
        object.__setattr__(self, "relevance", values)
        if self.words is not None and values.shape != (len(self.words.spans),):
            raise BadRelevance(f"expected relevance of {len(self.words.spans)} words, got {describe(values)}")
        if self.picture is not None and self.picture.mode != "RGB":
            object.__setattr__(self, "picture", self.picture.convert("RGB"))
        if self.box is not None and not is_box(self.box):
            raise GradTokenError(f"expected box x0, y0, x1, y1 with x0 < x1 and y0 < y1, got {self.box!r}")

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.relevance.shape))
        sure = "" if self.probability is None else f", probability {self.probability:.3f}"
        return f"<Explanation of {self.name!r}{sure}: {self.method} of {self.model}, {shape}>"

    def heat(
        self, size: tuple[int, int] | None = None, normalise: bool = True, interpolation: str = "bilinear"
    ) -> Array:
        """The map enlarged to (height, width), scaled linearly to 0..1, or to -1..1 with zero kept if signed."""
        from gradtoken.draw.colours import Scale
        from gradtoken.draw.grid import as_grid, enlarge

        values = self.relevance if size is None else enlarge(as_grid(self.relevance), size, interpolation)
        if not normalise:
            return values.copy()
        scale = Scale.of([self.relevance])
        position = scale.position(values)
        return position * 2 - 1 if scale.signed else position

    def to_dict(self) -> dict[str, Any]:
        """Everything but the picture, as JSON values."""
        return {**files.described(self), "relevance": self.relevance.tolist()}

    def save(self, path: Path, **style: Any) -> Path:
        """Write .png, .svg, .pdf, .html, .npy, .npz or .json, by the suffix, and .txt for texts; an older file is
        replaced at the end.

        style, for pictures: colours="jet", opacity, interpolation="nearest", threshold or top, lines, limits, clip,
        grey, shared_scale; see `gradtoken.draw.style.Style`.
        npz and json hold everything but the picture and are read by `Explanation.load`; txt has a line for each word.
        """
        return files.save([self], path, style)

    @classmethod
    def load(cls, path: Path, picture: Image.Image | None = None) -> "Explanation":
        """Read what `save` wrote as .npz or .json. picture: the original, to draw on again."""
        found = Explanations.load(path, picture)
        if len(found) != 1:
            raise GradTokenError(f"{str(path)!r} holds {len(found)} explanations; use Explanations.load")
        return found[0]

    def figure(self, **style: Any) -> "Figure":
        """A matplotlib figure; style as in `save`."""
        return Explanations((self,)).figure(**style)

    def overlay(self, **style: Any) -> Image.Image:
        """The heat map over the picture, at the picture's size, without title or colour bar."""
        from gradtoken.draw.grid import as_grid
        from gradtoken.draw.overlay import overlay

        if self.picture is None:
            raise BadRelevance("this explanation holds no picture; give it to load, or draw Explanation.figure")
        return overlay(self.picture, as_grid(self.relevance), self.box, **style)

    def show(self, **style: Any) -> None:
        """Show the figure in the notebook, or else in the system's picture viewer."""
        Explanations((self,)).show(**style)

    def __rich_console__(self, console: "Console", options: object) -> "Iterator[Text]":
        from gradtoken.draw.terminal import terminal

        yield terminal([self], few=console.color_system == "standard")

    def _repr_png_(self) -> bytes:
        return files.rendered([self], ".png", {})

    def _repr_html_(self) -> str:
        return Explanations((self,))._repr_html_()


@dataclass(frozen=True, repr=False, eq=False)
class Explanations(Sequence[Explanation]):
    """Several explanations: targets, methods, or both, mostly of one picture."""

    items: tuple[Explanation, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "items", tuple(self.items))

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> Explanation: ...
    @overload
    def __getitem__(self, index: slice) -> "Explanations": ...
    def __getitem__(self, index: int | slice) -> "Explanation | Explanations":
        return Explanations(self.items[index]) if isinstance(index, slice) else self.items[index]

    def __repr__(self) -> str:
        return f"<{len(self)} explanations: {', '.join(f'{one.name!r} {one.method}' for one in self.items)}>"

    def save(self, path: Path, **style: Any) -> Path:
        """One file of all, as `Explanation.save`; npy holds them stacked, which needs maps of one size."""
        return files.save(list(self.items), path, style)

    @classmethod
    def load(cls, path: Path, picture: Image.Image | None = None) -> "Explanations":
        """Read what `save` wrote as .npz or .json. picture: the original, to draw on again."""
        return cls(tuple(Explanation(**(parts | {"picture": picture})) for parts in stored.load(path)))

    def figure(self, **style: Any) -> "Figure":
        """A matplotlib figure, one panel a map."""
        from gradtoken.draw.figure import figure

        return figure(self.items, **style)

    def show(self, **style: Any) -> None:
        """Show the figure in the notebook, or else in the system's picture viewer."""
        show(files.rendered(list(self.items), ".png", style))

    def __rich_console__(self, console: "Console", options: object) -> "Iterator[Text]":
        from gradtoken.draw.terminal import terminal

        yield terminal(self.items, few=console.color_system == "standard")

    def _repr_png_(self) -> bytes:
        return files.rendered(list(self.items), ".png", {})

    def _repr_html_(self) -> str:
        from gradtoken.draw.html import fragment

        return fragment(self.items)
