"""What the shell says of runs: reports beside their rows, numbers on the screen, exit codes."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from gradtoken.commands.shared import FAILED, PARTLY, complain, say
from gradtoken.errors import BadRun, GradTokenError

if TYPE_CHECKING:
    from gradtoken.benchmark.folder import RunFolder
    from gradtoken.benchmark.pictures import Shown
    from gradtoken.benchmark.plan import Plan
    from gradtoken.benchmark.report import Report
    from gradtoken.benchmark.share import Share

ON_SCREEN = 4  # numbers that a terminal has room for


def told(made: "Sequence[tuple[RunFolder, Plan]]", pictures: bool, share: "Share") -> None:
    """Write reports beside the rows, print their numbers, and leave with the code that says how it went.

    A process that has only a share of the units says how much of that is done.
    """
    from gradtoken.benchmark.counting import Counts, counted
    from gradtoken.benchmark.report import Report
    from gradtoken.benchmark.store import below

    counts = sum((counted(folder, plan.variants, share) for folder, plan in made), Counts())
    reports = []
    for folder, plan in made if share.world == 1 else ():
        report, page = Report.of(folder.root), below(folder.root, "report.html")
        write(report, {suffix: below(folder.root, f"report{suffix}") for suffix in (".md", ".csv")})
        show(report)
        write(report, {".html": page}, extremes(report, plan) if pictures else ())
        say(f"report -> {page}")
        reports.append(report)
    part = "" if share.world == 1 else f", share {share}; `gradtoken benchmark report` when all shares are there"
    say(f"samples x methods: {counts}{part}")
    if counts.missing:
        complain("the same command goes on with what is missing", "red")
    if reports:
        leave(reports)
    if counts.missing or counts.failed:
        raise typer.Exit(PARTLY)


def extremes(report: "Report", plan: "Plan") -> "list[Shown]":
    """Worst and best pictures of a few methods; none of texts. What goes wrong with them spoils no report."""
    from gradtoken.batch import bars
    from gradtoken.benchmark.pictures import shown
    from gradtoken.models.text import Encode

    if not report.measured or isinstance(plan.model.preprocess, Encode):
        return []
    try:
        with bars():
            return list(shown(report, plan))
    except GradTokenError as error:
        complain(f"the report has no pictures: {error}")
        return []


def write(report: Any, forms: "Mapping[str, Path | str]", pictures: Any = ()) -> None:
    """The report in the forms that are asked for, by suffix; where fsspec writes them if the place is its address."""
    from gradtoken.benchmark import html, written

    made: dict[str, Callable[[], str]] = {
        ".md": lambda: written.markdown(report),
        ".csv": lambda: written.as_csv(report),
        ".html": lambda: html.page(report, pictures),
    }
    for suffix, path in forms.items():
        put(path, made[suffix]().encode())


def put(place: "Path | str", content: bytes) -> None:
    """Write a file here or elsewhere."""
    from gradtoken.benchmark.store import Store
    from gradtoken.files import write as put_here

    if isinstance(place, Path):
        put_here(place, content)
        return
    folder, _, name = place.rpartition("/")
    try:
        Store(folder).write(name, content)
    except OSError as error:
        raise BadRun(f"{place} cannot be written: {error.strerror or error}") from error


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
    rest = f"; {more} more {'numbers are' if more > 1 else 'number is'} in the report" if more else ""
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
