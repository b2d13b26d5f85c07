"""One unit of a run: its samples through the model once, and all its methods on the same recording.

Where memory is short, samples or pictures go through in halves, which changes numbers by rounding alone.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from gradtoken import manual
from gradtoken.attribution import check_maps, to_maps
from gradtoken.benchmark.plan import Plan, Variant
from gradtoken.benchmark.ready import FAILURES, LOST_DEVICE, Ready, predictor, prepared, refused, stacked
from gradtoken.benchmark.rows import CRASHED, Row
from gradtoken.benchmark.short import is_short, make_room, note
from gradtoken.errors import NoGrid
from gradtoken.methods import METHODS
from gradtoken.models.preprocess import Preprocess
from gradtoken.probe import Probe
from gradtoken.protocols.protocol import Batch

Maps = dict[tuple[Any, ...], Tensor]  # of a unit: (h, w) by method, sample, what the model sees of it, and class


def measured(plan: Plan, unit: range, variants: Sequence[Variant], maps: Maps | None = None) -> dict[str, list[Row]]:
    """The rows of each variant, by its key. maps: what other plans found on this unit; it is added to."""
    ready, problems = prepared(plan, unit)
    rows: dict[str, list[Row]] = {variant.key: list(problems) for variant in variants}
    for group in groups(plan, ready):
        for key, found in of_group(plan, group, variants, maps):
            rows[key] += found
    return rows


def of_group(
    plan: Plan, ready: Sequence[Ready], variants: Sequence[Variant], maps: Maps | None
) -> Iterator[tuple[str, list[Row]]]:
    """The rows that a batch gives for each variant; from the first on for which memory is short, of its halves."""
    batch, done, reason = batch_of(plan, ready), 0, ""
    for variant in variants:
        try:
            yield variant.key, rows_of(plan, batch, variant, maps)
        except (MemoryError, RuntimeError) as error:
            if not is_short(error):
                raise
            reason = f"{CRASHED}: {error}".split("\n")[0]
            break
        done += 1
    if not reason:
        return
    del batch
    make_room()
    note({"event": "halved", "method": variants[done].title, "samples": len(ready), "reason": reason})
    if len(ready) == 1:
        yield variants[done].key, [Row(ready[0].view.id, "", "", [], reason)]
        yield from of_group(plan, ready, variants[done + 1 :], maps)
    else:
        middle = plan.room.samples = -(-len(ready) // 2)
        for half in (ready[:middle], ready[middle:]):
            yield from of_group(plan, half, variants[done:], maps)


def groups(plan: Plan, ready: Sequence[Ready]) -> Iterator[list[Ready]]:
    """Samples with equally many targets, `plan.batch` at a time."""
    ordered = sorted(ready, key=lambda one: len(one.targets))
    for _, same in groupby(ordered, key=lambda one: len(one.targets)):
        group = list(same)
        while group:
            size = min(plan.batch, plan.room.samples)
            yield group[:size]
            del group[:size]


def batch_of(plan: Plan, ready: Sequence[Ready]) -> Batch:
    """One probe for these samples."""
    inputs, targets = stacked(plan, [one.view for one in ready]), [one.targets for one in ready]
    return Batch(
        views=[one.view for one in ready],
        targets=targets,
        logits=torch.stack([one.logits for one in ready]),
        probe=Probe(plan.model.net, inputs, plan.model.classes(targets), plan.model.memory),
        predict=predictor(plan),
        most=plan.chunk,
        black=black_of(plan),
        independent=plan.model.independent,
    )


def black_of(plan: Plan) -> Tensor:
    """What a black pixel is for the model, (C,); for a model of texts nothing, (0,)."""
    how, weight = plan.model.preprocess, next(plan.model.net.parameters())
    values = [-m / s for m, s in zip(how.mean, how.std, strict=True)] if isinstance(how, Preprocess) else []
    return torch.tensor(values, dtype=weight.dtype, device=weight.device)


def rows_of(plan: Plan, batch: Batch, variant: Variant, maps: Maps | None = None) -> list[Row]:
    """What one method gets; where it fails on a batch, or is random, the samples are taken one by one."""
    targets, one_by_one = plan.model.classes(batch.targets), len(batch.views) > 1
    if one_by_one and is_random(variant):
        return rows_one_by_one(plan, batch, variant, maps)
    explain = partial(maps_of, variant, batch.views[0].id)
    try:
        asks = plan.protocol.asks_of(METHODS[variant.method].class_aware)
        known = replace(batch, again=lambda net, pixels: explain(Probe(net, pixels, targets, plan.model.memory)))
        measures = plan.protocol.measure(known, shared(plan, batch, variant, explain, maps), asks)
    except FAILURES as error:
        if is_short(error) or isinstance(error, LOST_DEVICE):
            raise
        if one_by_one and not (isinstance(error, NoGrid) and batch.probe.picture is None):  # which no text has
            return rows_one_by_one(plan, batch, variant, maps)
        return [refused(view.id, error) for view in batch.views]
    return [
        Row(view.id, ask, name, values[i].flatten().tolist())
        for ask, found in measures.items()
        for name, values in found.items()
        for i, view in enumerate(batch.views)
    ]


def rows_one_by_one(plan: Plan, batch: Batch, variant: Variant, maps: Maps | None = None) -> list[Row]:
    """The same from a batch for each sample."""
    alone = (batch_of(plan, [one]) for one in taken_apart(batch))
    return [row for one in alone for row in rows_of(plan, one, variant, maps)]


def shared(plan: Plan, batch: Batch, variant: Variant, explain: Callable[[Probe], Tensor], maps: Maps | None) -> Tensor:
    """The maps of a batch: those that are known, or all of them anew. (B, K, h, w)"""
    if maps is None or batch.probe.picture is None:
        return explain(batch.probe)
    way = (id(plan.model.net), variant.key)
    keys = [
        [(*way, view.id, view.digest, k) for k in of_one]
        for view, of_one in zip(batch.views, batch.targets, strict=True)
    ]
    if not all(key in maps for of_one in keys for key in of_one):
        found = explain(batch.probe)
        maps |= {key: R for of_one, some in zip(keys, found, strict=True) for key, R in zip(of_one, some, strict=True)}
        return found
    return torch.stack([torch.stack([maps[key] for key in of_one]) for of_one in keys])


def is_random(variant: Variant) -> bool:
    """Whether a method draws numbers."""
    return any(option.name == "generator" for option in manual.options(METHODS[variant.method]))


def maps_of(variant: Variant, sample: str, probe: Probe) -> Tensor:
    """What a method says of a probe; a map may be zero everywhere. (B, K, h, w)

    sample: the id of the only one, where the method draws numbers: each sample has its own, in whatever batch or run.
    """
    options = dict(variant.options)
    if is_random(variant) and "generator" not in options:
        seed = int.from_bytes(hashlib.sha256(sample.encode(errors="surrogatepass")).digest()[:7], "big")
        options["generator"] = torch.Generator().manual_seed(seed)
    R = METHODS[variant.method].bind(options)(probe)
    check_maps(R, variant.method, allow_blank=True)
    return to_maps(probe, R)


def taken_apart(batch: Batch) -> list[Ready]:
    """Its samples."""
    return [Ready(*one) for one in zip(batch.views, batch.logits, batch.targets, strict=True)]
