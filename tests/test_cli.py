"""The shell, run as a user runs it: files on disk, exit codes, messages."""

import dataclasses
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from gradtoken.batch import parse_value
from gradtoken.cli import app
from gradtoken.errors import NoAttention, NoGrid
from gradtoken.methods import METHODS
from gradtoken.models.bundled import FOLDER
from gradtoken.probe import Probe

CAT = FOLDER / "pictures" / "cat.jpg"
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def run(*arguments: object, stdin: bytes | None = None):
    return CliRunner().invoke(app, [str(a) for a in arguments], input=stdin, env={"COLUMNS": "200"})


def test_a_picture_by_class(tmp_path):
    result = run("explain", CAT, "--target", "cat", "--out", tmp_path / "cat.png")
    assert result.exit_code == 0, result.output
    assert "small demonstration model" in result.output
    assert "--model google/vit-base-patch16-224" in result.output
    assert "cat  probability" in result.output
    assert "gaze -> " in result.output
    assert Image.open(tmp_path / "cat.png").format == "PNG"


def test_several_pictures_with_a_bad_one_among_them(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.jpg", "b [1].jpg", "-c.jpg"):
        (tmp_path / "in" / name).write_bytes(CAT.read_bytes())
    (tmp_path / "in" / "text.jpg").write_text("no picture")
    result = run("explain", tmp_path / "in", "--out", tmp_path / "out", "--format", "json", "-t", "dog")
    assert result.exit_code == 3, result.output
    assert "text.jpg: BadPicture" in result.output
    assert "1 of 4 pictures failed" in result.output
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["a-gradtoken.json", "b_1-gradtoken.json", "c-gradtoken.json"]
    content = json.loads((tmp_path / "out" / "a-gradtoken.json").read_text())
    assert content["explanations"][0]["name"] == "dog"


def test_a_missing_picture_does_not_stop_the_others(tmp_path):
    result = run("explain", CAT, tmp_path / "missing.jpg", "--out", tmp_path / "out", "--format", "npy")
    assert result.exit_code == 3, result.output
    assert "missing.jpg: BadPicture: there is no file or folder" in result.output
    assert "1 of 2 pictures failed" in result.output
    assert os.listdir(tmp_path / "out") == ["cat-gradtoken.npy"]


def test_pictures_of_one_name_do_not_overwrite_each_other(tmp_path):
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "cat.jpg").write_bytes(CAT.read_bytes())
    result = run("explain", tmp_path / "x", tmp_path / "y", "--out", tmp_path / "out", "--format", "npy")
    assert result.exit_code == 0, result.output
    assert sorted(os.listdir(tmp_path / "out")) == ["cat-gradtoken-2.npy", "cat-gradtoken.npy"]


def test_stdin_and_options(tmp_path):
    out = tmp_path / "map.npy"
    result = run(
        *("explain", "-", "-t", "4", "--method", "gradtoken", "--set", "heads=mean", "--set", "depth=12", "-o", out),
        stdin=CAT.read_bytes(),
    )
    assert result.exit_code == 0, result.output
    assert np.load(out).shape == (14, 14)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["explain", "nowhere.jpg"], "nowhere.jpg"),
        (["explain", CAT, "-t", "kat"], "no class is named 'kat'; did you mean 'cat'"),
        (["explain", CAT, "-t", "99"], "class index 99 is out of range"),
        (["explain", CAT, "--method", "gradtokn"], "did you mean 'gradtoken'"),
        (["explain", CAT, "--set", "depth"], "expected --set NAME=VALUE or METHOD.NAME=VALUE, got 'depth'"),
        (
            ["explain", CAT, "--method", "gradtoken", "--set", "dept=2"],
            "no option of gradtoken 'dept'; did you mean 'depth'",
        ),
        (["explain", CAT, "--method", "gradtoken", "--set", "depth=77"], "expected depth from 1 to 12"),
        (["explain", CAT, "--method", "gradtoken", "--set", "depth=abc"], "expected depth of gradtoken as int"),
        (["explain", CAT, "--method", "gradtoken", "--set", "heads=3"], "no head integration 3"),
        (["explain", CAT, "--set", "depth=2"], "no option of gaze 'depth'; these methods have it: attention_shift, "),
        (["explain", CAT, "--set", "allow_blank=1"], "expected --set NAME=VALUE"),
        (["explain", CAT, "--set", "gaz.start=1"], "no method among those asked 'gaz'; did you mean"),
        (["explain", CAT, "--set", "raw_attention.depth=1", "--method", "raw_attention"], "no option of raw_attention"),
        (["explain", CAT, "-o", "nowhere/cat.png"], "cannot write"),
        (["explain", CAT, "-o", "y" * 300 + ".png"], "cannot write"),
        (["explain", CAT, "-o", "cat.png", "--format", "svg"], "ask for different files; leave one of them out"),
        (["explain", CAT, "-o", "cat.tiff"], "no file format '.tiff'"),
        (["explain", CAT, "--model", "nothing"], "no model 'nothing'"),
        (["doctor", "--model", "nothing"], "no model 'nothing'"),
        (["compare", CAT, "--methods", "gradtoken,rolout"], "did you mean 'rollout'"),
        (["compare", CAT, "--set", "heads=mean", "--heads"], "heads='mean' was given and is varied too"),
        (["compare", CAT, "--heads", "--depths"], "give one of them"),
        (["compare", CAT, "--rows", "columns"], "rows 'pictures' or 'classes', got 'columns'"),
        (["compare", "nowhere.jpg"], "nowhere.jpg"),
        (["compare", CAT, "-o", "nowhere/cat.png"], "make it first"),
        (["compare", CAT, "-o", "cat.tiff"], "no file format '.tiff'"),
        (["methods", "gradtokn"], "did you mean 'gradtoken'"),
    ],
)
def test_errors_are_one_line_and_exit_code_1(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 1, result.output
    assert message in result.output
    assert "Traceback" not in result.output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["explain", "compare"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--colours", "jett"], "no colour map 'jett'; did you mean 'jet'"),
        (["--threshold", "7"], "threshold: expected a share"),
        (["--set", "dept=2"], "'dept'; did you mean 'depth'"),
        (["--set", "nothing.depth=2"], "no method among those asked 'nothing'"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_computed(command, arguments, message, monkeypatch):
    monkeypatch.setattr("gradtoken.models.load.load", None)  # which would be another error
    result = run(command, CAT, "--methods" if command == "compare" else "--method", "gradtoken", *arguments)
    assert result.exit_code == 1, result.output
    assert message in result.output


def test_wrong_rows_are_refused_before_a_model_is_loaded(monkeypatch):
    monkeypatch.setattr("gradtoken.models.load.load", None)
    assert "rows 'pictures' or 'classes', got 'x'" in run("compare", CAT, "--rows", "x").output


def test_hostile_names_of_pictures(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("\x1b[31mred.jpg", "x" * 245 + ".jpg", "\u732b" * 80 + ".jpg"):
        (tmp_path / "in" / name).write_bytes(CAT.read_bytes())
    (tmp_path / "in" / "\x1b[31mbad.jpg").write_text("no picture")
    result = run("explain", tmp_path / "in", "--out", tmp_path / "out", "--format", "npy", "-t", "cat")
    assert result.exit_code == 3, result.output
    assert "\x1b" not in result.output
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_blank_maps_on_request(tmp_path):
    """White under the cat: no token speaks for dog."""
    Image.new("RGB", (8, 8), "white").save(tmp_path / "white.png")
    result = run("explain", tmp_path / "white.png", "-o", tmp_path / "o.npy", "--allow-blank", "-t", "cat", "-t", "dog")
    assert result.exit_code == 0, result.output
    assert np.load(tmp_path / "o.npy").shape == (2, 14, 14)


def test_compare(tmp_path):
    both = ["-t", "cat", "-t", "giraffe", "--methods", "gradtoken, raw_attention"]
    result = run("compare", CAT, *both, "--set", "gradtoken.depth=2", "-o", tmp_path / "a.json")
    assert result.exit_code == 0, result.output
    assert "2 x 2 maps ->" in result.output
    found = json.loads((tmp_path / "a.json").read_text())["explanations"]
    assert [(one["name"], one["method"], one["options"], one["class_aware"]) for one in found] == [
        (name, *rest)
        for name in ("cat", "giraffe")
        for rest in (("gradtoken", {"depth": 2}, True), ("raw_attention", {}, False))
    ]
    (tmp_path / "bad.jpg").write_text("no picture")
    result = run("compare", CAT, tmp_path / "bad.jpg", *both, "--shared-scale", "-o", tmp_path / "a.png")
    assert result.exit_code == 3, result.output
    assert "bad.jpg: BadPicture" in result.output
    assert Image.open(tmp_path / "a.png").width > 700


def test_a_method_that_is_named_twice_is_one(tmp_path):
    result = run("compare", CAT, "--methods", "rollout,, rollout,gradtoken,", "-o", tmp_path / "a.json")
    assert "1 x 2 maps ->" in result.output, result.output
    result = run("compare", CAT, "--methods", ",", "-o", tmp_path / "a.json")
    assert "at least one method" in result.output
    run("explain", CAT, "--method", "rollout", "--method", "rollout", "-o", tmp_path / "b.npy")
    assert np.load(tmp_path / "b.npy").shape == (14, 14)


@pytest.mark.parametrize(("flag", "columns"), [("--schemes", 5), ("--heads", 3), ("--depths", 12)])
def test_variants_of_gradtoken(tmp_path, flag, columns):
    result = run("compare", "-", flag, "-o", tmp_path / "a.html", stdin=CAT.read_bytes())
    assert result.exit_code == 0, result.output
    assert f"1 x {columns} maps ->" in result.output


def test_a_method_that_refuses_is_listed_at_the_end(tmp_path, monkeypatch):
    def refuse(probe):
        raise NoGrid("[b]never[/b]")

    call = dataclasses.replace(METHODS["raw_attention"], call=refuse)
    monkeypatch.setitem(METHODS, "raw_attention", call)
    result = run("compare", CAT, "--methods", "gradtoken,raw_attention", "-o", tmp_path / "a.npz")
    assert result.exit_code == 3, result.output
    assert "no map of raw_attention: [b]never[/b]" in result.output
    result = run("compare", CAT, "--methods", "raw_attention", "-o", tmp_path / "b.npz")
    assert (result.exit_code, "no method gave a map" in result.output) == (1, True)


def test_values_of_options():
    assert [
        parse_value(text) for text in ("2", "-3", "1.5", "1e-3", ".5", "true", "False", "none", "nan", "1.2.3")
    ] == [2, -3, 1.5, 1e-3, 0.5, True, False, "none", "nan", "1.2.3"]


def test_methods():
    listed = run("methods").output
    assert all(name in listed for name in ("raw_attention", "class-aware", "1 F + K short B"))
    described = run("methods", "gradtoken").output
    for text in ("10.1016/j.neunet.2024.106837", "--set depth=", "average_matmul", "Class-aware gradient"):
        assert text in described
    supported = run("methods", "--model", "bundled").output
    assert "\N{CHECK MARK}" in supported


def test_methods_that_a_model_lacks_something_for(monkeypatch):
    needy = dataclasses.replace(METHODS["raw_attention"], needs=("last", "wings"))
    monkeypatch.setitem(METHODS, "raw_attention", needy)
    monkeypatch.setattr(Probe, "wings", property(wingless), raising=False)
    assert re.search(r"raw_attention +no +the model has \[no\] wings", run("methods", "--model", "bundled").output)


def wingless(probe):
    raise NoAttention("the model has [no] wings")


def test_lists_and_doctor():
    assert "torchvision:NAME" in run("models").output
    report = run("doctor").output
    assert "14 x 14 patches after 1 prefix tokens" in report
    assert "12 calls seen; 11 before the last are over its tokens" in report


def test_demo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("demo")
    assert result.exit_code == 0, result.output
    assert Image.open(tmp_path / "demo-cat-and-giraffe.png").width > 1000


def test_help_imports_nothing_heavy():
    code = "import sys, gradtoken.cli; print([m for m in ('torch', 'numpy', 'matplotlib', 'timm') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_real_process_reports_to_the_shell(tmp_path):
    command = [sys.executable, "-m", "gradtoken", "explain", "missing.jpg"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert "missing.jpg" in done.stderr
    assert "Traceback" not in done.stderr


def test_readable_bytes_only(tmp_path):
    buffer = io.BytesIO()
    Image.new("RGB", (10, 10)).save(buffer, "PNG")
    path = Path(tmp_path / "new\nline.png")
    path.write_bytes(buffer.getvalue())
    result = run("explain", path, "-o", tmp_path / "out.npy")
    assert result.exit_code == 0, result.output
