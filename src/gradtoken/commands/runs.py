"""The shell's commands on runs that were made: `gradtoken benchmark report`, `status`, `merge`, `reproduce`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gradtoken.commands.benchmark import (
    Batch,
    Kind,
    Limit,
    app,
    carried_out,
    limit_threads,
)
from gradtoken.commands.scale import Threads
from gradtoken.commands.shared import (
    PARTLY,
    DataOptions,
    Device,
    Weights,
    complain,
    data_options,
    friendly,
    loaded_model,
    say,
)
from gradtoken.commands.telling import leave, show, write

if TYPE_CHECKING:
    from gradtoken.benchmark.report import Report
    from gradtoken.benchmark.status import Process
    from gradtoken.data.sample import DataSet

Folder = Annotated[str, typer.Argument(help="The run's folder, or s3://...")]
Again = Annotated[Path | None, typer.Option("--data", help="The run's data set, to show pictures with their maps.")]


@app.command()
def report(  # noqa: PLR0913
    folder: Folder,
    html: Annotated[Path | None, typer.Option(help="A web page in one file.")] = None,
    csv: Annotated[Path | None, typer.Option(help="One line for each number.")] = None,
    md: Annotated[Path | None, typer.Option(help="Markdown.")] = None,
    data: Again = None,
    kind: Kind = None,
    data_option: DataOptions = None,
    model: Annotated[str, typer.Option("--model", "-m", help="The run's model, for the pictures.")] = "bundled",
    weights: Weights = None,
    limit: Limit = None,
    method: Annotated[list[str] | None, typer.Option("--method", help="Whose pictures; repeatable.")] = None,
    device: Device = None,
    threads: Threads = None,
) -> None:
    """Print a run's numbers, or write them; with its data and model again, also its worst and best pictures."""
    from gradtoken.benchmark.report import Report
    from gradtoken.benchmark.request import first
    from gradtoken.benchmark.store import address
    from gradtoken.data.opening import open_data
    from gradtoken.files import check_place

    with friendly():
        forms = {suffix: path for suffix, path in ((".html", html), (".csv", csv), (".md", md)) if path}
        for path in forms.values():
            check_place(path.expanduser())
        found = Report.of(address(folder))
        pictures: list[Any] = []
        if data is not None and html:
            limit_threads(threads)
            samples = first(open_data(data, kind, **data_options(data_option or [], data, kind)), limit)
            pictures = again(found, samples, (model, weights, device), method or [])
        write(found, forms, pictures)
        for path in forms.values():
            say(f"{found.protocol.name} -> {path}")
        if not forms:
            show(found)
        leave([found])


def again(
    found: "Report",
    samples: "DataSet",
    model: tuple[str, Path | None, str | None],
    titles: list[str],
) -> list[Any]:
    """Pictures with their maps. model: name, weights, device."""
    from dataclasses import replace

    from gradtoken.benchmark.pictures import shown
    from gradtoken.benchmark.plan import planned

    name, weights, device = model
    plan = planned(found.protocol, samples, loaded_model(name, weights, None, device), ["gradtoken"])
    return list(shown(found, replace(plan, unit=found.settings["unit"]), titles))


@app.command()
def status(folder: Folder) -> None:
    """Say how far a run is, what works on it, and how long that will take."""
    from rich.table import Table
    from rich.text import Text

    from gradtoken.benchmark.counting import Counts, counted
    from gradtoken.benchmark.folder import RunFolder
    from gradtoken.benchmark.status import processes
    from gradtoken.benchmark.store import address
    from gradtoken.commands.shared import out

    with friendly():
        run = RunFolder.open(address(folder))
        settings = run.manifest["settings"]
        say(f"{settings['protocol']['name']} (version {settings['protocol']['version']})", "bold")
        say(f"{settings['data']['name']}, {settings['data']['samples']} samples; {settings['model']['name']}")
        table = Table("method", f"units of {settings['unit']} samples", box=None)
        counts = run.done
        for title, (some, units) in counts.items():
            table.add_row(Text(title), f"{some} of {units}")
        out.print(table)
        found = [counted(run, [variant]) for variant in run.variants]
        late = sum(one.missing > 0 for one in found)  # files that are there may be damaged
        for process in processes(run):
            say(of_process(process), "" if process.ended else "bold")
        say(f"samples x methods: {sum(found, Counts())}")
        say(f"{late} of {len(counts)} methods are not finished" if late or not counts else "finished")


def of_process(process: "Process") -> str:
    """One line."""
    asked, done = process.pairs
    parts = [f"{done} of {asked} samples x methods"]
    parts += [f"{process.rate:.3g}/s"] if process.rate else []
    parts += [f"{process.left / 60:.0f} min left"] if process.left and not process.ended else []
    parts += ["ended" if process.ended else f"heard {process.heard:.0f} s ago"]
    share = "" if process.share == "0-of-1" else f", share {process.share}"
    workers = "".join(f"; {name}: {count}" for name, count in process.workers.items())
    return f"{process.name}{share}: {', '.join(parts)}{workers}"


@app.command()
def merge(
    folder: Folder,
    output: Annotated[Path, typer.Option("--out", "-o", help="FILE.parquet")],
) -> None:
    """Write all rows of a run as one file, with a column for the method."""
    from gradtoken.benchmark.columns import merge as merged
    from gradtoken.benchmark.folder import RunFolder
    from gradtoken.benchmark.store import address
    from gradtoken.files import check_place

    with friendly():
        run = RunFolder.open(address(folder))
        check_place(output.expanduser())
        rows, missing = merged(run, output.expanduser())
        say(f"{run.manifest['settings']['protocol']['name']}: {rows} rows -> {output}")
    if missing:
        complain(f"{missing} units are missing; go on with the run")
        raise typer.Exit(PARTLY)


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--out", "-o", help="The runs' folder.")] = Path("gradtoken-benchmark-demo"),
    threads: Threads = None,
) -> None:
    """Measure all methods with the bundled model on the bundled pictures; no data is needed."""
    from gradtoken.batch import bars
    from gradtoken.benchmark.demo import run_demo
    from gradtoken.benchmark.report import Report
    from gradtoken.benchmark.store import below

    with friendly():
        limit_threads(threads)
        with bars():
            folders = run_demo(output)
        for folder in folders:
            found = Report.of(folder.root)
            page = below(folder.root, "report.html")
            write(found, {".html": page})
            show(found)
            say(f"report -> {page}\n")
        complain("five pictures show how a benchmark works, not which method is best", "dim")


@app.command()
def reproduce(  # noqa: PLR0913
    table: Annotated[list[str] | None, typer.Option(help="1, 2, 3 or 4; repeatable.")] = None,
    figure: Annotated[list[str] | None, typer.Option(help="6 or 11; repeatable.")] = None,
    run: Annotated[list[Path] | None, typer.Option(help="Folder of a run to put beside; repeatable.")] = None,
    data: Annotated[Path | None, typer.Option(help="Or a data set to run it on.")] = None,
    kind: Kind = None,
    data_option: DataOptions = None,
    model: Annotated[str, typer.Option("--model", "-m", help="The model to run.")] = "bundled",
    weights: Weights = None,
    output: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for new runs.")] = None,
    limit: Limit = None,
    batch: Batch = 8,
    threads: Threads = None,
    device: Device = None,
) -> None:
    """Print the paper's numbers beside those of runs, each with the protocol that made it."""
    from gradtoken.benchmark.report import Report
    from gradtoken.benchmark.reproduce import beside, exhibits, requests
    from gradtoken.benchmark.request import Request

    with friendly():
        wanted, roots = exhibits(table or [], figure or []), list[Path | str](run or [])
        asked: list[Request] = []
        if data:
            options = data_options(data_option or [], data, kind)
            asked = list(requests(wanted, Request("", data, kind, limit=limit, batch=batch, options=options)))
        place = output / asked[0].protocol.replace("/", "-") if output and len(asked) == 1 else output
        made = carried_out(asked, (model, weights, device), place, threads) if asked else []
        roots += [one.root for one, _ in made if one.root not in roots]
        reports = [Report.of(root) for root in roots]
        for exhibit in wanted:
            say_lines(beside(exhibit, reports))


def say_lines(text: str) -> None:
    """Markdown as it is."""
    for line in text.split("\n"):
        say(line)
