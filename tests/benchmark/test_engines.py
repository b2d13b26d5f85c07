"""One process, several, shares of a run: the same bytes; and workers that die."""

import os
import signal
from dataclasses import replace
from multiprocessing import Pipe

import pytest

from gradtoken.benchmark import workers
from gradtoken.benchmark.columns import merge
from gradtoken.benchmark.counting import Counts, counted
from gradtoken.benchmark.folder import RunFolder
from gradtoken.benchmark.running import How, run, run_all
from gradtoken.benchmark.share import Share
from gradtoken.benchmark.status import processes
from gradtoken.benchmark.tasks import Task
from gradtoken.errors import BadRun, UnknownName
from gradtoken.protocols.perturbation import Perturbation
from tests.benchmark import tiny

METHODS = ("gradtoken", "random", "rollout")


@pytest.fixture(scope="module")
def plan():
    model = tiny.model()
    model = replace(model, net=model.net.float())  # where rounding would show
    return tiny.plan_of(net=model, methods=METHODS, unit=2, batch=3)


def merged(folder, place):
    """The bytes of all rows."""
    assert merge(folder, place)[1] == 0
    return place.read_bytes()


@pytest.fixture(scope="module")
def whole(plan, tmp_path_factory):
    """The merged bytes of a run in one process."""
    place = tmp_path_factory.mktemp("whole")
    return merged(run(plan, place / "run"), place / "all.parquet")


def test_three_workers_give_the_same_bytes(plan, whole, tmp_path):
    folder = run(plan, tmp_path / "run", how=How(workers=3))
    assert merged(folder, tmp_path / "all.parquet") == whole
    (process,) = processes(folder)
    assert process.ended
    assert process.pairs == (30, 30)
    assert len(process.workers) > 1


def test_shares_give_the_same_bytes_in_any_order(plan, whole, tmp_path):
    for rank in (2, 0, 3, 1):
        share = Share(rank, 4)
        folder = run(plan, tmp_path / "run", how=How(share=share))
        assert counted(folder, plan.variants, share).missing == 0
    assert merged(folder, tmp_path / "all.parquet") == whole
    units = [counted(folder, plan.variants, Share(rank, 4)).done for rank in range(4)]
    assert units == [12, 6, 6, 6]


def test_another_number_of_shares_goes_on(plan, whole, tmp_path):
    run(plan, tmp_path / "run", how=How(share=Share(1, 2)))
    run(plan, tmp_path / "run", how=How(share=Share(0, 3)))
    folder = run(plan, tmp_path / "run", how=How(workers=1))
    assert merged(folder, tmp_path / "all.parquet") == whole


class Deadly(Perturbation):
    """Kills its process on one sample, as often as there are files to remove."""

    def view(self, sample, model):
        bullets = os.environ.get("BULLETS", "")
        if sample.id == "5.png" and bullets and (left := sorted(os.listdir(bullets))):
            os.unlink(os.path.join(bullets, left[0]))
            os.kill(os.getpid(), signal.SIGKILL)
        return super().view(sample, model)


@pytest.fixture
def deadly(plan, tmp_path, monkeypatch):
    """A run whose worker dies as often as it is told."""

    def armed(count):
        (tmp_path / "bullets").mkdir()
        for i in range(count):
            (tmp_path / "bullets" / str(i)).touch()
        monkeypatch.setenv("BULLETS", str(tmp_path / "bullets"))
        settings = {name: getattr(plan.protocol, name) for name in plan.protocol.__dataclass_fields__}
        return replace(plan, protocol=Deadly(**settings))

    return armed


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced(deadly, whole, tmp_path):
    folder = run(deadly(2), tmp_path / "run", how=How(workers=2))
    rows = merge(folder, tmp_path / "all.parquet")
    assert rows[1] == 0
    assert not os.listdir(tmp_path / "bullets")


@pytest.mark.slow
def test_a_unit_that_kills_every_worker_stays_missing_and_the_rest_is_done(deadly, plan, tmp_path):
    said = []
    poisoned = deadly(9)
    (folder,) = run_all([poisoned], [tmp_path / "run"], how=How(workers=2), tell=said.append)
    assert counted(folder, plan.variants) == Counts(24, 0, 6)
    lost = [event for event in said if event["event"] == "lost"]
    assert [event["number"] for event in lost] == [2]
    assert "its process ended with code -9" in lost[0]["reason"]
    assert len(os.listdir(tmp_path / "bullets")) == 9 - 3
    for name in os.listdir(tmp_path / "bullets"):
        (tmp_path / "bullets" / name).unlink()
    assert counted(run(poisoned, tmp_path / "run"), plan.variants).missing == 0


def test_two_processes_in_one_folder(plan, tmp_path):
    from gradtoken.benchmark.lock import locked

    RunFolder.begin(tmp_path, plan)
    with locked(tmp_path, Share()):
        with pytest.raises(BadRun, match=r"another process is at work in .*; wait for it, or stop it first"):
            run(plan, tmp_path)
        with pytest.raises(BadRun, match="with another number of processes"):
            run(plan, tmp_path, how=How(share=Share(0, 2)))
    with locked(tmp_path, Share(0, 2)):
        run(plan, tmp_path, how=How(share=Share(1, 2)))
    assert counted(run(plan, tmp_path), plan.variants).missing == 0


def test_what_makes_no_sense_is_refused():
    with pytest.raises(UnknownName, match="no engine 'rya'; did you mean 'ray'"):
        How("rya")
    with pytest.raises(BadRun, match="leave --workers out"):
        How("ray", workers=2)


@pytest.mark.parametrize(
    ("environment", "share"),
    [
        ({}, Share()),
        ({"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}, Share(3, 8, 1)),
        ({"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "4", "SLURM_LOCALID": "2"}, Share(2, 4, 2)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, Share()),  # a batch script: one process
        (
            {
                "SLURM_ARRAY_TASK_ID": "7",
                "SLURM_ARRAY_TASK_MIN": "1",
                "SLURM_ARRAY_TASK_STEP": "2",
                "SLURM_ARRAY_TASK_COUNT": "5",
            },
            Share(3, 5),
        ),
        (
            {
                "SLURM_PROCID": "1",
                "SLURM_STEP_NUM_TASKS": "2",
                "SLURM_LOCALID": "1",
                "SLURM_ARRAY_TASK_ID": "2",
                "SLURM_ARRAY_TASK_COUNT": "3",
            },
            Share(5, 6, 1),
        ),
    ],
)
def test_shares_of_the_environment(environment, share):
    assert Share.of_environment(environment) == share


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (
            {"RANK": "8", "WORLD_SIZE": "8"},
            "expected a rank from 0 to 7 of 8 processes, got 8; name the share .* with --share I/N",
        ),
        ({"RANK": "x", "WORLD_SIZE": "8"}, "expected a number in the environment's RANK, got 'x'"),
    ],
)
def test_an_environment_that_makes_no_sense_is_refused(environment, message):
    with pytest.raises(BadRun, match=message):
        Share.of_environment(environment)


def test_workers_that_cannot_begin_end_the_run_at_once(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "HOPELESS", 2)
    monkeypatch.setattr(workers, "shipped", lambda job: b"no job")
    with pytest.raises(BadRun, match=r"2 workers ended one after the other; try without --workers; .* code 1"):
        run(plan, tmp_path / "run", how=How(workers=1))


def test_a_unit_that_is_given_to_a_process_that_died_is_given_again(plan):
    mine, its = Pipe()
    its.close()
    worker = workers.Worker("worker 0", {}, None, mine, None)
    worker.give(task := Task(3, (("x",),), 1))
    assert worker.task == task
