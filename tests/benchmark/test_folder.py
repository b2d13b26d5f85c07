"""A run's folder: what is refused, and with which words."""

import json
import os
from dataclasses import replace

import pytest

from gradtoken.benchmark.folder import MANIFEST, RunFolder, differing
from gradtoken.benchmark.plan import Variant
from gradtoken.benchmark.rows import Row, packed
from gradtoken.benchmark.running import run
from gradtoken.benchmark.store import Store
from gradtoken.errors import BadRun
from tests.benchmark import tiny

ROWS = [Row("0.png", "label", "positive", [1.0])]


@pytest.fixture(scope="module")
def plan():
    return tiny.plan_of(net=tiny.model(), unit=4)


def keep(folder, unit, rows, variant=None):
    folder.keep(unit, {(variant or folder.variants[0]).key: packed(rows, folder.facts(unit))})


def test_a_folder_that_was_begun_can_be_opened(plan, tmp_path):
    begun = RunFolder.begin(tmp_path / "a" / "b", plan)
    assert RunFolder.open(tmp_path / "a" / "b") == begun == RunFolder.begin(tmp_path / "a" / "b", plan)
    assert begun.units == plan.units
    assert begun.variants == list(plan.variants)
    assert list(begun.all_rows(plan.variants[0])) == []


def test_of_another_protocol_the_name_says_enough(plan, tmp_path):
    RunFolder.begin(tmp_path, plan)
    with pytest.raises(BadRun, match="holds another run, with other protocol; name another folder"):
        RunFolder.begin(tmp_path, replace(plan, protocol=tiny.CHEFER))


def test_rows_come_back(plan, tmp_path):
    folder = RunFolder.begin(tmp_path, plan)
    keep(folder, plan.units[1], ROWS)
    assert folder.rows(plan.variants[0], plan.units[1]) == ROWS
    assert folder.missing(plan.variants, plan.units[0]) == {plan.variants[0].key: ""}
    assert folder.missing(plan.variants, plan.units[1]) == {}
    assert folder.variants == list(plan.variants)


def test_no_rows_are_not_missing_rows(plan, tmp_path):
    folder = RunFolder.begin(tmp_path, plan)
    keep(folder, plan.units[0], [])
    assert folder.missing(plan.variants, plan.units[0]) == {}


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(BadRun, match=r"is not a run: it has no manifest.json"):
        RunFolder.open(tmp_path)
    with pytest.raises(BadRun, match=r"is not a run"):
        RunFolder.open(tmp_path / "nowhere")


DAMAGES = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"3",
    b'"x"',
    b"{}",
    b"\xff\xfe",
    b'{"fingerprint": "a"}',
    b'{"fingerprint": "a", "settings": 3}',
    b'{"fingerprint": "a", "settings": {}}',
    b'{"fingerprint": "a", "settings": {"unit": 0, "data": {"samples": 3}}}',
    b'{"fingerprint": "a", "settings": {"unit": 4, "data": {"samples": "many"}}}',
]


@pytest.mark.parametrize("content", DAMAGES)
def test_a_damaged_manifest(content, plan, tmp_path):
    run(plan, tmp_path)
    (tmp_path / MANIFEST).write_bytes(content)
    before = (tmp_path / "rows").stat().st_mtime_ns
    for call in (lambda: RunFolder.open(tmp_path), lambda: run(plan, tmp_path)):
        with pytest.raises(BadRun, match=r"manifest.json is damaged: .*; start the run again in another folder"):
            call()
    assert (tmp_path / MANIFEST).read_bytes() == content
    assert (tmp_path / "rows").stat().st_mtime_ns == before


def test_a_manifest_that_is_a_folder(plan, tmp_path):
    (tmp_path / MANIFEST).mkdir()
    with pytest.raises(BadRun, match="is damaged"):
        RunFolder.begin(tmp_path, plan)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b'{"method": "gradtoken", "options": 3}'])
def test_a_damaged_description_of_a_method_is_written_again(content, plan, tmp_path):
    folder = run(plan, tmp_path)
    path = folder.path(plan.variants[0], plan.units[0]).parent / "variant.json"
    path.write_bytes(content)
    with pytest.raises(BadRun, match=r"variant.json is damaged.*; run the same methods again"):
        folder.variants  # noqa: B018
    assert run(plan, tmp_path).variants == list(plan.variants)


def test_a_file_in_the_way(plan, tmp_path):
    (tmp_path / "file").write_text("mine")
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(BadRun, match="cannot be written: "):
            RunFolder.begin(root, plan)
    (tmp_path / "rows").write_text("mine")
    with pytest.raises(BadRun, match="cannot be written: "):
        RunFolder.begin(tmp_path, plan)
    assert (tmp_path / "rows").read_text() == "mine"


def test_a_folder_that_cannot_be_written(plan, tmp_path, monkeypatch):
    def refuse(*args, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(BadRun, match=r"the run folder .* cannot be written: Permission denied"):
        RunFolder.begin(tmp_path, plan)
    assert not list(tmp_path.rglob(".*"))


def test_a_disc_that_fills_up(plan, tmp_path, monkeypatch):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    run(plan, tmp_path, limit=1)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BadRun, match=r"No space left on device; nothing before it is lost"):
        run(plan, tmp_path)
    assert RunFolder.open(tmp_path).missing(plan.variants, plan.units[0]) == {}


def test_a_folder_where_a_file_should_be(plan, tmp_path):
    folder = RunFolder.begin(tmp_path, plan)
    folder.path(plan.variants[0], plan.units[0]).mkdir(parents=True)
    assert list(folder.missing(plan.variants, plan.units[0])) == [plan.variants[0].key]
    with pytest.raises(BadRun, match="cannot be written"):
        run(plan, tmp_path)


def test_options_come_back(plan, tmp_path):
    folder = RunFolder.begin(tmp_path, plan)
    variant = Variant("tis", {"seed": 3, "name": "é\n", "none": None, "share": 0.5, "yes": True})
    folder.describe(variant)
    assert folder.variants == [*plan.variants, variant]
    assert folder.variants[1].key == variant.key
    pair = Variant("tis", {"pair": (1, 2)})
    folder.describe(pair)
    assert pair.key in {one.key for one in folder.variants}


def test_two_that_begin_at_once(plan, tmp_path, monkeypatch):
    RunFolder.begin(tmp_path, plan)
    known = (tmp_path / MANIFEST).read_text()
    RunFolder.begin(tmp_path, plan)
    assert (tmp_path / MANIFEST).read_text() == known
    assert json.loads(known)["fingerprint"] == plan.manifest()["fingerprint"]


@pytest.mark.parametrize(
    ("one", "other", "names"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, ["a"]),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 2, "c": 2}}, ["a.b"]),
        ({"a": {"b": 1}}, {"a": {"c": 1}}, ["a.b", "a.c"]),
        ({"a": [1, 2]}, {"a": [2, 1]}, ["a"]),
        ({"a": {"b": 1}}, {"a": 3}, ["a"]),
        ({"a": None}, {}, ["a"]),
        ({}, {"a": None, "b": {"c": None}}, ["a", "b"]),
    ],
)
def test_what_differs_is_named(one, other, names):
    assert differing(one, other) == names


def test_two_runs_that_begin_at_once_in_one_folder_are_not_mixed(plan, tmp_path, monkeypatch):
    RunFolder.begin(tmp_path, plan)
    known = (tmp_path / MANIFEST).read_bytes()
    monkeypatch.setattr(Store, "names", lambda self, folder: [])  # as it was a moment before
    with pytest.raises(BadRun, match="holds another run, with other unit; name another folder"):
        RunFolder.begin(tmp_path, replace(plan, unit=5))
    assert (tmp_path / MANIFEST).read_bytes() == known


def test_a_disk_without_links_takes_runs_too(plan, tmp_path, monkeypatch):
    def refuse(*args, **options):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert RunFolder.begin(tmp_path, plan).units == plan.units
    assert not [path for path in tmp_path.rglob(".*")]
