"""The shell: `gradtoken explain`, `compare`, `methods`, `models`, `doctor`, `demo`, `serve`, and those of `commands`.

Whatever is heavy is imported inside the commands, so that help answers at once.
"""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from gradtoken import commands
from gradtoken.commands.asking import Against, OfWords, Prompt, Similar, sources, wanted
from gradtoken.commands.checking import Check, drawn
from gradtoken.commands.drawing import Blank, Colours, Form, Nearest, Pictures, Sheet, Threshold, styled
from gradtoken.commands.folders import Resume, explain_folder, here, resumed
from gradtoken.commands.scale import Again, Cluster, Engine, Keeping, ShareOf, Workers
from gradtoken.commands.shared import (
    PARTLY,
    Device,
    Labels,
    ModelName,
    Settings,
    Weights,
    between_commas,
    err,
    friendly,
    leave,
    loaded_model,
    only,
    out,
    settings_of,
)
from gradtoken.commands.texts import Merge, Special, Texts, Windows, explain_texts, named, reading_of, some
from gradtoken.defaults import METHOD
from gradtoken.draw.words import printable

app = typer.Typer(
    help="Show why a Transformer decided what it decided, for the class you name.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(commands.lists)
app.add_typer(commands.benchmark, name="benchmark")

Targets = Annotated[list[str] | None, typer.Option("--target", "-t", help="Class name or index; repeatable.")]


@app.command()
def explain(  # noqa: PLR0913
    pictures: Pictures = None,
    text: Texts = None,
    model: ModelName = "bundled",
    target: Targets = None,
    against: Against = None,
    similar_to: Similar = None,
    words: OfWords = False,
    prompt: Prompt = None,
    method: Annotated[list[str], typer.Option(help="See `gradtoken methods`; repeatable.")] = [METHOD],  # noqa: B006
    set_: Settings = None,
    output: Annotated[str | None, typer.Option("--out", "-o", help="A file, or a folder.")] = None,
    form: Form = None,
    merge: Merge = None,
    special: Special = False,
    windows: Windows = None,
    colours: Colours = None,
    nearest: Nearest = False,
    threshold: Threshold = None,
    shared_scale: Annotated[bool, typer.Option("--shared-scale", help="One colour scale for all maps.")] = False,
    allow_blank: Blank = False,
    check: Check = False,
    weights: Weights = None,
    labels: Labels = None,
    device: Device = None,
    memory: Keeping = "keep",
    resume: Resume = False,
    engine: Engine = "here",
    workers: Workers = None,
    address: Cluster = None,
    share: ShareOf = None,
    retry_failed: Again = False,
) -> None:
    """Draw which parts of a picture or a sound, or which words of a text, speak for a class."""
    from gradtoken.batch import Destination, found

    pictures = some(pictures, text, check, words or resume or prompt is not None)
    with friendly():
        style, path = styled(colours, nearest, threshold, shared_scale), here(output, resume)
        options, chosen = settings_of(names := [*dict.fromkeys(method)], set_)
        load = partial(loaded_model, model, weights, labels, device=device, headless=bool(similar_to), memory=memory)
        where = resumed(resume, (engine, workers, address, share, retry_failed), device)
        asked, read = wanted(target, against, similar_to), reading_of(merge, special, windows)
        request = options | read | dict(target=asked, method=names, words=words, prompt=prompt, allow_blank=allow_blank)
        if texts := named(text or [], pictures, resume, prompt):
            explain_texts(texts, load(), request, (path, form), style)
            return
        files, missing = found(pictures) if pictures != ["-"] else ([sys.stdin.buffer.read()], 0)
        if where:
            explain_folder(files, load, (asked, chosen), (output, form, style), where)
            return
        destination, loaded = Destination.of(path, form, len(files)), load()
        if words or (pictures == ["-"] and loaded.reads_texts):
            explain_texts(sources(files), loaded, request, (path, form), style)
            return
        leave(missing + drawn(check, files, loaded, request, destination, style), len(files) + missing, "pictures")


@app.command()
def compare(  # noqa: PLR0913
    pictures: Annotated[list[str], typer.Argument(help="Pictures, folders or patterns; - reads one from stdin.")],
    model: ModelName = "bundled",
    target: Targets = None,
    methods: Annotated[list[str], typer.Option("--methods", "--method", help="all, or names; repeatable.")] = ["all"],  # noqa: B006
    set_: Settings = None,
    output: Sheet = Path("comparison.png"),
    rows: Annotated[str, typer.Option(help="pictures or classes: what stands together.")] = "pictures",
    schemes: Annotated[bool, typer.Option("--schemes", help="GradToken's propagation schemes instead.")] = False,
    heads: Annotated[bool, typer.Option("--heads", help="The heads of its last block, with their sign.")] = False,
    depths: Annotated[bool, typer.Option("--depths", help="Its depths.")] = False,
    shared_scale: Annotated[bool, typer.Option("--shared-scale/--own-scale", help="Of a column or a map.")] = False,
    colours: Colours = None,
    nearest: Nearest = False,
    threshold: Threshold = None,
    allow_blank: Blank = False,
    weights: Weights = None,
    labels: Labels = None,
    device: Device = None,
) -> None:
    """Draw methods side by side: a row for each picture and class, a column for each method."""
    from gradtoken.batch import compare_all, found, parse_options
    from gradtoken.comparing import planned
    from gradtoken.files import check_format, check_place

    with friendly():
        style, options = styled(colours, nearest, threshold, shared_scale), parse_options(set_ or [])
        asked = [name for some in methods for name in between_commas(some)]
        names: Any = "all" if asked == ["all"] else asked
        varied = {"propagation": schemes, "heads": heads, "depth": depths}
        vary: Any = only([name for name, given in varied.items() if given])
        planned(names, vary, options, rows)
        check_format(output.suffix)
        check_place(output.expanduser())
        files, missing = found(pictures) if pictures != ["-"] else ([sys.stdin.buffer.read()], 0)
        request = {"target": target, "method": names, "vary": vary, "rows": rows, "allow_blank": allow_blank}
        comparison, failed = compare_all(files, loaded_model(model, weights, labels, device), request | options)
        comparison.save(output, **style)
    written = printable(f"{len(comparison.rows)} x {len(comparison.columns)} maps -> {output}")
    out.print(written, markup=False, highlight=False)
    for title, reason in comparison.refusals:
        err.print(printable(f"no map of {title}: {reason}"), style="yellow", markup=False, highlight=False)
    if failed + missing or (comparison.refusals and names != "all"):
        raise typer.Exit(PARTLY)


@app.command()
def methods(
    name: Annotated[str | None, typer.Argument(help="Everything that is known of one method.")] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Say which run on this model.")] = None,
    weights: Weights = None,
    device: Device = None,
) -> None:
    """List the methods; describe one of them; or say which of them run on a model."""
    from gradtoken.batch import support
    from gradtoken.methods import METHODS

    with friendly():
        if name is not None:
            describe(METHODS[name])
            return
        table = Table("name", "class-aware", "cost", "formula", box=None)
        if model is not None:
            table = Table("name", "runs", "", box=None)
            for method, reason in support(loaded_model(model, weights, None, device)).items():
                table.add_row(method, "no" if reason else "\N{CHECK MARK}", Text(printable(reason)))
        for entry in METHODS.values() if model is None else ():
            table.add_row(entry.name, "yes" if entry.class_aware else "no", Text(entry.cost), Text(entry.formula))
        out.print(table)


def describe(entry: Any) -> None:
    """The docstring, the facts and the options of a method."""
    from gradtoken import manual

    out.print(entry.name, style="bold", highlight=False)
    out.print(manual.description(entry) + "\n", markup=False, highlight=False)
    facts, options = Table(show_header=False, box=None), Table("option", "default", "", box=None)
    for name, value in manual.facts(entry).items():
        facts.add_row(name, Text(value))
    for option in manual.options(entry):
        told = [f"one of {', '.join(option.choices)}"] if option.choices else []
        told += [option.meaning] if option.meaning else []
        options.add_row(f"--set {option.name}=", Text(str(option.default)), Text("; ".join(told)))
    out.print(facts)
    if options.row_count:
        out.print("\n", options)


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

    explain([str(FOLDER / "pictures" / "cat_and_giraffe.jpg")], target=["cat", "giraffe"], output=str(output))


@app.command()
def serve(
    model: Annotated[list[str] | None, typer.Option("--model", "-m", help="Offered on the page; repeatable.")] = None,
    host: Annotated[str, typer.Option(help="Who is let in: 0.0.0.0 is everybody on the network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes any that is free.", min=0, max=65535)] = 7860,
    device: Device = None,
) -> None:
    """Open a page to look at pictures and texts in the browser."""
    from gradtoken.web.serving import serve
    from gradtoken.web.settings import Settings

    with friendly():
        settings = Settings(host=host, port=port, models=tuple(model or ["bundled"]), device=device)
        serve(settings, ready=lambda address: out.print(f"open {address} (Ctrl+C ends it)", highlight=False))


def main() -> None:
    """Entry point of the `gradtoken` command."""
    app()
