"""The shell on texts."""

import json

import pytest
from PIL import Image

from tests import texts
from tests.test_cli import CAT, run

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
METHOD = ("--method", "attn_lrp")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    texts.bert(id2label={0: "NEG", 1: "POS"}).save_pretrained(folder)
    texts.tokenizer().save_pretrained(folder)
    return folder


def test_a_text_on_the_screen(model):
    result = run("explain", "--text", "never dull, UNFORGETTABLE", "--model", model, "--target", "pos", *METHOD)
    assert result.exit_code == 0, result.output
    assert "POS  probability" in result.output
    assert "never dull, UNFORGETTABLE" in result.output
    assert "“UNFORGETTABLE”" in result.output
    assert "a word has the value of largest magnitude of its pieces" in result.output
    assert "->" not in result.output


def test_files(model, tmp_path):
    result = run("explain", "--text", "bad", "-m", model, *METHOD, "--merge", "sum", "--out", tmp_path / "a.json")
    assert result.exit_code == 0, result.output
    (found,) = json.loads((tmp_path / "a.json").read_text())["explanations"]
    assert (found["words"]["names"], found["words"]["merge"]) == (["bad"], "sum")
    for name in ("one", "two"):
        (tmp_path / f"{name}.txt").write_text(f"{name} good film")
    asked = ("explain", tmp_path / "*.txt", "--text", "dull", "-m", model, *METHOD, "--format", "png")
    result = run(*asked, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["one-gradtoken.png", "text-gradtoken.png", "two-gradtoken.png"]
    assert Image.open(tmp_path / "out" / written[0]).format == "PNG"


def test_stdin_windows_and_special_tokens(model):
    asked = ("explain", "-", "-m", model, *METHOD, "--windows", 2, "--special")
    result = run(*asked, stdin=("the film is not good . " * 8).encode())
    assert result.exit_code == 0, result.output
    assert "read in 3 windows that share 2 tokens" in result.output
    assert "[CLS] the film" in result.output


def test_bad_texts_do_not_stop_the_others(model, tmp_path):
    (tmp_path / "binary.txt").write_bytes(b"\x00\x01")
    result = run("explain", tmp_path / "binary.txt", "--text", "", "--text", "dull", "-m", model, *METHOD)
    assert result.exit_code == 3, result.output
    assert "binary data, not a text" in result.output
    assert "text-1: BadText: the text is empty" in result.output
    assert "2 of 3 texts failed" in result.output
    result = run("explain", tmp_path / "missing.txt", "-m", model)
    assert result.exit_code == 1
    assert "BadText: no file" in result.output


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "give pictures or .txt files, or a text with --text"),
        (("--text", "bad"), 1, "bundled reads pictures; expected a model of texts"),
        (("--text", "bad", "--merge", "avg"), 1, "no rule for word pieces 'avg'"),
        ((CAT, "--special"), 1, "merge, special and windows are for texts"),
    ],
)
def test_wrong_usage(arguments, code, message):
    result = run("explain", *arguments)
    assert result.exit_code == code
    assert message in " ".join(result.output.replace("│", " ").split())


def test_a_picture_for_a_model_of_texts(model):
    result = run("explain", CAT, "-m", model)
    assert result.exit_code == 1
    assert "binary data, not a text" in result.output
