"""Run folders elsewhere: in memory, and behind a server that speaks S3."""

import os
import socket
import subprocess
import sys
import time
import uuid
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest

from gradtoken.benchmark.columns import merge
from gradtoken.benchmark.folder import MANIFEST, RunFolder
from gradtoken.benchmark.report import Report
from gradtoken.benchmark.running import How, run
from gradtoken.benchmark.status import processes
from gradtoken.benchmark.store import Store, address, below
from gradtoken.errors import BadRun
from tests.benchmark import tiny

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries of object stores


@pytest.fixture(scope="module")
def server():
    """A server on this machine that keeps what it is given while the tests last."""
    pytest.importorskip("moto")
    pytest.importorskip("s3fs")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(600):
        with socket.socket() as probe:
            if not probe.connect_ex(("127.0.0.1", port)):
                break
        time.sleep(0.1)
    yield f"http://127.0.0.1:{port}"
    process.kill()
    process.wait()


@pytest.fixture(params=["memory", "s3"])
def place(request, monkeypatch):
    """An address of a run that does not exist yet."""
    name = uuid.uuid4().hex
    if request.param == "memory":
        return f"memory://{name}/run"
    url = request.getfixturevalue("server")
    keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}
    for key, value in {**keys, "AWS_ENDPOINT_URL": url}.items():
        monkeypatch.setenv(key, value)
    fsspec.filesystem("s3", skip_instance_cache=True).mkdir(name)
    return f"s3://{name}/run"


@pytest.fixture(scope="module")
def model():
    return tiny.model()


@pytest.fixture
def plan(model):
    return tiny.plan_of(net=model, methods=("gradtoken", "rollout"), unit=4)


def test_a_run_elsewhere_is_the_same_bytes(plan, place, tmp_path):
    merge(run(plan, tmp_path / "here"), tmp_path / "here.parquet")
    run(plan, place, limit=4)
    folder = RunFolder.open(place)
    assert folder.done == {"gradtoken": (1, 3), "rollout": (1, 3)}
    folder.store.write(folder.name(plan.variants[0], plan.units[0]), b"torn")
    run(plan, place)
    assert merge(folder, tmp_path / "there.parquet")[1] == 0
    assert (tmp_path / "there.parquet").read_bytes() == (tmp_path / "here.parquet").read_bytes()
    for variant in plan.variants:
        for unit in plan.units:
            here = (tmp_path / "here" / folder.name(variant, unit)).read_bytes()
            assert folder.store.read(folder.name(variant, unit)) == here
    assert all(process.ended for process in processes(folder))
    assert len(list(processes(folder))) >= 1


def test_another_run_elsewhere_is_refused(plan, place):
    run(plan, place, limit=1)
    with pytest.raises(BadRun, match=r"holds another run, with other unit; name another folder"):
        run(replace(plan, unit=5), place)
    Store(place).write(MANIFEST, b"{")
    with pytest.raises(BadRun, match=r"manifest.json is damaged"):
        RunFolder.open(place)


def test_shares_and_workers_meet_elsewhere(plan, place, tmp_path):
    from gradtoken.benchmark.share import Share

    for rank in range(2):
        run(plan, place, how=How(share=Share(rank, 2)))
    merge(run(plan, tmp_path / "here"), tmp_path / "here.parquet")
    merge(RunFolder.open(place), tmp_path / "there.parquet")
    assert (tmp_path / "there.parquet").read_bytes() == (tmp_path / "here.parquet").read_bytes()


def test_reports_are_read_and_written_elsewhere(model, place):
    from gradtoken.commands.telling import put

    run(tiny.plan_of(net=model, protocol=tiny.CHEFER), place)
    assert Report.of(place).lines
    put(below(place, "report.md"), b"numbers")
    assert Store(place).read("report.md") == b"numbers"


def test_what_is_not_there():
    with pytest.raises(BadRun, match=r"memory://nothing/here is not a run"):
        RunFolder.open("memory://nothing/here")
    assert Store("memory://nothing/here").names("") == []
    Store("memory://nothing/here").delete("x")


def test_a_file_system_that_does_not_exist_or_answer(plan, monkeypatch):
    with pytest.raises(BadRun, match=r"cannot be written: .*[Pp]rotocol"):
        run(plan, "nosuch://a/b")
    pytest.importorskip("s3fs").S3FileSystem.clear_instance_cache()
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(key, "x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(BadRun, match=r"the run folder s3://absent/run cannot be written: .*127.0.0.1:1"):
        run(plan, "s3://absent/run")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("runs/a", Path("runs/a")),
        ("/runs/a b", Path("/runs/a b")),
        ("s3://bucket/run/", "s3://bucket/run"),
        ("file:///runs/x", Path("/runs/x")),
        ("simplecache::s3://b/r", "simplecache::s3://b/r"),
        ("~/x", Path(os.path.expanduser("~/x"))),
        ("C:x", Path("C:x")),
    ],
)
def test_addresses(text, place):
    assert address(text) == place
