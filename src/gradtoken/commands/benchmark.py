"""The shell's experiments: `gradtoken benchmark run`, its short forms, `report`, `status`, `merge`, `reproduce`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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

app = typer.Typer(help="The papers' experiments: samples x methods under a named protocol.", no_args_is_help=True)
STOPPED = 130  # as shells say of Ctrl-C

Data = Annotated[Path, typer.Option(help="A data set, see `gradtoken data kinds`.")]
Kind = Annotated[str | None, typer.Option(help="Its kind, where the layout does not say.")]
Methods = Annotated[list[str] | None, typer.Option("--method", help="Repeatable; all methods if none is named.")]
Grid = Annotated[str | None, typer.Option(help="Vary GradToken's propagation, heads or depth.")]
Pictures = Annotated[bool, typer.Option("--pictures/--no-pictures", help="Show worst and best ones in report.html.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="The run's folder; goes on with what it holds.")]
Limit = Annotated[int | None, typer.Option(help="Only so many samples.")]
Batch = Annotated[int, typer.Option(min=1, help="Samples explained at once.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Of PyTorch.")]


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
) -> None:
    """Measure methods on a data set; what a stopped run has done is kept."""
    from gradtoken.batch import parse_options
    from gradtoken.benchmark.request import Request

    with friendly():
        settings = parse_options(set_ or [])
        names, options = tuple(method or ()), data_options(data_option or [], data, kind)
        sizes: dict[str, Any] = {"limit": limit, "batch": batch, "options": options}
        requests = [Request(one, data, kind, names, grid, settings, **sizes) for one in dict.fromkeys(protocol)]
        told(carried_out(requests, (model, weights, device), output, threads), pictures)


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
    ) -> None:
        named = (model, weights, method, grid, set_)
        run([protocol], data, kind, data_option, *named, output, limit, batch, threads, device, pictures)

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
) -> "list[tuple[RunFolder, Plan]]":
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
            return list(zip(running.run_all(plans, places), plans, strict=True))
    except KeyboardInterrupt:
        kept = output or ", ".join(map(str, places))
        complain(f"stopped; what is done is kept in {kept}. The same command with --out {kept} goes on from here")
        raise typer.Exit(STOPPED) from None


def limit_threads(threads: int | None) -> None:
    """For PyTorch."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
