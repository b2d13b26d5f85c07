"""Protocols that are run together compute what they share once, also when they are stopped in the middle."""

from dataclasses import fields, replace

import pytest

from gradtoken.benchmark.running import run, run_all
from gradtoken.benchmark.store import Store
from gradtoken.methods import METHODS
from gradtoken.protocols.perturbation import Perturbation
from tests.benchmark import tiny


@pytest.fixture(scope="module")
def model():
    return tiny.model()


def rows_of(folder):
    return {variant.title: list(folder.all_rows(variant)) for variant in folder.variants}


def test_protocols_that_see_a_sample_in_the_same_way_share_its_maps(model, monkeypatch, tmp_path):
    plans = [
        tiny.plan_of(protocol=protocol, net=model, unit=4, batch=3)
        for protocol in (tiny.CHEFER, tiny.PUBLISHED["abpc/agcam2024"], replace(tiny.QUICK, resize="shortest"))
    ]
    apart = [rows_of(run(plan, tmp_path / f"apart{i}")) for i, plan in enumerate(plans)]
    seen = tiny.replaced(monkeypatch, METHODS["gradtoken"].call)
    folders = run_all(plans, [tmp_path / name for name in "abc"])
    for one, other in zip(apart, map(rows_of, folders), strict=True):
        tiny.same(one["gradtoken"], other["gradtoken"])
    assert sum(seen) == 2 * tiny.COUNT  # the second protocol needs no map of its own, the third resizes in another way


class Mirrored(Perturbation):
    """Shows the same samples under the same names in another way."""

    def view(self, sample, model):
        view = super().view(sample, model)
        return replace(view, inputs=view.pixels.flip(-1))


def test_protocols_that_show_other_pixels_under_the_same_name_share_nothing(model, monkeypatch, tmp_path):
    plans = [tiny.plan_of(protocol=protocol, net=model) for protocol in (tiny.QUICK, mirrored())]
    apart = [rows_of(run(plan, tmp_path / f"apart{i}")) for i, plan in enumerate(plans)]
    seen = tiny.replaced(monkeypatch, METHODS["gradtoken"].call)
    for one, folder in zip(apart, run_all(plans, [tmp_path / name for name in "ab"]), strict=True):
        tiny.same(one["gradtoken"], rows_of(folder)["gradtoken"])
    assert sum(seen) == 2 * tiny.COUNT


def mirrored():
    return Mirrored(**{field.name: getattr(tiny.QUICK, field.name) for field in fields(tiny.QUICK)})


class Killed(BaseException):
    """The process ends here."""


def contents(folder):
    """The files of the rows, as they are."""
    return {path.relative_to(folder.root): path.read_bytes() for path in folder.root.rglob("*.parquet")}


@pytest.mark.parametrize("step", range(6))
def test_stopped_while_the_files_of_a_unit_are_put_in_place(step, model, monkeypatch, tmp_path):
    """Two marks, two files, and two marks that go: whichever is the last, the unit is made again once, by both."""
    protocols = (tiny.QUICK, replace(tiny.QUICK, name="second", asks=("predicted",)))
    plans = [tiny.plan_of(protocol=protocol, net=model, unit=4, batch=3) for protocol in protocols]
    whole = [contents(folder) for folder in run_all(plans, [tmp_path / "whole0", tmp_path / "whole1"])]
    roots, steps = [tmp_path / "a", tmp_path / "b"], []

    def stopping(kind):
        usual = getattr(Store, kind)

        def call(store, name, *arguments, **options):
            if name.startswith("being-kept/") or name.endswith(".parquet"):
                steps.append(name)
                if len(steps) == step + 1:
                    raise Killed("here")
            return usual(store, name, *arguments, **options)

        return call

    with monkeypatch.context() as patch:
        for kind in ("write", "delete"):
            patch.setattr(Store, kind, stopping(kind))
        with pytest.raises(Killed, match="here"):
            run_all(plans, roots)
    assert [contents(folder) for folder in run_all(plans, roots)] == whole
    seen = tiny.replaced(monkeypatch, METHODS["gradtoken"].call)
    folders = run_all(plans, roots)
    assert not seen
    assert not any(folder.marks for folder in folders)


def test_a_mark_is_gone_when_one_of_the_protocols_went_on_alone(model, monkeypatch, tmp_path):
    plans = [tiny.plan_of(protocol=replace(tiny.QUICK, name=name), net=model, unit=4) for name in ("one", "other")]
    folders = run_all(plans, [tmp_path / "a", tmp_path / "b"])
    first = plans[1].units[0]
    folders[1].begin_keeping(first, [plans[1].variants[0].key, "another-method"])
    run(plans[1], folders[1].root)
    assert folders[1].interrupted(first) == ["another-method"]  # which this plan did not ask for
    seen = tiny.replaced(monkeypatch, METHODS["gradtoken"].call)
    run(plans[1], folders[1].root)
    assert not seen
