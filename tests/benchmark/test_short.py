"""Where memory is short, work is done in halves: noted, and without another number."""

from dataclasses import replace

import pytest
import torch

from gradtoken import passes
from gradtoken.benchmark.log import events
from gradtoken.benchmark.running import run
from gradtoken.benchmark.short import Room, in_parts, is_short, noted
from gradtoken.benchmark.work import measured
from gradtoken.methods import METHODS
from gradtoken.protocols import PROTOCOLS
from tests.benchmark import tiny

ROUNDING = 2e-5  # of probabilities in float32, through a network of four blocks


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = tiny.model()
    return replace(model, net=model.net.float())


def plan_of(model, **sizes):
    return tiny.plan_of(net=model, methods=("gradtoken", "rollout"), **{"batch": 8, "unit": 10, **sizes})


def rows_of(plan):
    found = measured(plan, plan.units[0], plan.variants)
    return {key: sorted(rows) for key, rows in found.items()}


def scarce(limit, error=None):
    """A method that has memory for so many samples."""
    known = METHODS["gradtoken"].call

    def call(probe):
        if probe.batch > limit:
            raise error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB")
        return known(probe)

    return call


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_halves_until_it_fits_change_no_number_but_by_rounding(limit, model, monkeypatch):
    plan = plan_of(model)
    whole = rows_of(plan)
    seen = tiny.replaced(monkeypatch, scarce(limit))
    with noted() as notes:
        found = rows_of(plan)
    for key, rows in whole.items():
        tiny.same(rows, found[key], ROUNDING)
        assert not tiny.reasons(found[key])
    assert max(seen) > limit
    reason = "crashed: CUDA out of memory. Tried to allocate 20 MiB"
    assert notes[0] == {"event": "halved", "method": "gradtoken", "samples": notes[0]["samples"], "reason": reason}
    assert notes[0]["samples"] == next(size for size in seen if size > limit)


def test_what_did_not_fit_is_not_tried_again(model, monkeypatch):
    plan = plan_of(model, unit=16)
    seen = tiny.replaced(monkeypatch, scarce(1))
    with noted() as notes:
        measured(plan, plan.units[0], plan.variants)
    halved = [note["samples"] for note in notes]
    assert len(halved) > 1
    assert halved == sorted(set(halved), reverse=True)
    assert seen.count(halved[0]) == 1


def test_plain_passes_keep_to_the_memory_budget(model, monkeypatch):
    plan = replace(plan_of(model), protocol=PROTOCOLS["abpc/agcam2024"])
    whole, seen = rows_of(plan), []
    forward = type(model.net).forward
    monkeypatch.setattr(type(model.net), "forward", lambda net, x: seen.append(len(x)) or forward(net, x))
    monkeypatch.setattr(passes, "BUDGET", 1)
    found = rows_of(plan)
    assert max(seen) <= plan.batch < plan.chunk
    for key, rows in whole.items():
        tiny.same(rows, found[key], ROUNDING)


def test_a_sample_that_fits_alone_in_no_memory_is_a_row(model, monkeypatch):
    tiny.replaced(monkeypatch, scarce(0))
    plan = plan_of(model)
    found = {key.rsplit("-", 1)[0]: rows for key, rows in rows_of(plan).items()}
    assert set(tiny.reasons(found["gradtoken"])) == set(plan.data.ids)
    assert all(r.startswith("crashed: CUDA out of memory") for r in tiny.reasons(found["gradtoken"]).values())
    assert not tiny.reasons(found["rollout"])


def test_halving_is_written_into_the_log(model, monkeypatch, tmp_path):
    tiny.replaced(monkeypatch, scarce(1, RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")))
    folder = run(plan_of(model), tmp_path)
    (lines,) = events(folder.store)
    halved = [line for line in lines if line["event"] == "halved"]
    assert halved[0]["samples"] > 1
    assert "can't allocate memory" in halved[0]["reason"]


def test_pictures_go_through_the_model_in_halves(model):
    plan = plan_of(model, chunk=10)
    whole = rows_of(plan)
    known, seen = type(model.net).forward, []

    class Small(type(model.net)):
        def forward(self, x):
            seen.append(len(x))
            if len(x) > 3:
                raise MemoryError
            return known(self, x)

    before = type(model.net)
    model.net.__class__ = Small
    try:
        found = rows_of(plan)
    finally:
        model.net.__class__ = before
    assert max(seen) > 3
    for key, rows in whole.items():
        tiny.same(rows, found[key], ROUNDING)


@pytest.mark.parametrize("room", [1, 2, 3, 5, 99])
def test_parts_cover_everything_once(room):
    def call(start, stop):
        if stop - start > room:
            raise MemoryError
        return torch.arange(start, stop)

    with noted() as notes:
        known = Room()
        for _ in range(2):
            assert torch.cat(list(in_parts(call, 11, 4, known))).tolist() == list(range(11))
    halvings = {1: 2, 2: 1, 3: 1}  # once, not in every pass
    assert len(notes) == halvings.get(room, 0)


def test_other_errors_are_not_taken_for_it():
    assert not is_short(RuntimeError("shapes do not fit"))
    assert not is_short(ValueError("out of memory"))
    with pytest.raises(RuntimeError, match="shapes"):
        list(in_parts(lambda *_: (_ for _ in ()).throw(RuntimeError("shapes")), 4, 4, Room()))
    with pytest.raises(MemoryError, match=r"^$"):
        list(in_parts(lambda *_: (_ for _ in ()).throw(MemoryError), 4, 4, Room()))
