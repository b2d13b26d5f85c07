"""Samples as a model reads them, with its answers, before any method."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from gradtoken.benchmark.plan import Plan
from gradtoken.benchmark.rows import CRASHED, Row
from gradtoken.benchmark.short import in_parts
from gradtoken.errors import BadSample, GradTokenError
from gradtoken.inputs import Inputs, apply, mapped, tensors
from gradtoken.models.text import Encode
from gradtoken.protocols.protocol import View
from gradtoken.state import untouched
from gradtoken.targets import logits_of

FAILURES = (  # of a method or a file: they cost one sample, not the run
    ArithmeticError,
    AssertionError,
    AttributeError,
    GradTokenError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
LOST_DEVICE = getattr(torch, "AcceleratorError", ())  # after which nothing more can be computed here


@dataclass(frozen=True, eq=False)
class Ready:
    """A sample with the classes to explain. logits: of the untouched input, (classes,)."""

    view: View
    logits: Tensor
    targets: tuple[int, ...]


def prepared(plan: Plan, unit: range) -> tuple[list[Ready], list[Row]]:
    """The samples that can be used, and one row for each that cannot."""
    with ThreadPoolExecutor(torch.get_num_threads()) as readers:
        seen = list(readers.map(partial(view_of, plan), unit))
    views = [view for view in seen if isinstance(view, View)]
    problems = [row for row in seen if isinstance(row, Row)]
    found: list[Ready] = []
    for view, logits in zip(views, answers(plan, views), strict=True):
        if isinstance(logits, Exception):
            problems.append(refused(view.id, logits))
            continue
        try:
            found.append(Ready(view, logits, explainable(view, logits, plan.protocol.targets(view, logits))))
        except GradTokenError as error:
            problems.append(refused(view.id, error))
    return found, problems


def view_of(plan: Plan, number: int) -> View | Row:
    """A sample as the model reads it, or the row that says why not."""
    try:
        return plan.protocol.view(plan.data[number], plan.model)
    except (*FAILURES, MemoryError, OSError) as error:
        return refused(plan.data.ids[number], error)


def explainable(view: View, logits: Tensor, targets: tuple[int, ...]) -> tuple[int, ...]:
    """The targets, if the model has an answer; classes that it excludes may have a logit of minus infinity."""
    if not (logits.max().isfinite() and logits[list(targets)].isfinite().all()):
        raise BadSample(f"{view.id}: the model's output is not finite")
    return targets


def answers(plan: Plan, views: Sequence[View]) -> Iterator[Tensor | Exception]:
    """Logits of each untouched input; where the model fails on several, of each alone, or the reason why not."""
    predict = predictor(plan)
    for start in range(0, len(views), plan.batch):
        some = views[start : start + plan.batch]
        try:
            found: Sequence[Tensor | Exception] = list(predict(stacked(plan, some)))
        except (*FAILURES, MemoryError) as error:
            if isinstance(error, (GradTokenError, LOST_DEVICE)):
                raise
            found = [error] if len(some) == 1 else [one for view in some for one in answers(plan, [view])]
        yield from found


def stacked(plan: Plan, views: Sequence[View]) -> Inputs:
    """Inputs where the model is: pictures in its number format, (B, C, H, W); tokens padded to the longest, (B, N)."""
    weight = next(plan.model.net.parameters())
    if isinstance(plan.model.preprocess, Encode):
        return {n: x.to(weight.device) for n, x in plan.model.preprocess.padded([v.inputs for v in views]).items()}
    return torch.stack([view.pixels for view in views]).to(weight.device, weight.dtype)


def predictor(plan: Plan) -> Callable[[Inputs], Tensor]:
    """Logits of n inputs, without a graph."""

    def predict(inputs: Inputs) -> Tensor:
        def part(start: int, stop: int) -> Tensor:
            return logits_of(apply(plan.model.net, mapped(lambda x: x[start:stop], inputs)))

        found = tensors(inputs)
        with untouched(plan.model.net, found), torch.inference_mode():
            return torch.cat(list(in_parts(part, len(found[0]), plan.chunk, plan.room)))

    return predict


def refused(sample: str, error: Exception) -> Row:
    """The row of a sample without values."""
    kind = "" if isinstance(error, BadSample) else f"{type(error).__name__}: "
    crashed = "" if isinstance(error, GradTokenError) else f"{CRASHED}: "
    return Row(sample, "", "", [], crashed + kind + str(error))
