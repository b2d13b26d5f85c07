"""The shell's experiments: `gradtoken benchmark run`, its short forms, `report`, `status`, `merge`, `reproduce`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gradtoken.commands.scale import Again, Cluster, Engine, ShareOf, Threads, Workers, placed, settled
from gradtoken.commands.shared import (
    DataOptions,
    Device,
    ModelName,
    Settings,
    Weights,
    complain,
    data_options,
    friendly,
    loaded_model,
)
from gradtoken.commands.telling import told

if TYPE_CHECKING:
    from gradtoken.benchmark.folder import RunFolder
    from gradtoken.benchmark.plan import Plan
    from gradtoken.benchmark.request import Request
    from gradtoken.benchmark.running import How

app = typer.Typer(help="The papers' experiments: samples x methods under a named protocol.", no_args_is_help=True)
STOPPED = 130  # as shells say of Ctrl-C

Data = Annotated[Path, typer.Option(help="A data set, see `gradtoken data kinds`.")]
Kind = Annotated[str | None, typer.Option(help="Its kind, where the layout does not say.")]
Methods = Annotated[list[str] | None, typer.Option("--method", help="Repeatable; all methods if none is named.")]
Grid = Annotated[str | None, typer.Option(help="Vary GradToken's propagation, heads or depth.")]
Pictures = Annotated[bool, typer.Option("--pictures/--no-pictures", help="Show worst and best ones in report.html.")]
Out = Annotated[
    str | None, typer.Option("--out", "-o", help="The run's folder, or s3://... ; goes on with what it holds.")
]
Limit = Annotated[int | None, typer.Option(help="Only so many samples.")]
Batch = Annotated[int, typer.Option(min=1, help="Samples explained at once.")]


@app.command()
def run(  # noqa: PLR0913
    protocol: Annotated[list[str], typer.Argument(help="See `gradtoken protocols`; several share the maps.")],
    data: Data,
    kind: Kind = None,
    data_option: DataOptions = None,
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
    pictures: Pictures = True,
    engine: Engine = "here",
    workers: Workers = None,
    address: Cluster = None,
    share: ShareOf = None,
    retry_failed: Again = False,
) -> None:
    """Measure methods on a data set; what a stopped run has done is kept."""
    from gradtoken.batch import parse_options
    from gradtoken.benchmark.request import Request
    from gradtoken.benchmark.store import address as place_of

    with friendly():
        settings = parse_options(set_ or [])
        names, options = tuple(method or ()), data_options(data_option or [], data, kind)
        sizes: dict[str, Any] = {"limit": limit, "batch": batch, "options": options}
        requests = [Request(one, data, kind, names, grid, settings, **sizes) for one in dict.fromkeys(protocol)]
        how = placed(engine, workers, address, share, retry_failed)
        place = place_of(output) if output else None
        told(carried_out(requests, (model, weights, device), place, threads, how), pictures, how.share)


def short(family: str, usual: str) -> Callable[..., None]:
    """The command of one family of protocols."""

    def command(  # noqa: PLR0913
        data: Data,
        protocol: Annotated[str, typer.Option(help="Another one, see `gradtoken protocols`.")] = usual,
        kind: Kind = None,
        data_option: DataOptions = None,
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
        pictures: Pictures = True,
        engine: Engine = "here",
        workers: Workers = None,
        address: Cluster = None,
        share: ShareOf = None,
        retry_failed: Again = False,
    ) -> None:
        named = (model, weights, method, grid, set_)
        where = (engine, workers, address, share, retry_failed)
        run([protocol], data, kind, data_option, *named, output, limit, batch, threads, device, pictures, *where)

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
    requests: "Sequence[Request]",
    model: tuple[str, Path | None, str | None],
    output: "Path | str | None",
    threads: int | None,
    how: "How | None" = None,
) -> "list[tuple[RunFolder, Plan]]":
    """Run requests of one data set together, a folder each. model: name, weights, device."""
    from gradtoken.batch import probe_of
    from gradtoken.benchmark import running
    from gradtoken.benchmark.request import place_of
    from gradtoken.benchmark.store import below
    from gradtoken.commands.live import live

    name, weights, device = model
    checked = [request.checked() for request in requests]
    found = settled(how or running.How(), device, threads)
    limit_threads(found.threads)
    loaded = loaded_model(name, weights, None, found.device)
    plans, places = [], []
    for request, (protocol, data) in zip(requests, checked, strict=True):
        blocks = len(probe_of(loaded).earlier) + 1 if request.grid == "depth" else 0
        plan = request.plan(protocol, data, loaded, blocks)
        plans.append(plan)
        loaded = plan.model  # whose classes may be groups by now
        own = protocol.name.replace("/", "-")
        places.append(place_of(plan) if output is None else below(output, own) if len(requests) > 1 else output)
        complain(f"{protocol.name}: {len(plan.data)} samples x {len(plan.variants)} methods -> {places[-1]}", "dim")
    try:
        with live() as tell:
            folders = running.run_all(plans, places, how=found.how, tell=tell)
        return list(zip(folders, plans, strict=True))
    except KeyboardInterrupt:
        kept = output or ", ".join(map(str, places))
        complain(f"stopped; what is done is kept in {kept}. The same command with --out {kept} goes on from here")
        raise typer.Exit(STOPPED) from None


def limit_threads(threads: int | None) -> None:
    """For PyTorch."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
