"""Opening a data set of any kind."""

import os
from pathlib import Path
from typing import Any

from gradtoken.data.entry import DATASETS, Kind
from gradtoken.data.listing import entries
from gradtoken.data.sample import DataSet
from gradtoken.errors import BadData
from gradtoken.registry import check_options

FALLBACK = "pictures"  # fits where other kinds do too


def open_data(path: str | os.PathLike[str], kind: str | None = None, **options: Any) -> DataSet:
    """The data set at `path`. Nothing but lists is read; a picture is opened when its sample is asked for.

    kind: a name in DATASETS; None recognises the kind by the layout of the folder. options: those of the kind.
    """
    place = Path(path).expanduser()
    entry = None if kind is None else DATASETS[kind]
    if not os.path.exists(place):
        raise BadData(f"there is no file or folder {os.fspath(path)!r}; check the name and the folder ({Path.cwd()})")
    entry = entry or recognised(place)
    check_options(entry.open, entry.name, options, BadData)
    return entry.open(place, **options)


def recognised(path: Path) -> Kind:
    """The one kind whose layout a path has."""
    fitting = [entry for entry in DATASETS.values() if entry.fits(path)]
    special = [entry for entry in fitting if entry.name != FALLBACK] or fitting
    if len(special) == 1:
        return special[0]
    if special:
        names = ", ".join(repr(entry.name) for entry in special)
        raise BadData(f"{str(path)!r} looks like {names}; say which with kind=")
    if path.is_dir() and next(entries(path), None) is None:
        raise BadData(f"the folder {str(path)!r} is empty; expected a data set, see gradtoken.data.DATASETS")
    sketches = "\n".join(f"{entry.name}: {entry.summary}\n{indented(entry.layout)}" for entry in DATASETS.values())
    raise BadData(f"{str(path)!r} is laid out as none of the kinds that can be read; expected one of\n{sketches}")


def indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
