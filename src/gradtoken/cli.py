"""The shell: `gradtoken explain`, `methods`, `models`, `doctor`, `demo`.

Whatever is heavy is imported inside the commands, so that help answers at once.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from gradtoken.draw.words import printable
from gradtoken.errors import GradTokenError

app = typer.Typer(
    help="Show why a Transformer decided what it decided, for the class you name.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
out, err = Console(soft_wrap=True), Console(stderr=True, soft_wrap=True)
FAILED, PARTLY = 1, 3  # exit codes: nothing was done; some of several pictures failed (2 is wrong usage)

ModelName = Annotated[str, typer.Option("--model", "-m", help="A name, see `gradtoken models`, or a folder.")]
Targets = Annotated[list[str] | None, typer.Option("--target", "-t", help="Class name or index; repeatable.")]
Weights = Annotated[Path | None, typer.Option(help="Weights file for the architecture named by --model timm:NAME.")]
Labels = Annotated[Path | None, typer.Option(help="File of class names: one a line, or JSON.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps ...")]


@contextmanager
def friendly() -> Iterator[None]:
    """Errors of ours as one line and an exit code."""
    try:
        yield
    except GradTokenError as error:
        err.print(f"[bold red]{type(error).__name__}[/]: ", end="")
        err.print(printable(str(error)), markup=False, highlight=False)
        raise typer.Exit(FAILED) from None


@app.command()
def explain(  # noqa: PLR0913
    pictures: Annotated[list[str], typer.Argument(help="Pictures, folders or patterns; - reads one from stdin.")],
    model: ModelName = "bundled",
    target: Targets = None,
    method: Annotated[list[str] | None, typer.Option(help="See `gradtoken methods`; repeatable.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE: an option of the method.")] = None,
    output: Annotated[Path | None, typer.Option("--out", "-o", help="A file, or a folder.")] = None,
    form: Annotated[str | None, typer.Option("--format", help="png (default), svg, pdf, html, npy, npz, json.")] = None,
    colours: Annotated[str | None, typer.Option(help="A colour map of matplotlib, for example jet.")] = None,
    nearest: Annotated[bool, typer.Option("--nearest", help="Patches as squares, not smoothed.")] = False,
    threshold: Annotated[float | None, typer.Option(help="Dim what is below this share of the maximum.")] = None,
    shared_scale: Annotated[bool, typer.Option("--shared-scale", help="One colour scale for all maps.")] = False,
    allow_blank: Annotated[bool, typer.Option("--allow-blank", help="Also draw maps that are zero.")] = False,
    weights: Weights = None,
    labels: Labels = None,
    device: Device = None,
) -> None:
    """Draw which parts of a picture speak for a class."""
    from gradtoken.batch import Destination, explain_all, found, parse_options
    from gradtoken.models.load import load

    with friendly():
        files, missing = found(pictures) if pictures != ["-"] else ([sys.stdin.buffer.read()], 0)
        destination = Destination.of(output, form, len(files))
        request: dict[str, Any] = {"target": target, "method": method or "gradtoken", "allow_blank": allow_blank}
        request |= parse_options(set_ or [])
        style: dict[str, Any] = {"colours": colours, "interpolation": "nearest" if nearest else None}
        style |= {"threshold": threshold, "shared_scale": shared_scale or None}
        loaded = load(model, weights=weights, labels=labels, device=device)
        if loaded.note:
            err.print(f"model {loaded.name}: {loaded.note}", style="dim", highlight=False)
        failed = missing + explain_all(
            files, loaded, request, destination, {k: v for k, v in style.items() if v is not None}
        )
    if failed:
        err.print(f"{failed} of {len(files) + missing} pictures failed", style="red")
        raise typer.Exit(FAILED if failed == len(files) + missing else PARTLY)


@app.command()
def methods() -> None:
    """List the methods and their papers."""
    from gradtoken.methods import METHODS

    table = Table("name", "what it computes", "paper", box=None)
    for entry in METHODS.values():
        table.add_row(entry.name, entry.summary, entry.paper)
    out.print(table)


@app.command()
def models() -> None:
    """List the ways to name a model, and which of their libraries are installed."""
    from gradtoken.models.load import known_models

    table = Table("--model", "what it loads", "library", box=None)
    for form in known_models():
        hint = "installed" if form.installed else f"pip install 'gradtoken\\[{form.extra}]'"
        table.add_row(form.pattern, form.meaning, f"{form.library}: {hint}")
    out.print(table)


@app.command()
def doctor(model: ModelName = "bundled", weights: Weights = None, device: Device = None) -> None:
    """Say what is installed, and what is seen of a model: blocks, heads, grid, prefix tokens, readout."""
    from gradtoken.batch import checkup, environment
    from gradtoken.models.load import load

    with friendly():
        for facts in (environment(), checkup(load(model, weights=weights, device=device))):
            table = Table(show_header=False, box=None)
            for name, value in facts.items():
                table.add_row(name, value)
            out.print(table)


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--out", "-o", help="Where the picture goes.")] = Path(
        "demo-cat-and-giraffe.png"
    ),
) -> None:
    """Explain the bundled picture of a cat and a giraffe with the bundled model, once for each."""
    from gradtoken.models.bundled import FOLDER

    explain([str(FOLDER / "pictures" / "cat_and_giraffe.jpg")], target=["cat", "giraffe"], output=output)


def main() -> None:
    """Entry point of the `gradtoken` command."""
    app()
