"""The shell's way with folders of pictures that take long: `gradtoken explain FOLDER --out DIR --resume`."""

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gradtoken.commands.shared import FAILED, PARTLY, complain, loaded_model, say
from gradtoken.errors import BadTarget

if TYPE_CHECKING:
    from gradtoken.benchmark.folder import RunFolder
    from gradtoken.benchmark.plan import Plan
    from gradtoken.benchmark.share import Share
    from gradtoken.commands.scale import Placed

MAPS = "parquet"  # the format that a run has anyway
STOPPED = 130  # as shells say of Ctrl-C
SAID = 5  # reasons
Resume = Annotated[
    bool, typer.Option("--resume", help="Keep raw maps in --out as runs are kept, and go on there after a stop.")
]


def resumed(resume: bool, options: tuple[str, int | None, str | None, bool], device: str | None) -> "Placed | None":
    """Where a run of maps is computed, if there is one. options: --engine, --workers, --address, --retry-failed."""
    from gradtoken.commands.scale import placed, settled

    engine, workers, cluster, again = options
    if resume:
        return settled(placed(engine, workers, cluster, None, again), device, None)
    if engine != "here" or workers or cluster or again:
        raise BadTarget("--engine, --workers, --address and --retry-failed are of runs; add --resume")
    return None


def explain_folder(
    files: Sequence[Any],
    model: tuple[str, Path | None, Path | None],
    request: tuple[Sequence[Any] | None, Mapping[str, Mapping[str, Any]]],
    place: tuple[Path | None, str | None, Mapping[str, Any]],
    where: "Placed",
) -> None:
    """Maps of all pictures in a run's folder; leaves with the exit code that says how it went.

    model: name, weights, labels. request: targets, and options by method. place: --out, --format, style of drawings.
    """
    from gradtoken.benchmark.maps import plan_of
    from gradtoken.benchmark.running import run_all
    from gradtoken.commands.benchmark import limit_threads
    from gradtoken.commands.live import live
    from gradtoken.files import check_format
    from gradtoken.models.clip import asked

    output, form, style = place
    if output is None or output.suffix or not all(isinstance(file, Path) for file in files):
        raise BadTarget("--resume keeps the maps of files in the folder that --out names; give both")
    if form not in (None, MAPS):
        check_format(f".{form}")
    limit_threads(where.threads)
    targets, options = request
    loaded = asked(loaded_model(*model, where.device), targets or [None])
    plan = plan_of(files, loaded, targets or [None], options)
    try:
        with live() as tell:
            (folder,) = run_all([plan], [output], how=where.how, tell=tell)
    except KeyboardInterrupt:
        complain(f"stopped; what is done is kept in {output}, and the same command goes on")
        raise typer.Exit(STOPPED) from None
    export(folder, plan, form, style)
    told(folder, plan, where.how.share)


def export(folder: "RunFolder", plan: "Plan", form: str | None, style: Mapping[str, Any]) -> None:
    """What --format asks for beside the run's own files: arrays of each unit and method, or a file for each picture."""
    from gradtoken.batch import Destination, bars
    from gradtoken.benchmark.maps import as_npz, by_picture, kept
    from gradtoken.progress import track
    from gradtoken.result import Explanations

    if form in (None, MAPS) or not isinstance(folder.root, Path):
        return
    pictures, taken = Destination(folder.root / "pictures", True, f".{form}"), set[Path]()
    places = {} if form == "npz" else {name: pictures.of_picture(name, taken) for name in plan.data.ids}
    with bars():
        for unit in track(list(plan.units), f"{form} files"):
            for variant in plan.variants if form == "npz" else ():
                if found := list(kept(folder, variant, unit)):
                    folder.put(f"npz/{variant.key}/{unit.start:09d}.npz", as_npz(found))
            for source, found in by_picture(folder, plan.variants, unit) if places else ():
                if not places[source].exists():
                    pictures.path.mkdir(exist_ok=True)
                    explanations = Explanations(tuple(one.explanation(plan.model) for one in found))
                    explanations.save(places[source], **style)


def told(folder: "RunFolder", plan: "Plan", share: "Share") -> None:
    """How it went, and the exit code that says so."""
    from gradtoken.benchmark.counting import counted

    counts = counted(folder, plan.variants, share)
    for reason in reasons(folder, plan):
        complain(f"failed: {reason}")
    say(f"pictures x methods: {counts} -> {folder.root}")
    if counts.failed or counts.missing:
        raise typer.Exit(PARTLY if counts.done else FAILED)


def reasons(folder: "RunFolder", plan: "Plan") -> list[str]:
    """Why pictures have no maps, of the first method."""
    rows = folder.all_rows(plan.variants[0])
    return list(islice((f"{row.sample}: {row.reason}" for row in rows if row.reason), SAID))
