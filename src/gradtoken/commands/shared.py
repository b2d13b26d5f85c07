"""What all commands of the shell share."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from gradtoken.draw.words import printable
from gradtoken.errors import BadTarget, GradTokenError

out, err = Console(soft_wrap=True), Console(stderr=True, soft_wrap=True)
FAILED, PARTLY = 1, 3  # exit codes: nothing was done; some of several pictures failed (2 is wrong usage)

ModelName = Annotated[str, typer.Option("--model", "-m", help="A name, see `gradtoken models`, or a folder.")]
Weights = Annotated[Path | None, typer.Option(help="Weights file for the architecture named by --model timm:NAME.")]
Labels = Annotated[Path | None, typer.Option(help="File of class names: one a line, or JSON.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="NAME=VALUE: an option of the method; METHOD.NAME=VALUE, of one.")
]
DataOptions = Annotated[
    list[str] | None,
    typer.Option("--data-option", help="NAME=VALUE: an option of the kind of data; see `gradtoken data kinds NAME`."),
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps ...")]


@contextmanager
def friendly() -> Iterator[None]:
    """Errors of ours without a traceback, and an exit code."""
    try:
        yield
    except GradTokenError as error:
        err.print(f"[bold red]{type(error).__name__}[/]: ", end="")
        for line in str(error).splitlines():
            err.print(printable(line), markup=False, highlight=False)
        raise typer.Exit(FAILED) from None


def data_options(settings: Sequence[str], path: Path, kind: str | None) -> dict[str, Any]:
    """["split=train"] -> {"split": "train"}. A value stays a text where the kind of data takes one there."""
    from gradtoken.batch import parse_value
    from gradtoken.data.entry import DATASETS
    from gradtoken.data.opening import recognised
    from gradtoken.registry import fits

    found = dict[str, str]()
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not (equals and name.isidentifier()) or name in ("path", "kind"):
            raise BadTarget(f"expected --data-option NAME=VALUE, got {setting!r}")
        found[name] = value
    place = path.expanduser()
    if not found or not place.exists():  # which opening it says
        return dict(found)
    entry = recognised(place) if kind is None else DATASETS[kind]
    known = {option.name: option.annotation for option in inspect.signature(entry.open).parameters.values()}
    return {n: value if fits(value, known.get(n, Any)) else parse_value(value) for n, value in found.items()}


def loaded_model(
    name: str,
    weights: Path | None,
    labels: Path | None,
    device: str | None,
    headless: bool = False,
    memory: Any = "keep",
) -> Any:
    """The model; what should be known of it is said on stderr."""
    from gradtoken.models.load import load

    loaded = load(name, weights=weights, labels=labels, device=device, headless=headless, memory=memory)
    if loaded.note:
        err.print(f"model {loaded.name}: {loaded.note}", style="dim", highlight=False)
    return loaded


def settings_of(
    methods: Sequence[str], given: Sequence[str] | None
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """What --set says, as it is, and for each method."""
    from gradtoken.batch import parse_options
    from gradtoken.explaining import options_of

    options = parse_options(given or [])
    return options, options_of(methods, options)


def say(text: str, style: str = "") -> None:
    """One line on stdout, whatever signs it holds."""
    out.print(printable(text), style=style, markup=False, highlight=False)


def complain(text: str, style: str = "yellow") -> None:
    """One line on stderr."""
    err.print(printable(text), style=style, markup=False, highlight=False)


def leave(failed: int, count: int, what: str) -> None:
    """End with the exit code that says how many failed, if any did."""
    if failed:
        complain(f"{failed} of {count} {what} failed", "red")
        raise typer.Exit(FAILED if failed == count else PARTLY)


def between_commas(names: str) -> list[str]:
    """Names that a user gave as one text."""
    return [name.strip() for name in names.split(",") if name.strip()]


def only(names: list[str]) -> str | None:
    """The one name, if any."""
    if len(names) > 1:
        raise BadTarget("--schemes, --heads and --depths each fill the columns; give one of them")
    return names[0] if names else None
