"""Is this map worth reading? The sanity checks of the protocols, for one picture."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gradtoken.attribution import check_maps, to_maps
from gradtoken.choosing import Asked
from gradtoken.errors import GradTokenError
from gradtoken.explaining import Case, file_name, listed, options_of
from gradtoken.methods import METHODS
from gradtoken.metrics import sanity as metrics
from gradtoken.models.load import load
from gradtoken.models.model import Model, Pipeline
from gradtoken.models.pictures import Source, open_picture
from gradtoken.probe import Probe
from gradtoken.protocols.protocol import Batch, View
from gradtoken.protocols.sanity import ClassSensitivity, MaxSensitivity, WeightRandomisation

CLASS, WEIGHTS, NOISE = 0.05, 0.5, 0.5  # limits of the three numbers, see docs/limits.md


@dataclass(frozen=True)
class Check:
    """What is measured. limit: the value that still passes; higher: whether higher values are better."""

    name: str
    question: str
    number: str
    limit: float
    higher: bool
    failing: str

    def passes(self, value: float) -> bool:
        """Whether a value is on the good side of the limit."""
        return value >= self.limit if self.higher else value <= self.limit


CHECKS = (
    Check(
        "class",
        "does the map change when another class is asked?",
        "1 - rank correlation",
        CLASS,
        True,
        "it says nothing of this class rather than another",
    ),
    Check(
        "weights",
        "does it depend on what the network learnt?",
        "rank correlation with random weights",
        WEIGHTS,
        False,
        "it shows the picture or the architecture, not what was learnt",
    ),
    Check(
        "noise",
        "does it stay under noise too small to see?",
        "largest relative change",
        NOISE,
        False,
        "a picture that looks the same has another map",
    ),
)


@dataclass(frozen=True)
class Verdict:
    """One check of one map. value: NaN where there is none, and then `told` says why."""

    check: Check
    method: str
    target: str
    value: float
    told: str

    @property
    def passed(self) -> bool | None:
        """None where the check could not be made."""
        return None if math.isnan(self.value) else self.check.passes(self.value)


def check(
    picture: Source,
    model: str | nn.Module | Pipeline | Model = "bundled",
    target: Asked | Sequence[Asked] = None,
    method: str | Sequence[str] = "gradtoken",
    **options: Any,
) -> list[Verdict]:
    """Three verdicts for each method and target: of the class, the weights and noise. Arguments as in `explain`.

    The class is compared with the most probable other one; the weights are random in all layers at once; noise is at
    most 0.02 in each normalised value, five times. Costs seven times the map.
    """
    methods = [method] if isinstance(method, str) else list(method)
    chosen = options_of(methods, options)
    loaded = model if isinstance(model, Model) else load(model)
    image, source = open_picture(picture), file_name(picture)
    found = []
    for one in listed(target):
        case = Case.of(image, source, loaded, [one])
        for name in methods:
            found += verdicts(case, name, METHODS[name].bind(chosen[name]))
    return found


def verdicts(case: Case, method: str, run: Callable[[Probe], Tensor]) -> list[Verdict]:
    """Of one map."""
    case.probe.first  # noqa: B018  which settles the target
    name = case.choice.facts(0)["name"]
    R = run(case.probe)
    check_maps(R, method, allow_blank=False)
    return [Verdict(one, method, name, *measured(one, case, method, run)) for one in CHECKS]


def measured(one: Check, case: Case, method: str, run: Callable[[Probe], Tensor]) -> tuple[float, str]:
    """The number, and what it means; or NaN and the reason why there is none."""
    try:
        value = MEASURES[one.name](case, method, run)
    except GradTokenError as error:
        return math.nan, str(error)
    return value, "passes" if one.passes(value) else one.failing


def batch_of(case: Case, run: Callable[[Probe], Tensor], classes: tuple[int, ...]) -> tuple[Batch, Tensor]:
    """What a protocol measures, and the maps. classes: none where another score is explained."""
    asked: Any = [list(classes)] if classes else case.choice

    def again(net: nn.Module, pixels: Tensor) -> Tensor:
        probe = Probe(net, pixels, asked, case.probe.memory)
        return to_maps(probe, run(probe)).float()

    x = case.probe.grid
    logits = case.choice.logits[None] if case.choice.logits is not None else torch.empty(1, 0)
    view = View(case.shared["source"] or "the picture", x[0].float().cpu(), classes[:1])
    batch = Batch([view], [classes or (0,)], logits, case.probe, lambda _: logits, 1, x.new_zeros(0), again)
    return batch, again(case.probe.net, x)


def of_class(case: Case, method: str, run: Callable[[Probe], Tensor]) -> float:
    """1 - Spearman of the maps of the class and of the most probable other one."""
    if not METHODS[method].class_aware:
        return 0.0
    protocol = ClassSensitivity(name="class", paper=metrics.CLASSES, summary="", asks=("label",))
    index, logits = case.choice.indices[0], case.choice.logits
    if index is None or logits is None:
        raise GradTokenError("the target is no class, so there is no other to compare it with")
    view = View("the picture", case.probe.grid[0], (index,))
    batch, maps = batch_of(case, run, protocol.targets(view, logits))
    return float(protocol.measure(batch, maps, ("label",))["label"]["1 - spearman"])


def of_weights(case: Case, _: str, run: Callable[[Probe], Tensor]) -> float:
    """Spearman of the map and that of a copy of the network with random weights, with and without signs: the larger."""
    protocol = WeightRandomisation(name="weights", paper=metrics.ADEBAYO, summary="")
    batch, maps = batch_of(case, run, classes_of(case))
    found = protocol.measure(batch, maps, ("predicted",))["predicted"]
    return max(float(found["similarity"]), float(found["absolute similarity"]))


def of_noise(case: Case, _: str, run: Callable[[Probe], Tensor]) -> float:
    """Largest |R' - R| / |R| under noise."""
    protocol = MaxSensitivity(name="noise", paper="https://arxiv.org/abs/1901.09392", summary="", draws=5)
    batch, maps = batch_of(case, run, classes_of(case))
    return float(protocol.measure(batch, maps, ("predicted",))["predicted"]["max-sensitivity"])


def classes_of(case: Case) -> tuple[int, ...]:
    """The class that is explained, or none."""
    return tuple(index for index in case.choice.indices if index is not None)


MEASURES: dict[str, Callable[[Case, str, Callable[[Probe], Tensor]], float]] = {
    "class": of_class,
    "weights": of_weights,
    "noise": of_noise,
}
