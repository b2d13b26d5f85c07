"""The pictures on which a method did worst and best, with its maps, made again."""

import io
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from gradtoken.benchmark.columns import Measured, column_of
from gradtoken.benchmark.plan import Plan, Variant
from gradtoken.benchmark.ready import prepared
from gradtoken.benchmark.report import Report
from gradtoken.benchmark.rows import writable
from gradtoken.benchmark.summary import BASELINE
from gradtoken.benchmark.work import batch_of, maps_of
from gradtoken.benchmark.written import percent
from gradtoken.draw.overlay import overlay, resized
from gradtoken.draw.words import first_name
from gradtoken.errors import BadRun, UnknownName
from gradtoken.progress import track
from gradtoken.protocols.protocol import Array, Protocol, View, column

SIDE, QUALITY = 176, 80  # pixels of the longest side, and of the JPEG
EACH, CLASSES = 3, 4  # pictures at either end, and maps of one picture


@dataclass(frozen=True)
class Shown:
    """One map over its picture. uri: of a small JPEG."""

    heading: str
    caption: str
    uri: str


def shown(report: Report, plan: Plan, titles: Sequence[str] = ()) -> Iterator[Shown]:
    """Maps of the worst and the best samples of some methods; none named: the baseline and the two best others.

    plan: of the same run, with its data and its model.
    """
    plan.model.for_pictures  # noqa: B018  which refuses a model of texts
    if plan.manifest()["fingerprint"] != report.folder.manifest["fingerprint"]:
        raise BadRun(f"{report.folder.root} was run with other data, another model or other settings than those given")
    variants = {variant.title: variant for variant in report.folder.variants}
    measured = [line.title for line in report.lines if line.numbers]
    for title in track(titles or chosen(report), "worst and best pictures"):
        if title not in measured:
            raise UnknownName.among("method with numbers in this run", title, measured)
        yield from extremes(column_of(report.folder, variants[title]).measured[0], variants[title], plan)


def chosen(report: Report) -> list[str]:
    """The baseline and the two best others, for the class that is explained first."""
    ranked = [line.title for line in report.lines if line.numbers and line.ask == report.lines[0].ask]
    base = [title for title in ranked if title == BASELINE]
    return [*base, *[title for title in ranked if title != BASELINE][:2]]


def extremes(one: Measured, variant: Variant, plan: Plan) -> Iterator[Shown]:
    """The lowest and highest samples by the protocol's first number, each taken by itself."""
    number = plan.protocol.numbers[0]
    values = each(one, plan.protocol)
    order = [i for i in np.argsort(values, kind="stable") if np.isfinite(values[i])]
    worst = order[:EACH] if number.better != "lower" else order[::-1][:EACH]
    best = [i for i in (order[::-1] if number.better != "lower" else order) if i not in worst][:EACH]
    places = {writable(name): i for i, name in enumerate(plan.data.ids)}
    heading = f"{variant.title}: worst and best by {number.name}"
    for end, some in (("worst", worst), ("best", best)):
        for i in some:
            for caption, picture in drawn(places[one.ids[i]], one.ask, variant, plan):
                yield Shown(heading, f"{end}, {percent(float(values[i]))}: {caption} ({one.ids[i]})", uri(picture))


def each(one: Measured, protocol: Protocol) -> Array:
    """The protocol's first number of each sample. (samples,)"""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(protocol.conclude(one.values)[protocol.numbers[0].name])


def drawn(number: int, ask: str, variant: Variant, plan: Plan) -> Iterator[tuple[str, Image.Image]]:
    """What is explained, and its map over what the model saw."""
    ready, _ = prepared(plan, range(number, number + 1))
    if not ready:
        return
    batch = batch_of(plan, ready)
    view = batch.views[0]
    maps, picture = maps_of(variant, view.id, batch.probe)[0], seen(view, plan)
    for k in columns(ask, batch.targets[0]):
        yield (
            name_of(batch.targets[0][k], plan),
            resized(overlay(picture, maps[k].float().cpu().numpy()), (0, 0, 1, 1), SIDE)[0],
        )


def columns(ask: str, targets: tuple[int, ...]) -> list[int]:
    """Which of the targets an ask means."""
    if ask in ("predicted", "label", "largest"):
        return [column("label" if ask == "label" else "predicted", targets)]
    return list(range(min(len(targets), CLASSES)))


def name_of(target: int, plan: Plan) -> str:
    """The class in words."""
    labels = plan.model.labels
    return first_name(labels[target]) if labels is not None else f"class {target}"


def seen(view: View, plan: Plan) -> Image.Image:
    """The picture at the model's size, as it was before it was normalised."""
    how, pixels = plan.model.for_pictures, view.pixels.float().cpu()
    std, mean = (pixels.new_tensor(values)[:, None, None] for values in (how.std, how.mean))
    values = ((pixels * std + mean).clamp(0, 1) * 255).round().byte()
    return Image.fromarray(values.permute(1, 2, 0).numpy())


def uri(picture: Image.Image) -> str:
    """The picture inside a page."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + b64encode(buffer.getvalue()).decode()
