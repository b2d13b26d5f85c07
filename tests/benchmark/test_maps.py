"""Maps of folders: those that `explain` gives, kept as runs are."""

import os
import shutil

import numpy as np
import pyarrow.parquet as parquet
import pytest
from typer.testing import CliRunner

from gradtoken import explain, load
from gradtoken.benchmark.folder import RunFolder
from gradtoken.cli import app
from tests.benchmark import small


def shell(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = small.pictures(tmp_path_factory.mktemp("pictures"), count=5, broken=False)
    (folder / "labels.csv").unlink()
    return folder


def test_the_maps_are_those_of_explain(pictures, tmp_path):
    asked = ["--target", "cat", "--target", 3, "--method", "gradtoken", "--method", "rollout"]
    result = shell("explain", pictures, "--out", tmp_path / "run", "--resume", "--format", "npz", *asked)
    assert result.exit_code == 0, result.output
    assert "10 done, 0 failed, 0 missing" in result.output
    folder, model = RunFolder.open(tmp_path / "run"), load("bundled")
    assert [v.title for v in folder.variants] == ["gradtoken", "rollout"]
    for variant in folder.variants:
        with np.load(tmp_path / "run" / "npz" / variant.key / "000000000.npz") as found:
            arrays = dict(found)
        assert set(arrays["method"]) == {variant.method}
        assert len(arrays["maps"]) == 5 * 2
        for i, source in enumerate(arrays["source"]):
            one = explain(str(source), model, int(arrays["target"][i]), variant.method)
            np.testing.assert_allclose(arrays["maps"][i], one.relevance, rtol=2e-3, atol=1e-6)
            assert arrays["probability"][i] == pytest.approx(one.probability, rel=1e-4)
            assert arrays["logit"][i] == pytest.approx(one.logit, rel=1e-4, abs=1e-4)
    result = shell("benchmark", "merge", tmp_path / "run", "--out", tmp_path / "all.parquet")
    assert result.exit_code == 0, result.output
    assert parquet.read_table(tmp_path / "all.parquet").num_rows == 2 * 5 * 2 * 5


def test_it_goes_on_and_draws_what_is_asked_for(pictures, tmp_path, monkeypatch):
    command = ["explain", pictures, "--out", tmp_path / "run", "--resume"]
    assert shell(*command).exit_code == 0
    assert not (tmp_path / "run" / "pictures").exists()
    monkeypatch.setattr("gradtoken.benchmark.tasks.measured", None)  # nothing is computed again
    assert shell(*command, "--format", "png").exit_code == 0
    drawn = sorted((tmp_path / "run" / "pictures").iterdir())
    assert [path.name for path in drawn] == [f"{i}-gradtoken.png" for i in range(5)]
    before = drawn[1].stat().st_mtime_ns
    drawn[0].unlink()
    assert shell(*command, "--format", "png").exit_code == 0
    assert drawn[0].exists()
    assert drawn[1].stat().st_mtime_ns == before
    result = shell(*command, "--target", "dog")
    assert (result.exit_code, "holds another run, with other protocol.asks" in result.output) == (1, False)
    assert "holds another run, with other protocol.classes" in result.output


def test_a_picture_that_cannot_be_read_is_said_and_counted(pictures, tmp_path):
    (tmp_path / "bad.png").write_text("no picture")
    command = ["explain", pictures, tmp_path / "bad.png", "--out", tmp_path / "run", "--resume"]
    result = shell(*command)
    assert result.exit_code == 3, result.output
    assert "5 done, 1 failed, 0 missing" in result.output
    assert "bad.png: BadPicture" in result.output


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "--resume keeps the maps of files in the folder that --out names"),
        (["--out", "x.png"], "--resume keeps the maps of files in the folder that --out names"),
        (["--out", "run", "--format", "bmp"], "no file format '.bmp'"),
        (["--out", "run", "--target", "zebar"], "zebar"),
    ],
)
def test_what_makes_no_sense_is_refused(more, message, pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = shell("explain", pictures, "--resume", *more)
    assert (result.exit_code, message in result.output) == (1, True), result.output
    assert not list(tmp_path.rglob("*.parquet"))


def test_options_of_runs_need_a_run(pictures, tmp_path):
    result = shell("explain", pictures, "--out", tmp_path, "--workers", 2)
    assert (result.exit_code, "are of runs; add --resume" in result.output) == (1, True)


def test_pictures_of_which_none_can_be_read_fail(tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(3):
        (tmp_path / "in" / f"{i}.png").write_text("no picture")
    result = shell("explain", tmp_path / "in", "--out", tmp_path / "run", "--resume")
    assert (result.exit_code, "0 done, 3 failed, 0 missing" in result.output) == (1, True), result.output


def test_maps_are_kept_elsewhere(pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = "memory://maps/run"
    result = shell("explain", pictures, "--out", place, "--resume", "--format", "npz")
    assert (result.exit_code, f"5 done, 0 failed, 0 missing -> {place}" in result.output) == (0, True), result.output
    folder = RunFolder.open(place)
    assert folder.store.names(f"npz/{folder.variants[0].key}") == ["000000000.npz"]
    assert not list(tmp_path.iterdir())
    result = shell("explain", pictures, "--out", place, "--resume", "--format", "png")
    assert (result.exit_code, "is drawn into a folder of this machine" in result.output) == (1, True)
    result = shell("explain", pictures, "--out", place)
    assert (result.exit_code, "add --resume, or name a folder" in result.output) == (1, True)
    assert not list(tmp_path.iterdir())


def test_a_share_of_a_folder_says_so_and_all_of_it_can_be_asked_for(pictures, tmp_path, monkeypatch):
    for name, value in (("ID", "1"), ("COUNT", "3"), ("MIN", "0")):
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
    command = ["explain", pictures, "--out", tmp_path / "run", "--resume"]
    result = shell(*command)
    assert (result.exit_code, "0 done, 0 failed, 0 missing, share 1-of-3" in result.output) == (0, True)
    result = shell(*command, "--share", "all")
    assert (result.exit_code, "5 done, 0 failed, 0 missing ->" in result.output) == (0, True)


def test_names_that_are_no_text_are_drawn_and_old_drawings_are_said(pictures, tmp_path):
    (tmp_path / "in").mkdir()
    shutil.copy(pictures / "0.png", os.fsencode(tmp_path / "in") + b"/caf\xe9.png")
    command = ["explain", tmp_path / "in", "--out", tmp_path / "run", "--resume", "--format", "png"]
    result = shell(*command)
    assert result.exit_code == 0, result.output
    assert [path.name for path in (tmp_path / "run" / "pictures").iterdir()] == ["caf-gradtoken.png"]
    assert "1 files in" not in result.output
    assert "1 files in" in shell(*command, "--nearest").output


def test_texts_are_not_kept_as_runs(tmp_path):
    result = shell("explain", "--text", "a text", "--out", tmp_path / "run", "--resume")
    assert (result.exit_code, "leave it out for texts" in result.output) == (1, True)
