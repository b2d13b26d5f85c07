"""The shell's `--check`: whether the maps that were drawn are worth reading."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gradtoken.commands.shared import complain, out, say
from gradtoken.errors import GradTokenError

if TYPE_CHECKING:
    from gradtoken.checking import Verdict

Check = Annotated[
    bool, typer.Option("--check", help="Also say whether the maps pass sanity checks; see docs/limits.md.")
]


def drawn(
    check: bool, files: Sequence[Any], model: Any, request: Mapping[str, Any], place: Any, style: dict[str, Any]
) -> int:
    """Write the maps of all pictures, and check them where that is wanted. Number of failures."""
    from gradtoken.batch import explain_all

    failed = explain_all(files, model, dict(request), place, style)
    if check:
        checked(files, model, request)
    return failed


def checked(files: Sequence[Any], model: Any, request: Mapping[str, Any]) -> None:
    """A table of verdicts for each picture, and at the end what was asked."""
    from gradtoken.batch import bars
    from gradtoken.checking import check as verdicts

    asked = {name: value for name, value in request.items() if name not in ("allow_blank", "words", "prompt")}
    made: dict[Any, None] = {}
    for file in files:
        try:
            with bars():
                found = verdicts(file, model, **asked)
        except GradTokenError as error:
            complain(f"not checked: {type(error).__name__}: {error}")
            continue
        if len(files) > 1:
            say(str(file) if not isinstance(file, bytes) else "stdin", "bold")
        show(found)
        made |= dict.fromkeys(one.check for one in found)
    for one in made:
        say(f"{one.name}: {one.question} ({one.number})", "dim")


def show(verdicts: "Sequence[Verdict]") -> None:
    """Number, limit and verdict of each check."""
    from rich.table import Table
    from rich.text import Text

    from gradtoken.draw.words import first_name, printable

    table = Table("method", "class", "check", "number", "limit", "verdict", box=None)
    for one in verdicts:
        sign, colour = {True: ("passes", "green"), False: ("fails", "red"), None: ("not made", "yellow")}[one.passed]
        number = "-" if one.passed is None else f"{one.value:.3f}"
        limit = f"{'at least' if one.check.higher else 'at most'} {one.check.limit:g}"
        told = sign if one.passed else f"{sign}: {printable(one.told)}"
        name = Text(printable(first_name(one.target)))
        table.add_row(one.method, name, one.check.name, number, limit, Text(told, colour))
    out.print(table)
