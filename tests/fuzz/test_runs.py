"""Run folders with a damaged file: what is read is what was measured, or it is told as missing or refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from gradtoken.benchmark.columns import Column, column_of, merge
from gradtoken.benchmark.counting import counted
from gradtoken.benchmark.folder import MANIFEST, RunFolder
from gradtoken.benchmark.plan import fingerprint_of
from gradtoken.benchmark.report import Report
from gradtoken.benchmark.status import processes
from tests.asking import ask, examples
from tests.benchmark import small
from tests.fuzz.damage import DEEP, altered, damaged, written
from tests.fuzz.outcomes import expected_right, tried

pytest.importorskip("pyarrow", reason="the extra `benchmark` is not installed")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    data = small.pictures(tmp_path_factory.mktemp("data") / "noise")
    return Path(small.made(data, tmp_path_factory.mktemp("run")).root)


def read(root: Path) -> list[Column]:
    """Everything that the commands on a run read."""
    folder = RunFolder.open(root)
    columns = [column_of(folder, variant) for variant in folder.variants]
    assert str(counted(folder, folder.variants))
    assert all(process.name for process in processes(folder))
    assert not any(folder.interrupted(unit) for unit in folder.units)
    merge(folder, root.parent / "merged.parquet")
    assert Report.of(root, samples={"none"} if not columns else None).lines
    return columns


def values(columns: list[Column]) -> dict[tuple[str, str, str, str], Any]:
    """By method, ask, metric and sample."""
    return {
        (m.title, m.ask, metric, id): row
        for column in columns
        for m in column.measured
        for metric, rows in m.values.items()
        for id, row in zip(m.ids, rows, strict=True)
    }


def check(root: Path, known: dict[tuple[str, str, str, str], Any]) -> None:
    columns = tried("run folders", lambda: read(root))
    for key, row in values(columns or []).items():
        with expected_right("run folders"):
            np.testing.assert_array_equal(row, known[key])


@examples(30, 300)
def test_a_damaged_file(count, whole, tmp_path):
    root = shutil.copytree(whole, tmp_path / "run")
    contents = {p.relative_to(root): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}
    contents = {p: c for p, c in contents.items() if not p.name.startswith("report")}
    known = values(read(root))

    def opened(drawn: tuple[Path, bytes]) -> None:
        inner, content = drawn
        (root / inner).write_bytes(content)
        try:
            check(root, known)
        finally:
            (root / inner).write_bytes(contents[inner])

    pairs = st.sampled_from(sorted(contents)).flatmap(lambda p: damaged(contents[p]).map(lambda c: (p, c)))
    ask(count, opened, pairs)


@examples(30, 300)
def test_another_manifest_with_its_own_fingerprint(count, whole, tmp_path):
    root = shutil.copytree(whole, tmp_path / "run")
    manifest = json.loads((root / MANIFEST).read_bytes())

    def opened(settings: Any) -> None:
        try:
            found = manifest | {"settings": settings, "fingerprint": fingerprint_of(settings)}
        except (ValueError, UnicodeEncodeError):
            return
        (root / MANIFEST).write_bytes(written(found))
        tried("run folders", lambda: read(root))

    ask(count, opened, altered(manifest["settings"]))


@pytest.mark.parametrize("name", ["method", "options"])
def test_rows_are_not_taken_for_those_of_another_method(name, whole, tmp_path):
    """A description that was exchanged for another's is damage."""
    root = shutil.copytree(whole, tmp_path / "run")
    one, other, *_ = sorted(root.glob("rows/*/variant.json"))
    facts = json.loads(one.read_bytes())
    one.write_bytes(json.dumps(facts | {name: json.loads(other.read_bytes())[name]} | {"options": {"x": 1}}).encode())
    assert tried("run folders", lambda: read(root)) is None


@examples(30, 300)
def test_logs_may_hold_anything(count, whole, tmp_path):
    root = shutil.copytree(whole, tmp_path / "run")
    (root / "log").mkdir(exist_ok=True)
    (root / "log" / "folder.jsonl").mkdir()
    known = {"host": "here", "pid": 1, "share": "0-of-1", "pairs": 3, "worker": "", "seconds": 1.0}
    usual = [{"event": e, "time": "2026-01-01T00:00:00+00:00", "clock": 1.0} | known for e in ("begin", "unit", "end")]

    def opened(lines: Any) -> None:
        content = b"\n".join(map(written, lines)) if isinstance(lines, list) else written(lines)
        (root / "log" / "a.jsonl").write_bytes(content + b"\n" + DEEP)
        tried("run folders", lambda: [str(one) for one in processes(RunFolder.open(root))])

    ask(count, opened, altered(usual))
