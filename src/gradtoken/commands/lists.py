"""The shell's lists: `gradtoken protocols`, `metrics`, `data`."""

import inspect
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from gradtoken.commands.shared import FAILED, PARTLY, DataOptions, complain, data_options, friendly, out, say

if TYPE_CHECKING:
    from gradtoken.data.entry import Kind
    from gradtoken.protocols.protocol import Protocol

app = typer.Typer()
data = typer.Typer(help="Data sets: their kinds, and whether one is whole.", no_args_is_help=True)
app.add_typer(data, name="data")
SHOWN = 20  # problems of one kind that are listed


@app.command()
def protocols(
    name: Annotated[str | None, typer.Argument(help="All settings of one of them.")] = None,
) -> None:
    """List the protocols, or everything that one of them fixes."""
    from gradtoken.protocols import PROTOCOLS

    with friendly():
        if name is not None:
            settings(PROTOCOLS[name])
            return
        for one in PROTOCOLS.values():
            say(one.name, "bold")
            say(f"  {one.summary}; numbers: {'; '.join(number.name for number in one.numbers)}")


def settings(protocol: "Protocol") -> None:
    """What a protocol fixes."""
    say(f"{protocol.name} (version {protocol.version})", "bold")
    table = Table(show_header=False, box=None)
    for setting, plain in protocol.describe().items():
        value = getattr(protocol, setting, plain)
        if setting not in ("name", "version"):
            table.add_row(setting, Text("; ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)))
    better = {"higher": " (higher is better)", "lower": " (lower is better)", "": ""}
    table.add_row("numbers", Text(", ".join(number.name + better[number.better] for number in protocol.numbers)))
    table.add_row("published ones of", Text(protocol.pictures))
    out.print(table)


@app.command()
def metrics() -> None:
    """List the metrics: one value, or curve, per sample."""
    from gradtoken.metrics import METRICS

    for one in METRICS.values():
        say(one.name, "bold")
        better = f"; {one.better} is better" if one.better else ""
        say(f"  {one.summary.rstrip('.')}{better}; {one.paper}")


@data.command()
def kinds(name: Annotated[str | None, typer.Argument(help="One of them, with its layout.")] = None) -> None:
    """List the kinds of data sets that can be read: what they hold, where they are to be had, their licences."""
    from gradtoken.data import DATASETS, describe

    with friendly():
        if name is not None:
            say_all(describe(DATASETS[name]))
            say_all(options_of(DATASETS[name]))
            return
        for one in DATASETS.values():
            say(one.name, "bold")
            say(f"  {one.summary}; from: {one.where}; licence: {one.licence}")


def options_of(kind: "Kind") -> str:
    """The options that a shell can give, with their defaults and what the docstring says of them."""
    from gradtoken.manual import meaning
    from gradtoken.registry import fits

    keywords = [p for p in inspect.signature(kind.open).parameters.values() if p.kind is p.KEYWORD_ONLY]
    text, names = inspect.cleandoc(kind.open.__doc__ or ""), [p.name for p in keywords]
    lines = [
        f"    {p.name}{'' if p.default is None else f'={p.default}'}: {meaning(text, p.name, names)}"
        for p in keywords
        if any(fits(value, p.annotation) for value in ("", 0, False))
    ]
    return "\n".join(["  options, given as --data-option NAME=VALUE:", *lines] if lines else ["  options: none"])


@data.command()
def check(
    path: Annotated[Path, typer.Argument(help="The data set.")],
    kind: Annotated[str | None, typer.Option(help="Its kind, where the layout does not say.")] = None,
    data_option: DataOptions = None,
    threads: Annotated[int, typer.Option(min=1, help="Pictures read at once.")] = 1,
) -> None:
    """Read every sample and say what is missing, broken or mismatched."""
    from gradtoken.data import check as problems_of
    from gradtoken.data import describe, open_data

    with friendly():
        found = open_data(path, kind, **data_options(data_option or [], path, kind))
        say_all(describe(found))
        counts, faulty = Counter[str](), set[str]()
        for problem in problems_of(found, threads):
            counts[problem.kind] += 1
            faulty |= {problem.id} if problem.kind == "error" else set()
            if counts[problem.kind] <= SHOWN:
                complain(f"{problem.kind}: {problem.id}: {problem.reason}", "red" if problem.id in faulty else "yellow")
        hidden = sum(max(0, number - SHOWN) for number in counts.values())
        say(f"{len(found) - len(faulty)} of {len(found)} samples can be used, {counts['warning']} warnings")
        if hidden:
            complain(f"{hidden} more problems are not shown")
    if faulty:
        raise typer.Exit(FAILED if len(faulty) == len(found) else PARTLY)


def say_all(text: str) -> None:
    """Lines as they are."""
    for line in text.splitlines():
        say(line)
