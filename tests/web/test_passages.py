"""The tab for texts, without a browser."""

import base64
import html
import json
import re
import threading

import numpy as np
import pytest

import gradtoken
from gradtoken.draw.words import number
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
    lines = html.unescape(re.search(r"<code>(.*)</code>", answer.code, re.S)[1])
    exec(lines.replace("maps.save('", f"maps.save('{tmp_path}/"), {})
    file = passages.press_text(desk, visit, {"kind": "file", "value": "png"}, ["gradtoken"]).file
    assert file["name"] == "text-gradtoken.png"
    assert base64.b64decode(file["content"]) == (tmp_path / "text.png").read_bytes()


def test_a_long_text_is_read_whole_in_windows(desk, visit, tmp_path, monkeypatch):
    monkeypatch.setattr("gradtoken.explaining.load", lambda name: desk.shelf.get(name)[0])
    text = "The film was good , the plot is very dull . " * 4
    part = passages.read_text(desk, visit, text, "tiny", ["gradtoken"])
    assert "tokens were read" in part.message
    assert "windows" not in part.code
    whole = passages.read_text(desk, visit, text, "tiny", ["gradtoken"], True)
    assert "windows that share 5 tokens" in whole.message
    assert "windows=5" in whole.code
    expected = gradtoken.explain(text, desk.shelf.get("tiny")[0], windows=5)
    assert visit.text_classes == (expected.target,)
    np.testing.assert_allclose(
        visit.passage.cells["gradtoken", expected.target].explanation.relevance, expected.relevance
    )
    assert "read at once" in passages.erase_text(desk, visit).message
    short = passages.read_text(desk, visit, TEXT, "tiny", ["gradtoken"], True)
    assert "windows" not in short.code


def test_variants_of_words_agree_with_the_map(desk, visit):
    passages.read_text(desk, visit, TEXT, "tiny", ["legrad"])
    answer = passages.vary_text(desk, visit)
    assert answer.message == ""
    model, words = desk.shelf.get("tiny")[0], len(TEXT.split())
    one = gradtoken.explain(TEXT, model, visit.text_classes[0])
    figures = re.findall(r"<figure.*?</figure>", answer.variants, re.S)
    assert len(figures) == 2 + len(model.net.bert.encoder.layer) + 5
    told = [re.findall(r'title="[^"]*: ([^" ]*)', figure) for figure in figures]
    assert {len(values) for values in told} == {words}
    published = [number(float(value)) for value in one.relevance]
    assert told[2] == published, "depth 1"
    assert told[-1] == published, "average_matmul"
    assert told[0] != told[1], "heads differ"


def test_words_are_erased_in_the_order_of_the_map(desk, visit):
    passages.read_text(desk, visit, TEXT, "tiny", METHODS)
    answer = passages.erase_text(desk, visit)
    assert answer.message == ""
    assert answer.erasing.count("<polyline") == 5
    assert "while words are erased" in answer.erasing
    steps = json.loads(html.unescape(re.search(r'data-erase="([^"]*)"', answer.erasing)[1]))
    one = gradtoken.explain(TEXT, desk.shelf.get("tiny")[0], visit.text_classes[0])
    assert np.argmin(steps["order"]) == one.relevance.argmax()
    assert steps["probability"][0] == pytest.approx(one.probability, abs=1e-4)
    assert re.findall(r'data-word="(\d+)"', answer.erasing) == [str(i) for i in range(len(TEXT.split()))]
    again = passages.press_text(desk, visit, {"kind": "class", "value": str(visit.text_classes[0])}, METHODS)
    assert again.erasing is None, "the same words and methods"
    assert passages.redraw_text(desk, visit, ["legrad"]).erasing == "", "curves of other methods do not stay"


def test_a_long_text_is_named_by_its_file(desk, visit):
    answer = passages.read_text(desk, visit, "good film " * 40, "tiny", ["gradtoken"])
    assert "open(&#x27;text.txt&#x27;).read()" in answer.code
    assert "tokens were read" in answer.message
