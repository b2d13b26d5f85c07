"""Samples that fail, what is counted of them, and how they are tried again."""

from dataclasses import replace

import pytest
import torch

from gradtoken.benchmark.columns import unexplained
from gradtoken.benchmark.counting import Counts, counted
from gradtoken.benchmark.ready import LOST_DEVICE
from gradtoken.benchmark.running import How, run
from gradtoken.data.sample import DataSet
from gradtoken.errors import NoRule
from gradtoken.methods import METHODS
from tests.benchmark import tiny

AGAIN = How(again=True)


@pytest.fixture(scope="module")
def model():
    return tiny.model()


def flaky_data(broken):
    """A data set with samples that cannot be read while they are named in a set."""

    def read(i):
        if f"{i}.png" in broken:
            raise OSError("Stale file handle")
        return some[i]

    some = tiny.samples()
    return DataSet("made here", [one.id for one in some], read)


def plan_of(model, broken, methods=("gradtoken", "rollout")):
    return replace(tiny.plan_of(net=model, unit=4, methods=methods), data=flaky_data(broken))


def test_files_that_cannot_be_read_now_are_rows_and_are_read_again_if_asked(model, tmp_path):
    broken = {"1.png", "8.png"}
    plan = plan_of(model, broken)
    folder = run(plan, tmp_path / "run")
    assert counted(folder, plan.variants) == Counts(16, 4, 0)
    rows = tiny.rows_of(folder)
    assert tiny.reasons(rows) == dict.fromkeys(sorted(broken), "crashed: OSError: Stale file handle")
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.parquet")}
    broken.clear()
    assert counted(run(plan, tmp_path / "run"), plan.variants).failed == 4  # not unless asked
    folder = run(plan, tmp_path / "run", how=AGAIN)
    assert counted(folder, plan.variants) == Counts(20, 0, 0)
    changed = {path.name for path, time in files.items() if path.stat().st_mtime_ns != time}
    assert changed == {"000000000.parquet", "000000008.parquet"}
    assert list(folder.all_rows(plan.variants[0])) == tiny.rows(tmp_path / "other", net=model, unit=4)


def test_an_error_that_was_not_foreseen_costs_one_sample_of_one_method(model, monkeypatch, tmp_path):
    known = METHODS["gradtoken"].call

    def call(probe):
        if any(torch.equal(x, fragile) for x in probe.grid):
            raise IndexError("list index out of range")
        return known(probe)

    how = replace(model.preprocess, resize="squash", interpolation="bilinear")
    fragile = how(tiny.picture(4)).pixels.double()
    tiny.replaced(monkeypatch, call)
    plan = plan_of(model, set())
    folder = run(plan, tmp_path)
    assert counted(folder, plan.variants) == Counts(19, 1, 0)
    assert tiny.reasons(tiny.rows_of(folder)) == {"4.png": "crashed: IndexError: list index out of range"}


@pytest.mark.parametrize(
    ("error", "counts"),
    [(NoRule("no rule for this"), Counts(20, 0, 0)), (KeyError("typo"), Counts(10, 10, 0))],
    ids=["refusal", "crash"],
)
def test_a_method_that_refuses_all_did_not_fail_but_one_that_crashes_did(error, counts, model, monkeypatch, tmp_path):
    def call(probe):
        raise error

    tiny.replaced(monkeypatch, call)
    plan = plan_of(model, set())
    folder = run(plan, tmp_path)
    assert counted(folder, plan.variants) == counts


def test_a_device_that_is_lost_ends_the_process_and_leaves_no_rows(model, monkeypatch, tmp_path):
    def call(probe):
        raise LOST_DEVICE("CUDA error: an illegal memory access was encountered")

    with monkeypatch.context() as patch:
        tiny.replaced(patch, call)
        with pytest.raises(LOST_DEVICE, match="illegal memory access"):
            run(plan_of(model, set()), tmp_path)
    assert not list(tmp_path.rglob("*.parquet"))
    plan = plan_of(model, set())
    assert counted(run(plan, tmp_path), plan.variants) == Counts(20, 0, 0)


def test_what_is_missing_is_counted(model, tmp_path):
    plan = plan_of(model, set())
    folder = run(plan, tmp_path, limit=4)
    assert counted(folder, plan.variants) == Counts(8, 0, 12)
    folder.path(plan.variants[0], plan.units[0]).write_bytes(b"torn")
    assert counted(folder, plan.variants) == Counts(4, 0, 16)


@pytest.mark.parametrize(
    ("reason", "failed"),
    [
        ("left out, for its prediction is not its label", 0),
        ("NoRule: no rule for this operation", 0),
        ("NoGrid: tokens are no patches", 0),
        ("BadPicture: 'x.png' is empty", 1),
        ("x.png: its mask has another size", 1),
        ("crashed: KeyError: 'x'", 1),
    ],
)
def test_pictures_of_which_none_can_be_read_are_failures_but_a_method_that_does_not_fit_is_none(reason, failed):
    assert unexplained([reason], measured=False) == failed
    assert unexplained([reason], measured=True) == (not reason.startswith("left out"))


def test_a_sample_on_which_the_model_itself_fails_is_a_row(model, monkeypatch, tmp_path):
    plan = plan_of(model, set())
    good = run(plan, tmp_path / "good")
    fragile = plan.protocol.view(plan.data[5], model).pixels.to(torch.float64)
    known, kind = type(model.net).forward, type(model.net)

    class Fragile(kind):
        def forward(self, x):
            if (x == fragile).flatten(1).all(1).any():
                raise IndexError("index out of range in self")
            return known(self, x)

    monkeypatch.setattr(model.net, "__class__", Fragile)
    folder = run(plan, tmp_path / "run")
    assert counted(folder, plan.variants) == Counts(18, 2, 0)
    rows = tiny.rows_of(folder)
    assert tiny.reasons(rows) == {"5.png": "crashed: IndexError: index out of range in self"}
    monkeypatch.undo()
    tiny.same([row for row in tiny.rows_of(good) if row.sample != "5.png"], rows)


def test_a_picture_for_which_there_is_no_memory_is_a_row(model, tmp_path):
    plan = plan_of(model, set())
    some = tiny.samples()

    def read(i):
        if i == 3:
            raise MemoryError
        return some[i]

    folder = run(replace(plan, data=replace(plan.data, read=read)), tmp_path)
    assert tiny.reasons(tiny.rows_of(folder)) == {"3.png": "crashed: MemoryError: "}
