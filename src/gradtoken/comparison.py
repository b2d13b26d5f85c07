"""What a comparison holds, and how it is saved and shown."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from gradtoken import files
from gradtoken.draw.style import Style
from gradtoken.result import Explanation, Explanations, show

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Column:
    """One method with its options. title, note: what stands above it."""

    method: str
    options: Mapping[str, Any]
    title: str
    note: str = ""


@dataclass(frozen=True, eq=False)
class Cell:
    """A map, or (explanation is None) the reason why there is none."""

    explanation: Explanation | None
    refusal: str = ""


@dataclass(frozen=True, eq=False)
class Row:
    """One picture and one target, with a cell for each column; the rest as in `Explanation`."""

    picture: Image.Image
    source: str
    target: int | None
    name: str
    logit: float
    probability: float | None
    cells: tuple[Cell, ...]


@dataclass(frozen=True, repr=False, eq=False)
class Comparison:
    """Rows of explanations, one under the other by `columns`."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    def __repr__(self) -> str:
        names = ", ".join(column.title for column in self.columns)
        return f"<Comparison of {len(self.rows)} rows by {len(self.columns)} columns: {names}>"

    @property
    def explanations(self) -> Explanations:
        """All maps, row by row."""
        return Explanations(tuple(c.explanation for row in self.rows for c in row.cells if c.explanation is not None))

    @property
    def refusals(self) -> tuple[tuple[str, str], ...]:
        """Titles of columns that miss maps, with the reason, each once."""
        titles = [column.title for column in self.columns]
        cells = [pair for row in self.rows for pair in zip(titles, row.cells, strict=True)]
        return tuple(dict.fromkeys((title, cell.refusal) for title, cell in cells if cell.explanation is None))

    def column(self, number: int) -> list[Explanation]:
        """The maps of one column."""
        found = [row.cells[number].explanation for row in self.rows]
        return [one for one in found if one is not None]

    def save(self, path: str | os.PathLike[str], **style: Any) -> Path:
        """One file of all, as `Explanation.save`; npz and json are read by `Explanations.load`.

        shared_scale: one scale for each column, instead of one for each map.
        """
        path = Path(path).expanduser()
        files.write(path, self._rendered(path.suffix.lower(), style))
        return path

    def figure(self, **style: Any) -> "Figure":
        """A matplotlib figure; style as in `save`."""
        from gradtoken.draw.table import figure

        return figure(self, **style)

    def show(self, **style: Any) -> None:
        """Show the figure in the notebook, or else in the system's picture viewer."""
        show(self._rendered(".png", style))

    def _rendered(self, suffix: str, style: dict[str, Any]) -> bytes:
        files.check_format(suffix)
        Style.of(**style)
        if suffix in files.DATA:
            return files.DATA[suffix](list(self.explanations), {"refusals": self.refusals})
        if suffix == ".html":
            from gradtoken.draw.table_html import page

            return page(self, **style).encode()
        from gradtoken.draw.figure import rendered

        return rendered(self.figure(**style), suffix[1:])

    def _repr_png_(self) -> bytes:
        return self._rendered(".png", {})

    def _repr_html_(self) -> str:
        from gradtoken.draw.table_html import fragment

        return fragment(self)
