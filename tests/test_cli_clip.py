"""The shell on models of pictures and captions, and on what is asked besides a class."""

import json

import pytest
from PIL import Image

import gradtoken
from tests import towers
from tests.test_cli import CAT, run

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
DOG, GRASS = "a photo of a dog", "a drawing of grass"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return towers.saved(towers.clip(), tmp_path_factory.mktemp("clip"))


def explanations(path):
    return json.loads(path.read_text())["explanations"]


def test_captions(model, tmp_path):
    asked = ("explain", CAT, "-m", model, "-t", DOG, "-t", GRASS, "--method", "gradtoken", "--allow-blank")
    result = run(*asked, "--out", tmp_path / "a.json")
    assert result.exit_code == 0, result.output
    found = explanations(tmp_path / "a.json")
    assert [one["name"] for one in found] == [DOG, GRASS]
    assert sum(one["probability"] for one in found) == pytest.approx(1)
    assert found[0]["note"] == "probabilities: softmax over the 2 captions asked"
    result = run(*asked, "--out", tmp_path / "a.png")
    assert result.exit_code == 0, result.output
    assert Image.open(tmp_path / "a.png").format == "PNG"


def test_one_rather_than_another(model, tmp_path):
    asked = ("explain", CAT, "-m", model, "--method", "input_x_gradient", "--out", tmp_path / "a.json")
    result = run(*asked, "-t", DOG, "--against", GRASS)
    assert result.exit_code == 0, result.output
    (found,) = explanations(tmp_path / "a.json")
    assert found["name"] == "a photo of a dog rather than a drawing of grass"
    result = run("explain", CAT, "-t", "cat", "-t", "dog", "--against", "giraffe", "--out", tmp_path / "b.json")
    assert result.exit_code == 0, result.output
    assert [one["name"] for one in explanations(tmp_path / "b.json")] == [
        "cat rather than giraffe",
        "dog rather than giraffe",
    ]
    result = run("explain", CAT, "--against", "giraffe")
    assert result.exit_code == 1
    assert "expected one --against for all or one for each --target, got 1 for 0" in result.output


def test_words(model, tmp_path):
    asked = ("explain", CAT, "-m", model, "-t", DOG, "--words", "--method", "attn_lrp", "--merge", "sum")
    result = run(*asked, "--out", tmp_path / "a.html")
    assert result.exit_code == 0, result.output
    assert DOG in result.output
    assert "a word has the sum of its pieces" in result.output
    assert "dog" in (tmp_path / "a.html").read_text()
    result = run("explain", CAT, "-t", "cat", "--words")
    assert result.exit_code == 1
    assert "bundled reads no captions" in result.output
    result = run("explain", "--text", DOG, "-m", model)
    assert result.exit_code == 1
    assert "give the picture, its captions with --target, and --words" in " ".join(result.output.split())


def test_likeness(model, tmp_path):
    asked = ("explain", CAT, "-m", model, "--similar-to", CAT, "--method", "raw_attention")
    result = run(*asked, "--out", tmp_path / "a.json")
    assert result.exit_code == 0, result.output
    (found,) = explanations(tmp_path / "a.json")
    assert found["logit"] == pytest.approx(1, abs=1e-6)


def test_captions_as_classes_and_a_folder_that_is_kept(model, tmp_path):
    (tmp_path / "labels.txt").write_text(f"{DOG}\n{GRASS}\n")
    asked = ("explain", CAT, "-m", model, "--method", "raw_attention")
    result = run(*asked, "--labels", tmp_path / "labels.txt", "--out", tmp_path / "a.json")
    assert result.exit_code == 0, result.output
    assert len(explanations(tmp_path / "a.json")[0]["predicted"]) == 2
    result = run(*asked, "-t", GRASS, "-t", DOG, "--resume", "--out", tmp_path / "run", "--format", "json")
    assert result.exit_code == 0, result.output
    (written,) = (tmp_path / "run").rglob("*-gradtoken.json")
    assert [one["name"] for one in explanations(written)] == [GRASS, DOG]


def test_what_is_seen_and_what_runs(model):
    result = run("doctor", "-m", model)
    assert result.exit_code == 0, result.output
    assert "4 x 4 patches after 1 prefix tokens" in result.output
    assert "captions" in result.output
    result = run("methods", "-m", model)
    assert result.exit_code == 0, result.output
    assert "grad_eclip" in result.output


def test_explaining_knows_its_targets():
    contrast = gradtoken.contrast("cat", "dog")
    assert (contrast.names, gradtoken.similarity_to("a.png").picture) == (("cat", "dog"), "a.png")
