"""The shell's experiments, run as a user runs them."""

import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as parquet
import pytest
from typer.testing import CliRunner

from gradtoken.benchmark.published import TABLE_2, TABLES
from gradtoken.cli import app
from gradtoken.commands.telling import extremes
from gradtoken.errors import GradTokenError
from tests import texts as documents
from tests.benchmark import small

FEW = ["--method", "gradtoken", "--method", "random", "--no-pictures"]


def run(*arguments: object):
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return small.pictures(tmp_path_factory.mktemp("data") / "noise", count=3)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return small.pictures(tmp_path_factory.mktemp("data") / "whole", count=3, broken=False)


@pytest.fixture(scope="module")
def place(whole, tmp_path_factory):
    place = tmp_path_factory.mktemp("run")
    result = run("benchmark", "run", small.PROTOCOL, "--data", whole, *FEW, "--out", place)
    assert result.exit_code == 0, result.output
    return place


def test_run_prints_numbers_under_the_protocols_name(data, tmp_path):
    result = run("benchmark", "run", small.PROTOCOL, "--data", data, *FEW, "--out", tmp_path)
    assert result.exit_code == 3, result.output
    for text in (
        "abpc/agcam2024 (version 1)",
        "gradtoken",
        "2 pairs of sample and method failed",
        "without values: 2 x",
    ):
        assert text in result.output
    assert {"report.md", "report.csv", "report.html", "manifest.json", "rows"} <= {p.name for p in tmp_path.iterdir()}


def test_nothing_measured(tmp_path):
    folder = small.pictures(tmp_path / "data", count=1)
    (folder / "0.png").write_text("no picture")
    result = run("benchmark", "run", small.PROTOCOL, "--data", folder, *FEW, "--out", tmp_path / "run")
    assert result.exit_code == 1, result.output
    assert "without values" in result.output


def test_the_same_command_goes_on(whole, place, monkeypatch):
    monkeypatch.setattr("gradtoken.benchmark.tasks.measured", None)  # nothing is computed again
    result = run("benchmark", "run", small.PROTOCOL, "--data", whole, *FEW, "--out", place)
    assert result.exit_code == 0, result.output


def test_ctrl_c_keeps_what_is_done(whole, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    command = ["benchmark", "run", small.PROTOCOL, "--data", whole, *FEW, "--out", tmp_path / "run"]
    with monkeypatch.context() as patch:
        patch.setattr("gradtoken.benchmark.tasks.measured", stop)
        result = run(*command)
    assert result.exit_code == 130, result.output
    assert "The same command with --out" in result.output
    assert run(*command).exit_code == 0


def test_limit_and_grid(whole, tmp_path):
    result = run("benchmark", "run", small.PROTOCOL, "--data", whole, "--grid", "heads", "--limit", 2, "-o", tmp_path)
    assert result.exit_code == 0, result.output
    assert "first 2, 2 samples" in result.output
    assert "gradtoken heads=mean" in result.output
    assert "heads=relu_mean" not in result.output  # it is plain gradtoken
    assert (tmp_path / "report.html").read_text().count("data:image/jpeg") == 2 * 2  # methods, samples
    settings = json.loads((tmp_path / "manifest.json").read_text())["settings"]
    assert settings["data"]["samples"] == 2


@pytest.fixture
def folds(tmp_path):
    """A table whose parts have numbers for names."""
    place = small.pictures(tmp_path / "folds", count=3, broken=False)
    lines = (place / "labels.csv").read_text().splitlines()
    told = [f"{line},{part}" for line, part in zip(lines, ("split", "01", "2", "01"), strict=True)]
    (place / "labels.csv").write_text("\n".join(told))
    return place


def test_options_of_the_data(folds, tmp_path):
    part, place = ["--data-option", "split=01"], tmp_path / "run"
    result = run("benchmark", "perturbation", "--data", folds, "--protocol", small.PROTOCOL, *FEW, *part, "-o", place)
    assert result.exit_code == 0, result.output
    assert "csv/folds 01, 2 samples" in result.output
    result = run("benchmark", "report", place, "--html", tmp_path / "page.html", "--data", folds, *part)
    assert result.exit_code == 0, result.output
    assert "data:image/jpeg" in (tmp_path / "page.html").read_text()
    result = run("benchmark", "report", place, "--html", tmp_path / "page.html", "--data", folds)
    assert (result.exit_code, "was run with other data" in result.output) == (1, True), result.output
    assert "2 of 2 samples can be used" in run("data", "check", folds, *part).output
    result = run("data", "check", tmp_path / "absent", *part)
    assert "there is no file or folder" in result.output


def test_pictures_that_cannot_be_made_spoil_no_report(whole, tmp_path, monkeypatch):
    def broken(*_):
        raise GradTokenError("no more memory")

    monkeypatch.setattr("gradtoken.benchmark.pictures.maps_of", broken)
    result = run("benchmark", "run", small.PROTOCOL, "--data", whole, "--method", "random", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert "the report has no pictures: no more memory" in result.output
    assert (tmp_path / "report.html").exists()


def test_reports_of_texts_have_no_pictures():
    report, plan = SimpleNamespace(measured=True), SimpleNamespace(model=documents.text_model())
    assert extremes(report, plan) == []


def test_short_forms_and_default_place(whole, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("benchmark", "perturbation", "--data", whole, "--protocol", small.PROTOCOL, "--method", "random")
    assert result.exit_code == 0, result.output
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["abpc-agcam2024_csv-whole_bundled"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "abpc/agcam"], "no protocol 'abpc/agcam'; did you mean 'abpc/agcam2024'"),
        (["run", small.PROTOCOL, "--method", "gradtokn"], "did you mean 'gradtoken'"),
        (["run", small.PROTOCOL, "--grid", "depths"], "no grid 'depths'; did you mean 'depth'"),
        (["run", small.PROTOCOL, "--grid", "depth", "--set", "depth=2"], "depth=2 was given and is varied too"),
        (["run", small.PROTOCOL, "--limit", "0"], "expected a limit of at least 1 sample, got 0"),
        (["run", small.PROTOCOL, "--set", "gradtoken.dept=2"], "did you mean 'depth'"),
        (["run", small.PROTOCOL, "--data-option", "splt=val"], "no option of csv 'splt'; did you mean 'split'"),
        (["run", small.PROTOCOL, "--data-option", "split"], "expected --data-option NAME=VALUE, got 'split'"),
        (["run", small.PROTOCOL, "--data-option", "path=x"], "expected --data-option NAME=VALUE, got 'path=x'"),
    ],
)
def test_what_is_wrong_is_said_before_a_model_is_loaded(arguments, message, whole, monkeypatch):
    monkeypatch.setattr("gradtoken.models.load.load", None)
    result = run("benchmark", *arguments, "--data", whole)
    assert (result.exit_code, message in result.output) == (1, True), result.output


def test_another_run_in_the_folder(data, place):
    result = run("benchmark", "run", small.PROTOCOL, "--data", data, *FEW, "--out", place)
    assert result.exit_code == 1
    assert "holds another run, with other data" in result.output


def test_report(place, whole, tmp_path):
    files = [tmp_path / f"r.{suffix}" for suffix in ("html", "csv", "md")]
    options = [part for file in files for part in (f"--{file.suffix[1:]}", file)]
    result = run("benchmark", "report", place, *options, "--data", whole, "--method", "random")
    assert result.exit_code == 0, result.output
    assert files[0].read_text().count("data:image/jpeg") == 3
    assert files[2].read_text().startswith("# abpc/agcam2024")
    assert "abpc/agcam2024 (version 1)" in run("benchmark", "report", place).output
    assert "data:image/jpeg" not in (place / "report.html").read_text()
    assert "make it first" in run("benchmark", "report", place, "--html", tmp_path / "no" / "r.html").output


def test_status(place, tmp_path):
    result = run("benchmark", "status", place)
    assert result.exit_code == 0
    assert "1 of 1" in result.output
    assert "finished" in result.output
    result = run("benchmark", "status", tmp_path)
    assert (result.exit_code, "is not a run" in result.output) == (1, True)
    damaged = Path(shutil.copytree(place, tmp_path / "damaged"))
    next(damaged.rglob("*.parquet")).write_bytes(b"torn")
    assert "are not finished" in run("benchmark", "status", damaged).output


def test_merge(place, tmp_path):
    result = run("benchmark", "merge", place, "--out", tmp_path / "all.parquet")
    assert result.exit_code == 0, result.output
    table = parquet.read_table(tmp_path / "all.parquet")
    assert table.column_names == ["method", "sample", "ask", "metric", "values", "reason"]
    assert set(table.column("method").to_pylist()) == {"gradtoken", "random"}
    assert table.num_rows == 2 * 3 * 3  # methods, samples, metrics
    assert f"{table.num_rows} rows" in result.output


def test_merging_a_part_says_what_is_missing(whole, tmp_path):
    folder = small.made(whole, tmp_path / "run", ["gradtoken", "random"], unit=1)
    folder.path(folder.variants[0], folder.units[1]).write_text("damaged")
    result = run("benchmark", "merge", tmp_path / "run", "--out", tmp_path / "all.parquet")
    assert (result.exit_code, "1 units are missing" in result.output) == (3, True), result.output
    assert parquet.read_table(tmp_path / "all.parquet").num_rows == 5 * 3


def test_reproduce(tmp_path):
    result = run("benchmark", "reproduce", "--table", "3", "--figure", "11")
    assert result.exit_code == 0, result.output
    assert "GradToken-2 (gradtoken propagation=rollout_matmul) | 65.11" in result.output
    assert "not run" in result.output
    assert run("benchmark", "reproduce").exit_code == 1


def test_reproduce_runs_what_is_missing(whole, tmp_path, monkeypatch):
    rows = [known for known in TABLE_2.rows if known.name in ("Rollout", "GradToken")]
    monkeypatch.setitem(TABLES, "2", dataclasses.replace(TABLE_2, rows=tuple(rows)))
    result = run("benchmark", "reproduce", "--table", 2, "--data", whole, "--limit", 1, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert "| GradToken (gradtoken) | 14.89 | as Chefer 2021 | " in result.output
    assert result.output.count(", n 1 |") == 2 + 2 + 1 + 1  # a map that is the same for all classes has no known label
    assert (tmp_path / "perturbation-gradtoken2025" / "manifest.json").exists()


def test_lists():
    assert "perturbation/gradtoken2025" in run("protocols").output
    assert "lerf (lower is better)" not in run("protocols", small.PROTOCOL).output
    assert "abpc (higher is better)" in run("protocols", small.PROTOCOL).output
    assert "pointing_game" in run("metrics").output
    assert "ImageNet-Segmentation" in run("data", "kinds").output
    assert "gtsegs_ijcv.mat" in run("data", "kinds", "imagenet-segmentation").output
    assert "options: none" in run("data", "kinds", "imagenet-segmentation").output
    assert "split=val: train, val, trainval or trainaug" in run("data", "kinds", "voc2012").output
    assert "groups" not in run("data", "kinds", "voc2012").output  # of which a shell cannot give any
    assert "all 50,000 of ImageNet's validation part" in run("protocols", "perturbation/chefer2021").output
    assert "did you mean 'voc2012'" in run("data", "kinds", "voc2021").output


def test_data_check(data, whole):
    result = run("data", "check", whole)
    assert result.exit_code == 0, result.output
    assert "3 of 3 samples can be used, 0 warnings" in result.output
    result = run("data", "check", data, "--threads", 2)
    assert result.exit_code == 3, result.output
    assert "error: <b>&|.png" in result.output
    assert "3 of 4 samples can be used" in result.output
