"""The shell's way with folders of pictures that take long: `gradtoken explain FOLDER --out DIR --resume`."""

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gradtoken.commands.shared import FAILED, PARTLY, complain, say
from gradtoken.errors import BadTarget

if TYPE_CHECKING:
    from gradtoken.benchmark.folder import RunFolder
    from gradtoken.benchmark.plan import Plan
    from gradtoken.benchmark.share import Share
    from gradtoken.commands.scale import Placed

MAPS, ARRAYS = "parquet", "npz"  # the first is the format that a run has anyway
STOPPED = 130  # as shells say of Ctrl-C
SAID = 5  # reasons
Resume = Annotated[
    bool, typer.Option("--resume", help="Keep raw maps in --out as runs are kept, and go on there after a stop.")
]


def resumed(
    resume: bool, options: tuple[str, int | None, str | None, str | None, bool], device: str | None
) -> "Placed | None":
    """Where a run of maps is computed, if there is one.

    options: --engine, --workers, --address, --share, --retry-failed.
    """
    from gradtoken.commands.scale import placed, settled

    engine, workers, cluster, share, again = options
    if resume:
        return settled(placed(engine, workers, cluster, share, again), device, None)
    if engine != "here" or workers or cluster or share or again:
        raise BadTarget("--engine, --workers, --address, --share and --retry-failed are of runs; add --resume")
    return None


def here(output: str | None, resume: bool) -> Path | None:
    """--out as a path of this machine. Raises BadTarget for an address, where runs alone are kept."""
    if output is not None and "://" in output and not resume:
        raise BadTarget(f"--out {output} is an address, where only runs are kept; add --resume, or name a folder")
    return None if output is None else Path(output)


def explain_folder(
    files: Sequence[Any],
    load: Callable[..., Any],
    request: tuple[Sequence[Any] | None, Mapping[str, Mapping[str, Any]]],
    place: tuple[str | None, str | None, Mapping[str, Any]],
    where: "Placed",
) -> None:
    """Maps of all pictures in a run's folder; leaves with the exit code that says how it went.

    load: the model, on a device. request: targets, and options by method. place: --out, --format, style of drawings.
    """
    from gradtoken.benchmark.maps import plan_of
    from gradtoken.benchmark.running import run_all
    from gradtoken.commands.benchmark import limit_threads
    from gradtoken.commands.live import live
    from gradtoken.models.clip import asked

    output, form, style = place
    root = checked(output, form, files)
    limit_threads(where.threads)
    targets, options = request
    loaded = asked(load(device=where.device), targets or [None])
    plan = plan_of(files, loaded, targets or [None], options)
    try:
        with live() as tell:
            (folder,) = run_all([plan], [root], how=where.how, tell=tell)
    except KeyboardInterrupt:
        complain(f"stopped; what is done is kept in {root}, and the same command goes on")
        raise typer.Exit(STOPPED) from None
    export(folder, plan, form, style)
    told(folder, plan, where.how.share)


def checked(output: str | None, form: str | None, files: Sequence[Any]) -> Path | str:
    """The folder of a run, before anything is computed."""
    from gradtoken.benchmark.store import address
    from gradtoken.files import check_format

    root = None if output is None else address(output)
    if root is None or (isinstance(root, Path) and root.suffix) or not all(isinstance(file, Path) for file in files):
        raise BadTarget("--resume keeps the maps of files in the folder that --out names; give both")
    if form not in (None, MAPS):
        check_format(f".{form}")
    if isinstance(root, str) and form not in (None, MAPS, ARRAYS):
        raise BadTarget(f"--format {form} is drawn into a folder of this machine; leave it out, or name such a folder")
    return root


def export(folder: "RunFolder", plan: "Plan", form: str | None, style: Mapping[str, Any]) -> None:
    """What --format asks for beside the run's own files: arrays of each unit and method, or a file for each picture."""
    from gradtoken.batch import bars
    from gradtoken.benchmark.maps import as_npz, kept
    from gradtoken.progress import track

    if form in (None, MAPS):
        return
    with bars():
        if form != ARRAYS:
            draw(folder, plan, form, style)
            return
        for unit in track(list(plan.units), f"{form} files"):
            for variant in plan.variants:
                if found := list(kept(folder, variant, unit)):
                    folder.put(f"npz/{variant.key}/{unit.start:09d}.npz", as_npz(found))


def draw(folder: "RunFolder", plan: "Plan", form: str, style: Mapping[str, Any]) -> None:
    """A file for each picture; those that are there are kept, and said."""
    from gradtoken.batch import Destination
    from gradtoken.benchmark.maps import by_picture
    from gradtoken.benchmark.rows import writable
    from gradtoken.progress import track
    from gradtoken.result import Explanations

    pictures, taken, old = Destination(Path(folder.root) / "pictures", True, f".{form}"), set[Path](), 0
    places = {writable(name): (name, pictures.of_picture(name, taken)) for name in plan.data.ids}
    pictures.path.mkdir(exist_ok=True)
    for unit in track(list(plan.units), f"{form} files"):
        for source, found in by_picture(folder, plan.variants, unit):
            name, path = places[source]
            if path.exists():
                old += 1
            else:
                Explanations(tuple(one.explanation(plan.model, name) for one in found)).save(path, **style)
    if old:
        complain(f"{old} files in {pictures.path} were there and are kept; remove them to draw them again", "dim")


def told(folder: "RunFolder", plan: "Plan", share: "Share") -> None:
    """How it went, and the exit code that says so."""
    from gradtoken.benchmark.counting import counted

    counts = counted(folder, plan.variants, share)
    for reason in reasons(folder, plan):
        complain(f"failed: {reason}")
    part = "" if share.world == 1 else f", share {share}"
    say(f"pictures x methods: {counts}{part} -> {folder.root}")
    if counts.failed or counts.missing:
        raise typer.Exit(PARTLY if counts.done else FAILED)


def reasons(folder: "RunFolder", plan: "Plan") -> list[str]:
    """Why the first pictures without maps have none."""
    rows = (row for variant in plan.variants for row in folder.all_rows(variant))
    return list(islice(dict.fromkeys(f"{row.sample}: {row.reason}" for row in rows if row.reason), SAID))
