"""Methods, or variants of one, side by side: a row for each picture and target, a column for each method."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from gradtoken import manual
from gradtoken.attribution import check_maps, to_maps
from gradtoken.choosing import Asked
from gradtoken.comparison import Cell, Column, Comparison, Row
from gradtoken.draw.words import AGNOSTIC
from gradtoken.errors import BadRelevance, BadTarget, GradTokenError, UnknownName
from gradtoken.explaining import Case, file_name, listed, opened, options_of
from gradtoken.methods import METHODS
from gradtoken.methods.gradtoken import Propagation, head_maps
from gradtoken.models.clip import asked
from gradtoken.models.load import load
from gradtoken.models.model import Model, Pipeline
from gradtoken.models.pictures import Source
from gradtoken.models.sounds import is_samples
from gradtoken.probe import Probe
from gradtoken.progress import track

Vary = Literal["propagation", "heads", "depth"]
Rows = Literal["pictures", "classes"]


def compare(
    pictures: Source | Sequence[Source],
    model: str | nn.Module | Pipeline | Model = "bundled",
    target: Asked | Sequence[Asked] = None,
    method: str | Sequence[str] = "all",
    *,
    vary: Vary | None = None,
    rows: Rows = "pictures",
    allow_blank: bool = False,
    **options: Any,
) -> Comparison:
    """Methods side by side, for each picture or sound and each target; all share one forward pass of each.

    pictures, model, target, options: as in `explain`; several pictures are a list. method: one, a list, or "all".
    A method that refuses the model, or finds nothing, leaves a cell that says why; it is an error if all do.
    vary: instead of methods, GradToken's propagation schemes, the heads of its last block (before they are clipped and
    averaged), or its depths. rows: whether rows of one picture stand together, or those of one class.
    """
    several = isinstance(pictures, list | tuple) and not is_samples(pictures)
    sources: list[Any] = list(pictures) if several else [pictures]  # type: ignore[arg-type]
    if not sources:
        raise BadTarget("expected at least one picture, got none")
    plan = planned(method, vary, options, rows)
    loaded, targets = model if isinstance(model, Model) else load(model), listed(target)
    if not loaded.reads_sounds:
        loaded.for_pictures  # noqa: B018  which refuses a model of texts
    loaded = asked(loaded, targets)  # captions are read once
    found: list[Row] = []
    subjects = [(opened(source, loaded), file_name(source)) for source in sources]  # or none is compared
    for subject, source in track(subjects, "pictures") if len(subjects) > 1 else subjects:
        case = Case.of(subject, source, loaded, targets)
        case.probe.first  # noqa: B018  a target that does not fit is an error, not a method's refusal
        steps = plan(case.probe)
        cells = [column for step in track(steps, "methods") for column in taken(step, case, allow_blank)]
        found += [row(case, k, [column[k] for column in cells]) for k in range(len(targets))]
    if rows == "classes":
        found = [one for k in range(len(targets)) for one in found[k :: len(targets)]]
    comparison = Comparison(tuple(column for step in steps for column in step.columns), tuple(found))
    if not comparison.explanations:
        reasons = "; ".join(f"{title}: {reason}" for title, reason in comparison.refusals)
        raise BadRelevance(f"no method gave a map; {reasons}")
    return comparison


# What is computed -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """What one run gives: relevance (1, K, S) or (1, K, H, W) for each of its columns."""

    columns: tuple[Column, ...]
    run: Callable[[Probe], Sequence[Tensor]]

    @property
    def name(self) -> str:
        """What a progress bar says."""
        first = self.columns[0]
        return first.method if first.title == first.method or len(self.columns) > 1 else f"{first.method} {first.title}"


def planned(
    method: str | Sequence[str], vary: Vary | None, options: dict[str, Any], rows: str = "pictures"
) -> Callable[[Probe], list[Step]]:
    """The steps, each method once; the request is checked as far as it can be before a model is loaded."""
    if rows not in get_args(Rows):
        raise BadTarget(f"expected rows 'pictures' or 'classes', got {rows!r}")
    if vary is None:
        names = list(METHODS) if method == "all" else [method] if isinstance(method, str) else [*dict.fromkeys(method)]
        chosen = options_of(names, options)
        return lambda _: [step_of(name, chosen[name]) for name in names]
    if vary not in VARIED:
        raise UnknownName.among("variation", vary, VARIED)
    if method not in ("all", "gradtoken", ["gradtoken"]):
        raise BadTarget(f"vary={vary!r} shows variants of gradtoken; leave out method={method!r}")
    if vary in options:
        raise BadTarget(f"{vary}={options[vary]!r} was given and is varied too; leave one of them out")
    chosen = options_of(["gradtoken"], options)
    return lambda probe: VARIED[vary](probe, chosen["gradtoken"])


def step_of(method: str, options: dict[str, Any], title: str = "", note: str = "") -> Step:
    """One method as a column."""
    title = title or " ".join([method, *(f"{name}={value}" for name, value in options.items())])
    note = note or ("" if METHODS[method].class_aware else AGNOSTIC)
    run = METHODS[method].bind(options)
    return Step((Column(method, options, title, note),), lambda probe: [run(probe)])


def schemes(_: Probe, options: dict[str, Any]) -> list[Step]:
    """The five propagation schemes of the paper's Table 3."""
    names = [(scheme, f"GradToken-{i}") for i, scheme in enumerate(get_args(Propagation))]
    return [step_of("gradtoken", options | {"propagation": scheme}, scheme, note) for scheme, note in names]


def depths(probe: Probe, options: dict[str, Any]) -> list[Step]:
    """The first block that propagates: 1 (published) to the last (none)."""
    return [
        step_of("gradtoken", options | {"depth": depth}, f"depth {depth}") for depth in range(1, len(probe.earlier) + 2)
    ]


def heads(probe: Probe, options: dict[str, Any]) -> list[Step]:
    """The heads of the last block, counted from 1."""
    columns = [Column("gradtoken", options | {"head": h + 1}, f"head {h + 1}") for h in range(probe.dq.shape[2])]
    return [Step(tuple(columns), lambda probe: head_maps(probe, **options).unbind(dim=2))]


VARIED: dict[str, Callable[[Probe, dict[str, Any]], list[Step]]] = {
    "propagation": schemes,
    "heads": heads,
    "depth": depths,
}


def taken(step: Step, case: Case, allow_blank: bool) -> list[list[Cell]]:
    """The cells of each column of a step: one for each target."""
    try:
        found = [(R, to_maps(case.probe, R)[0]) for R in step.run(case.probe)]
        return [
            [
                cell(column, case, k, m, allow_blank, said)
                for k, (m, said) in enumerate(zip(maps, case.doubts(R, column.method), strict=True))
            ]
            for column, (R, maps) in zip(step.columns, found, strict=True)
        ]
    except GradTokenError as error:
        reason = str(error)
    except (torch.OutOfMemoryError, MemoryError):
        reason = manual.NO_MEMORY
    return [[Cell(None, reason)] * len(case.choice.targets) for _ in step.columns]


def cell(column: Column, case: Case, k: int, relevance: Tensor, allow_blank: bool, said: tuple[str, ...] = ()) -> Cell:
    """The map of target k, (rows, columns), unless it cannot be shown."""
    if not relevance.any() and not allow_blank:
        return Cell(None, "every value is zero")
    try:
        check_maps(relevance[None, None], column.method, allow_blank)
    except BadRelevance as error:
        return Cell(None, str(error))
    return Cell(case.explanation(relevance, k, column.method, dict(column.options), said))


def row(case: Case, k: int, cells: list[Cell]) -> Row:
    """The row of target k."""
    return Row(case.picture, case.shared["source"], **case.choice.facts(k), cells=tuple(cells))
