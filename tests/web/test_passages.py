"""The tab for texts, without a browser."""

import base64
import re
import threading

import numpy as np
import pytest

import gradtoken
from gradtoken.web import passages
from gradtoken.web.settings import Settings
from gradtoken.web.visits import Desk
from tests import texts

TEXT = "The film was unforgettable , never dull"
METHODS = ["gradtoken", "legrad"]


@pytest.fixture
def desk():
    desk = Desk(Settings())
    model = texts.text_model(names=["<b>NEG", "POS"])
    desk.shelf.models["tiny"] = (model, threading.RLock())
    return desk


@pytest.fixture
def visit(desk):
    return desk.visit("")[1]


def test_a_text_is_explained_for_its_most_probable_class(desk, visit):
    answer = passages.read_text(desk, visit, TEXT, "tiny", METHODS)
    assert 'role="alert"' not in answer.message
    model = desk.shelf.get("tiny")[0]
    expected = gradtoken.explain(TEXT, model, None, METHODS)
    assert visit.text_classes == (expected[0].target,)
    for name, one in zip(METHODS, expected, strict=True):
        cell = visit.passage.cells[name, one.target]
        if cell.explanation is not None:
            np.testing.assert_allclose(cell.explanation.relevance, one.relevance, rtol=1e-5)
    assert answer.maps.count("<mark") >= 7
    assert f"{100 * expected[0].probability:.1f} %" in answer.classes
    assert "<b>NEG" not in answer.maps + answer.classes


def test_classes_and_methods_change_without_another_text(desk, visit):
    passages.read_text(desk, visit, TEXT, "tiny", ["gradtoken"])
    press = passages.press_text
    first = visit.text_classes[0]
    both = press(desk, visit, {"kind": "beside", "value": str(1 - first)}, ["gradtoken"])
    assert visit.text_classes == (first, 1 - first)
    assert "gt-columns-2" in both.maps
    assert "shared_scale=True" in both.code
    assert press(desk, visit, {"kind": "class", "value": "7"}, ["gradtoken"]).message
    other = passages.redraw_text(desk, visit, ["raw_attention"])
    assert "raw_attention" in other.maps
    assert "same for every class" in other.maps


@pytest.mark.parametrize(
    ("text", "model", "words"),
    [
        ("", "tiny", "no text yet"),
        (" \n ", "tiny", "no text yet"),
        (None, "tiny", "no text yet"),
        ("good", "", "name a model"),
        ("good", None, "name a model"),
        ("good", "bundled", "reads pictures"),
        ("good", "no model of this name", "no model"),
        ("a " * 10_001, "tiny", "this page takes 20,000"),
    ],
)
def test_what_cannot_be_read_is_a_message(desk, visit, text, model, words):
    answer = passages.read_text(desk, visit, text, model, METHODS)
    assert words in answer.message
    assert 'role="alert"' in answer.message
    assert answer.maps is None


def test_methods_are_checked_and_a_forgotten_text_is_said(desk, visit):
    assert "no text yet" in passages.redraw_text(desk, visit, METHODS).message
    passages.read_text(desk, visit, TEXT, "tiny", METHODS)
    for wrong in ([], None, "gradtoken", ["<b>"]):
        message = passages.redraw_text(desk, visit, wrong).message
        assert 'role="alert"' in message
        assert "<b>" not in message
    assert "no button" in passages.press_text(desk, visit, {"kind": "x"}, METHODS).message


def test_hostile_texts_stay_text(desk, visit):
    answer = passages.read_text(desk, visit, 'good <script>alert("1")</script> film', "tiny", ["gradtoken"])
    assert "<script" not in answer.maps + answer.code
    assert "&lt;" in answer.maps


def test_the_lines_make_what_is_downloaded(desk, visit, tmp_path, monkeypatch):
    monkeypatch.setattr("gradtoken.explaining.load", lambda name: desk.shelf.get(name)[0])
    answer = passages.read_text(desk, visit, TEXT, "tiny", ["gradtoken"])
    import html

    lines = html.unescape(re.search(r"<code>(.*)</code>", answer.code, re.S)[1])
    exec(lines.replace("maps.save('", f"maps.save('{tmp_path}/"), {})
    file = passages.press_text(desk, visit, {"kind": "file", "value": "png"}, ["gradtoken"]).file
    assert file["name"] == "text-gradtoken.png"
    assert base64.b64decode(file["content"]) == (tmp_path / "text.png").read_bytes()


def test_a_long_text_is_named_by_its_file(desk, visit):
    answer = passages.read_text(desk, visit, "good film " * 40, "tiny", ["gradtoken"])
    assert "open(&#x27;text.txt&#x27;).read()" in answer.code
    assert "tokens were read" in answer.message
