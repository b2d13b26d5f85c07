"""What a run survives: kills, full disks, lost nodes, jumping clocks; what is rough in a process of its own."""

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from gradtoken.benchmark import log, status
from gradtoken.benchmark.columns import merge
from gradtoken.benchmark.running import run
from tests.benchmark import tiny

ALONE = {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", "RAY_raylet_start_wait_time_s": "300"}


def harsh(*arguments, before=()):
    """What the program found."""
    command = [*before, sys.executable, "-m", "tests.benchmark.harsh", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **ALONE}, timeout=3000)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def namespace(*kinds):
    """A command that gives a program mounts or a network of its own; skips where that is not allowed."""
    if not shutil.which("unshare") or subprocess.run(["unshare", *kinds, "true"], capture_output=True).returncode:
        pytest.skip("unshare is not allowed here")
    return ["unshare", *kinds]


@pytest.mark.slow
@pytest.mark.parametrize(("count", "plans"), [(50, 1), (25, 2)])
def test_killed_at_random_moments_a_run_ends_with_the_same_bytes(count, plans, tmp_path):
    found = harsh("kills", tmp_path / "runs", count, plans)
    assert found["killed"] >= count
    assert found["computed though kept"] == 0
    for one in found["rounds"]:
        assert one["same"]
        assert one["extra"] <= one["most"]  # the unit in flight of each kill


@pytest.mark.slow
def test_a_full_and_a_read_only_disk(tmp_path):
    found = harsh("full", tmp_path / "runs", before=namespace("-m"))
    assert "No space left on device; nothing before it is lost" in found["full"]
    assert "Read-only file system" in found["readonly"]
    assert found["files"] == []  # no half files
    before, after = found["kept"]
    assert before == after != "0 done, 0 failed, 120 missing"
    assert (found["after"], found["rewritten"], found["same"]) == ("120 done, 0 failed, 0 missing", 0, True)


def on_loopback():
    """A command that gives a program no network but its own machine, for Ray listens on all that there are."""
    return [*namespace("-n"), "bash", "-c", 'ip link set lo up && exec "$@"', "bash"]


@pytest.mark.slow
def test_ray_gives_the_same_bytes(tmp_path):
    pytest.importorskip("ray")
    assert harsh("tasks", tmp_path / "runs", before=on_loopback())["same"]


@pytest.mark.slow
def test_a_node_of_a_ray_cluster_that_dies_costs_its_units_in_flight(tmp_path):
    pytest.importorskip("ray")
    found = harsh("nodes", tmp_path / "runs", before=on_loopback())
    assert found["by the dead node"] > 0
    assert found["by the other"] > 0
    assert found["same"]
    assert found["each once"]


@pytest.mark.slow
def test_50001_samples_on_four_workers(tmp_path):
    found = harsh("many", tmp_path / "run", 50_001, 4)
    assert (found["counts"], found["ids"]) == ("50001 done, 0 failed, 0 missing", 50_001)
    assert found["rows"] == 2 * 50_001  # of two metrics


class Jumping(datetime):
    """A clock that is set back by a day whenever it is read."""

    reads = 0

    @classmethod
    def now(cls, tz=None):
        Jumping.reads += 1
        return datetime(2026, 1, 1, tzinfo=UTC) - timedelta(days=Jumping.reads)


def test_a_clock_that_jumps_changes_no_number_and_no_rate(monkeypatch, tmp_path):
    plan = tiny.plan_of(net=tiny.model(), unit=4)
    merge(run(plan, tmp_path / "usual"), tmp_path / "usual.parquet")
    monkeypatch.setattr(log, "datetime", Jumping)
    folder = run(plan, tmp_path / "run")
    merge(folder, tmp_path / "all.parquet")
    assert (tmp_path / "all.parquet").read_bytes() == (tmp_path / "usual.parquet").read_bytes()
    (process,) = status.processes(folder)
    assert process.ended
    assert process.seconds > 0
    assert process.rate > 0
    monkeypatch.setattr(status, "datetime", Jumping)
    assert next(status.processes(folder)).heard == 0
