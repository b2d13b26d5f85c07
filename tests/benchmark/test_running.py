"""A run that is stopped, damaged or repeated ends with the same rows as one that was not."""

import os
from dataclasses import replace

import pytest
import torch

from gradtoken.benchmark.folder import RunFolder
from gradtoken.benchmark.plan import Variant
from gradtoken.benchmark.rows import packed, read
from gradtoken.benchmark.running import run
from gradtoken.data.sample import Sample
from gradtoken.errors import BadRun
from tests.benchmark import tiny
from tests.benchmark.test_rows import HOSTILE

METHODS = ("gradtoken", "rollout")


@pytest.fixture(scope="module")
def model():
    return tiny.model()


@pytest.fixture
def plan(model):
    return tiny.plan_of(net=model, methods=METHODS, unit=4)


def all_rows(folder):
    return {variant.title: list(folder.all_rows(variant)) for variant in folder.variants}


@pytest.fixture(scope="module")
def whole(model, tmp_path_factory):
    """The rows of a run without trouble."""
    return all_rows(run(tiny.plan_of(net=model, methods=METHODS, unit=4), tmp_path_factory.mktemp("whole")))


def files(root):
    """Those that a run keeps; its log grows, and its lock is empty."""
    found = (path for path in root.rglob("*") if path.is_file())
    return sorted(path for path in found if path.parent.name != "log" and not path.name.startswith(".lock"))


def passed(plan, root):
    """How many pictures went through the model in a run."""
    seen = []
    hook = plan.model.net.register_forward_hook(lambda net, inputs, output: seen.append(len(inputs[0])))
    try:
        run(plan, root)
    finally:
        hook.remove()
    return sum(seen)


def test_a_run_has_a_file_for_each_unit_and_method_and_nothing_else(plan, whole, tmp_path):
    folder = run(plan, tmp_path)
    names = {str(path.relative_to(tmp_path)) for path in files(tmp_path)}
    kinds = [f"rows/{variant.key}/" for variant in plan.variants]
    units = [f"{start:09d}.parquet" for start in (0, 4, 8)]
    assert names == {"manifest.json", *(kind + name for kind in kinds for name in [*units, "variant.json"])}
    assert all_rows(folder) == whole


def test_a_run_that_is_done_computes_nothing(plan, whole, tmp_path):
    run(plan, tmp_path)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files(tmp_path)}
    assert passed(plan, tmp_path) == 0
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files(tmp_path)} == before


def test_a_run_goes_on_with_what_is_missing_alone(plan, whole, tmp_path):
    first = run(plan, tmp_path, limit=4)
    assert {row.sample for row in first.all_rows(plan.variants[0])} == {f"{i}.png" for i in range(4)}
    rest = passed(plan, tmp_path)
    assert 0 < rest < passed(plan, tmp_path / "other") * 0.75
    assert all_rows(RunFolder.open(tmp_path)) == whole


def test_another_method_is_added_and_the_first_is_kept(plan, whole, model, monkeypatch, tmp_path):
    run(replace(plan, variants=plan.variants[:1]), tmp_path)
    from gradtoken.methods import METHODS

    calls = tiny.replaced(monkeypatch, METHODS["gradtoken"].call)
    assert all_rows(run(plan, tmp_path)) == whole
    assert not calls


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "zeros", "byte", "gone", "other run", "other columns"])
def test_a_damaged_file_is_made_again_and_no_other(damage, plan, whole, tmp_path):
    folder = run(plan, tmp_path)
    path = folder.path(plan.variants[1], plan.units[1])
    content = path.read_bytes()
    others = {one: one.stat().st_mtime_ns for one in files(tmp_path) if one != path}
    if damage == "gone":
        path.unlink()
    elif damage == "other run":
        foreign = [row._replace(values=[9.0]) for row in read(content)[0]]
        path.write_bytes(packed(foreign, {"fingerprint": "another"}))
    elif damage == "other columns":
        import pyarrow as pa
        from pyarrow import parquet

        facts = {"fingerprint": folder.manifest["fingerprint"]}
        parquet.write_table(pa.table({"x": [1]}).replace_schema_metadata(facts), path)
    else:
        middle = len(content) // 4
        flipped = content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
        new = {"empty": b"", "cut": content[:-20], "text": b"rows", "zeros": bytes(len(content)), "byte": flipped}
        path.write_bytes(new[damage])
    assert folder.rows(plan.variants[1], plan.units[1]) is None
    assert all_rows(folder) != whole
    assert all_rows(run(plan, tmp_path)) == whole
    assert {one: one.stat().st_mtime_ns for one in files(tmp_path) if one != path} == others
    assert path.read_bytes() == content


@pytest.mark.parametrize("after", [0, 1, 3])
def test_an_interrupted_run_leaves_whole_files_and_goes_on(after, plan, whole, monkeypatch, tmp_path):
    from gradtoken.methods import METHODS

    known = METHODS["gradtoken"].call

    def call(probe):
        if len(calls) > after:
            raise KeyboardInterrupt
        return known(probe)

    with monkeypatch.context() as patch:
        calls = tiny.replaced(patch, call)
        with pytest.raises(KeyboardInterrupt):
            run(plan, tmp_path)
    for path in files(tmp_path):
        assert path.name in ("manifest.json", "variant.json") or read(path.read_bytes())[0]
    folder = RunFolder.open(tmp_path)
    for title, rows in all_rows(folder).items():
        assert rows == whole[title][: len(rows)]
    assert all_rows(run(plan, tmp_path)) == whole


def test_interrupted_while_writing(plan, whole, monkeypatch, tmp_path):
    known, count = os.fsync, []

    def stop(file):
        known(file)
        count.append(file)
        if len(count) == 1 + 2 + 3:  # the manifest, the methods, and the third file of rows
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", stop)
        with pytest.raises(KeyboardInterrupt):
            run(plan, tmp_path)
    assert len([path for path in files(tmp_path) if path.suffix == ".parquet"]) == 2
    assert not [path for path in files(tmp_path) if path.name.startswith(".")]
    assert all_rows(run(plan, tmp_path)) == whole


def test_what_a_killed_run_left_behind_is_not_read(plan, whole, tmp_path):
    folder = run(plan, tmp_path, limit=1)
    path = folder.path(plan.variants[0], plan.units[1])
    (path.parent / f".{path.name}.0123").write_bytes(b"half")
    (tmp_path / "rows" / "gradtoken-00000000").mkdir()
    assert all_rows(run(plan, tmp_path)) == whole


def test_the_same_method_with_other_options_is_kept_apart(model, tmp_path):
    one, two = Variant("gradtoken"), Variant("gradtoken", {"propagation": "none", "depth": 2})
    folder = run(tiny.plan_of(net=model, methods=(one, two)), tmp_path)
    assert [variant.title for variant in folder.variants] == ["gradtoken", "gradtoken depth=2 propagation=none"]
    first, second = (list(folder.all_rows(variant)) for variant in (one, two))
    assert tiny.valued(first).keys() == tiny.valued(second).keys()
    assert first != second
    again = Variant("gradtoken", {"depth": 2, "propagation": "none"})
    assert passed(tiny.plan_of(net=model, methods=(again,)), tmp_path) == 0
    assert list(folder.all_rows(again)) == second


def test_another_configuration_is_refused_and_named(plan, model, tmp_path):
    run(plan, tmp_path, limit=1)
    before = {path: path.read_bytes() for path in files(tmp_path)}
    weights = tiny.model()
    with torch.no_grad():
        weights.net.head.bias[0] += 1
    how = replace(model.preprocess, mean=(0.5, 0.5, 0.5))
    others = {
        "protocol.shares": replace(plan, protocol=replace(tiny.QUICK, shares=(0.1,))),
        "protocol.version": replace(plan, protocol=replace(tiny.QUICK, version=2)),
        "data.samples, data.ids": tiny.plan_of(tiny.samples(3), net=model, unit=4),
        "model.weights": replace(plan, model=weights),
        "model.name": replace(plan, model=replace(model, name="large")),
        "preprocessing.mean": replace(plan, model=replace(model, preprocess=how)),
        "unit": replace(plan, unit=5),
    }
    for names, other in others.items():
        with pytest.raises(BadRun, match=f"holds another run, with other {names}; name another folder"):
            run(other, tmp_path)
    assert {path: path.read_bytes() for path in files(tmp_path)} == before


def test_sizes_that_change_nothing_may_change(plan, whole, tmp_path):
    run(plan, tmp_path, limit=4)
    found = all_rows(run(replace(plan, batch=1, chunk=1), tmp_path))
    for title, rows in found.items():
        tiny.same(rows, whole[title], 0 if plan.protocol.score == "accuracy" else 1e-6)


@pytest.mark.parametrize("unit", [1, 32])
def test_hostile_names_of_samples(unit, model, tmp_path):
    some = [Sample(name, tiny.picture(i), (i % 5,)) for i, name in enumerate(HOSTILE)]
    some.append(Sample("two\nlabels", tiny.picture(0), (1, 2)))
    folder = run(tiny.plan_of(some, net=model, unit=unit), tmp_path)
    rows = tiny.rows_of(folder)
    assert {sample for sample, _, _ in tiny.valued(rows)} == set(HOSTILE)
    assert tiny.reasons(rows).keys() == {"two\nlabels"}
    assert {path.parent.parent.name for path in files(tmp_path) if path.suffix == ".parquet"} == {"rows"}
    assert passed(tiny.plan_of(some, net=model, unit=unit), tmp_path) == 0
    plain = [replace(one, id=str(i)) for i, one in enumerate(some)]
    expected = tiny.rows(tmp_path / "plain", plain, net=model, unit=unit)
    assert [row[1:4] for row in rows] == [row[1:4] for row in expected]


def test_names_that_are_no_text(model, tmp_path):
    some = [Sample("caf\udce9.png", tiny.picture(0), (0,)), Sample("bad\udce9", tiny.picture(1), ())]
    rows = tiny.rows(tmp_path, some, net=model)
    assert {row.sample for row in rows} == {"caf\\udce9.png", "bad\\udce9"}


def test_nothing_but_refusals_is_a_run_too(model, tmp_path):
    some = [Sample("a", "text", ()), Sample("b", "text", ())]
    assert tiny.reasons(tiny.rows(tmp_path, some, net=model)).keys() == {"a", "b"}
    assert passed(tiny.plan_of(some, net=model), tmp_path) == 0
