"""What an explanation holds, and how it is saved, loaded and shown."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from PIL import Image

from gradtoken import files
from gradtoken.errors import BadRelevance, GradTokenError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, repr=False, eq=False)
class Explanation:
    """How much each patch of a picture speaks for one target.

    relevance: raw and unscaled, (rows, columns) float32; signed unless the method clips it.
    picture: the original, or None where it was loaded without. box: x0, y0, x1, y1 of what the grid covers, in pixels
    of the picture; smaller than it where the model crops, larger where it pads.
    target: class index, None for a callable. logit: the explained score. probability: softmax over all classes.
    predicted: the five most probable classes. options: of the method. source: file name. note: what to know of the
    model.
    """

    relevance: np.ndarray[Any, Any]
    picture: Image.Image | None
    box: tuple[float, float, float, float]
    target: int | None
    name: str
    logit: float
    probability: float | None
    predicted: tuple[tuple[str, float], ...]
    model: str
    method: str
    options: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    preprocessing: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if self.relevance.ndim != 2 or not np.isfinite(self.relevance).all():
            raise BadRelevance(f"expected finite relevance (rows, columns), got {self.relevance.shape}")

    def __repr__(self) -> str:
        rows, columns = self.relevance.shape
        sure = "" if self.probability is None else f", probability {self.probability:.3f}"
        return f"<Explanation of {self.name!r}{sure}: {self.method} of {self.model}, {rows} x {columns}>"

    def save(self, path: str | Path, **style: Any) -> Path:
        """Write .png, .svg, .pdf, .html, .npy, .npz or .json, by the suffix; an older file is replaced at the end.

        style, for pictures: colours (any map of matplotlib), opacity, interpolation ("bilinear" or "nearest"),
        threshold (share of the maximum below which the picture is dimmed, instead of colours), shared_scale.
        npz and json hold everything but the picture and are read by `Explanation.load`.
        """
        return files.save([self], Path(path), style)

    @classmethod
    def load(cls, path: str | Path) -> "Explanation":
        """Read what `save` wrote as .npz or .json."""
        found = Explanations.load(path)
        if len(found) != 1:
            raise GradTokenError(f"{path} holds {len(found)} explanations; use Explanations.load")
        return found[0]

    def figure(self, **style: Any) -> "Figure":
        """A matplotlib figure; style as in `save`."""
        from gradtoken.draw.figure import figure

        return figure([self], **style)

    def overlay(self, **style: Any) -> Image.Image:
        """The heat map over the picture, at the picture's size, without title or colour bar."""
        from gradtoken.draw.colours import Scale
        from gradtoken.draw.overlay import overlay

        if self.picture is None:
            raise BadRelevance("this explanation was loaded without its picture; draw on Explanation.relevance instead")
        scale = Scale.of([self.relevance], style.pop("colours", None))
        return overlay(self.picture, self.relevance, self.box, scale, **style)

    def show(self, **style: Any) -> None:
        """Open the overlay in the system's picture viewer."""
        self.overlay(**style).show()

    def _repr_png_(self) -> bytes | None:
        return files.rendered([self], ".png", {}) if self.picture is not None else None


@dataclass(frozen=True, repr=False, eq=False)
class Explanations(Sequence[Explanation]):
    """Several explanations of one picture: targets, methods, or both."""

    items: tuple[Explanation, ...]

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> Explanation: ...
    @overload
    def __getitem__(self, index: slice) -> "Explanations": ...
    def __getitem__(self, index: int | slice) -> "Explanation | Explanations":
        return self.items[index] if isinstance(index, int) else Explanations(self.items[index])

    def __repr__(self) -> str:
        return f"<{len(self)} explanations: {', '.join(f'{one.name!r} {one.method}' for one in self.items)}>"

    def save(self, path: str | Path, **style: Any) -> Path:
        """One file of all, as `Explanation.save`; npy holds them stacked, which needs maps of one size."""
        return files.save(list(self.items), Path(path), style)

    @classmethod
    def load(cls, path: str | Path) -> "Explanations":
        """Read what `save` wrote as .npz or .json."""
        return cls(tuple(Explanation(**parts) for parts in files.load(Path(path))))

    def figure(self, **style: Any) -> "Figure":
        """A matplotlib figure, one panel a map."""
        from gradtoken.draw.figure import figure

        return figure(self.items, **style)

    def _repr_png_(self) -> bytes | None:
        return files.rendered(list(self.items), ".png", {}) if self.items and self.items[0].picture else None
