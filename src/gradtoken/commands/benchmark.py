"""The shell's experiments: `gradtoken benchmark run`, its short forms, `report`, `status`, `merge`, `reproduce`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gradtoken.commands.shared import (
    FAILED,
    PARTLY,
    Device,
    ModelName,
    Settings,
    Weights,
    complain,
    friendly,
    loaded_model,
    say,
)

if TYPE_CHECKING:
    from gradtoken.benchmark.folder import RunFolder
    from gradtoken.benchmark.request import Request

app = typer.Typer(help="The papers' experiments: samples x methods under a named protocol.", no_args_is_help=True)
ON_SCREEN = 4  # numbers that a terminal has room for
STOPPED = 130  # as shells say of Ctrl-C

Data = Annotated[Path, typer.Option(help="A data set, see `gradtoken data kinds`.")]
Kind = Annotated[str | None, typer.Option(help="Its kind, where the layout does not say.")]
Methods = Annotated[list[str] | None, typer.Option("--method", help="Repeatable; all methods if none is named.")]
Grid = Annotated[str | None, typer.Option(help="Vary GradToken's propagation, heads or depth.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="The run's folder; goes on with what it holds.")]
Limit = Annotated[int | None, typer.Option(help="Only so many samples.")]
Batch = Annotated[int, typer.Option(min=1, help="Samples explained at once.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Of PyTorch.")]


@app.command()
def run(  # noqa: PLR0913
    protocol: Annotated[list[str], typer.Argument(help="See `gradtoken protocols`; several share the maps.")],
    data: Data,
    kind: Kind = None,
    model: ModelName = "bundled",
    weights: Weights = None,
    method: Methods = None,
    grid: Grid = None,
    set_: Settings = None,
    output: Out = None,
    limit: Limit = None,
    batch: Batch = 8,
    threads: Threads = None,
    device: Device = None,
) -> None:
    """Measure methods on a data set; what a stopped run has done is kept."""
    from gradtoken.batch import parse_options
    from gradtoken.benchmark.request import Request

    with friendly():
        settings = parse_options(set_ or [])
        names = tuple(method or ())
        requests = [Request(one, data, kind, names, grid, settings, limit, batch) for one in dict.fromkeys(protocol)]
        told(carried_out(requests, (model, weights, device), output, threads))


def short(family: str, usual: str) -> Callable[..., None]:
    """The command of one family of protocols."""

    def command(  # noqa: PLR0913
        data: Data,
        protocol: Annotated[str, typer.Option(help="Another one, see `gradtoken protocols`.")] = usual,
        kind: Kind = None,
        model: ModelName = "bundled",
        weights: Weights = None,
        method: Methods = None,
        grid: Grid = None,
        set_: Settings = None,
        output: Out = None,
        limit: Limit = None,
        batch: Batch = 8,
        threads: Threads = None,
        device: Device = None,
    ) -> None:
        run([protocol], data, kind, model, weights, method, grid, set_, output, limit, batch, threads, device)

    command.__doc__ = f"As `run {usual}`."
    command.__name__ = family
    return command


for family, usual in (
    ("segmentation", "imagenet-segmentation/gradtoken2025"),
    ("perturbation", "perturbation/gradtoken2025"),
    ("localisation", "localisation/agcam2024"),
    ("rationales", "movies/eraser"),
):
    app.command(family)(short(family, usual))


def carried_out(
    requests: "Sequence[Request]", model: tuple[str, Path | None, str | None], output: Path | None, threads: int | None
) -> "list[RunFolder]":
    """Run requests of one data set together, a folder each. model: name, weights, device."""
    from gradtoken.batch import bars, probe_of
    from gradtoken.benchmark import running
    from gradtoken.benchmark.request import place_of

    name, weights, device = model
    checked = [request.checked() for request in requests]
    limit_threads(threads)
    loaded = loaded_model(name, weights, None, device)
    plans, places = [], []
    for request, (protocol, data) in zip(requests, checked, strict=True):
        blocks = len(probe_of(loaded).earlier) + 1 if request.grid == "depth" else 0
        plan = request.plan(protocol, data, loaded, blocks)
        plans.append(plan)
        loaded = plan.model  # whose classes may be groups by now
        own = Path(protocol.name.replace("/", "-")) if len(requests) > 1 else Path()
        places.append(output / own if output else place_of(plan))
        complain(f"{protocol.name}: {len(plan.data)} samples x {len(plan.variants)} methods -> {places[-1]}", "dim")
    try:
        with bars():
            return running.run_all(plans, places)
    except KeyboardInterrupt:
        kept = output or ", ".join(map(str, places))
        complain(f"stopped; what is done is kept in {kept}. The same command with --out {kept} goes on from here")
        raise typer.Exit(STOPPED) from None


def limit_threads(threads: int | None) -> None:
    """For PyTorch."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def told(folders: "Sequence[RunFolder]") -> None:
    """Write reports beside the rows, print their numbers, and leave with the code that says how it went."""
    from gradtoken.benchmark.report import Report

    reports = [Report.of(folder.root) for folder in folders]
    for report in reports:
        forms = {f".{suffix}": report.folder.root / f"report.{suffix}" for suffix in ("md", "csv", "html")}
        write(report, forms)
        show(report)
        say(f"report -> {forms['.html']}")
    leave(reports)


def write(report: Any, forms: dict[str, Path], pictures: Any = ()) -> None:
    """The report in the forms that are asked for, by suffix."""
    from gradtoken.benchmark import html, written
    from gradtoken.files import write as put

    made: dict[str, Callable[[], str]] = {
        ".md": lambda: written.markdown(report),
        ".csv": lambda: written.as_csv(report),
        ".html": lambda: html.page(report, pictures),
    }
    for suffix, path in forms.items():
        put(path, made[suffix]().encode())


def show(report: Any) -> None:
    """The numbers on the screen, under the protocol's name."""
    from rich.table import Column, Table
    from rich.text import Text

    from gradtoken.benchmark import written
    from gradtoken.commands.shared import out
    from gradtoken.draw.words import printable

    settings, numbers = report.settings, report.protocol.numbers[:ON_SCREEN]
    say(written.title(report), "bold")
    say(f"{settings['data']['name']}, {settings['data']['samples']} samples; {settings['model']['name']}")
    table = Table(
        Column("method", no_wrap=True), "explained", "n", *(number.name for number in numbers), "refused", box=None
    )
    for line in report.lines:
        values = [written.told(line.numbers[n.name]) if line.numbers else "-" for n in numbers]
        refused = str(sum(line.reasons.values()))
        table.add_row(*(Text(printable(c)) for c in (line.title, line.ask, str(line.samples), *values, refused)))
    out.print(table)
    more = len(report.protocol.numbers) - len(numbers)
    rest = f"; {more} more numbers are in the report" if more else ""
    say(f"percent, with 95 % bootstrap intervals over samples{rest}", "dim")
    for refusal in report.refusals[:5]:
        complain(f"without values: {refusal.count} x {refusal.reason} ({written.short(refusal.methods)})")


def leave(reports: Sequence[Any]) -> None:
    """Exit codes: 1 where nothing was measured, 3 where samples failed that the protocol meant to use."""
    if not any(report.measured for report in reports):
        raise typer.Exit(FAILED)
    failed = sum(report.failed for report in reports)
    if failed:
        complain(f"{failed} pairs of sample and method failed", "red")
        raise typer.Exit(PARTLY)
