"""What visitors do, without a browser: from controls to the parts of the page."""

import html
import io
import json
import re
import threading
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import gradtoken
from gradtoken.models.bundled import FOLDER
from gradtoken.models.labels import Labels
from gradtoken.web import actions
from gradtoken.web.settings import Settings
from gradtoken.web.subjects import subject_of
from gradtoken.web.visits import Desk, Upload
from tests import towers

USUAL = (["gradtoken"], 0.6, 0, "automatic", "bilinear", False, True)
CAT, GIRAFFE = 4, 7


def controls(*methods):
    return ([*methods], *USUAL[1:])


def maps_in(part):
    """The values that the page holds."""
    return [json.loads(html.unescape(found)) for found in re.findall(r'data-map="([^"]*)"', part)]


def png(size=(64, 48), mode="RGB"):
    buffer = io.BytesIO()
    Image.effect_noise(size, 80).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


def press(desk, visit, kind, value, values=USUAL, model="bundled"):
    return actions.press(desk, visit, {"kind": kind, "value": value}, model, *values)


@pytest.fixture
def started(desk, visit):
    answer = actions.start(desk, visit, "bundled", *USUAL)
    assert answer.message == ""
    return visit


def test_a_page_starts_with_the_first_sample(desk, visit):
    answer = actions.start(desk, visit, "bundled", *USUAL)
    (found,) = maps_in(answer.maps)
    expected = gradtoken.explain(FOLDER / "pictures" / "cat_and_giraffe.jpg", target="cat").relevance
    np.testing.assert_allclose(found["values"], expected, rtol=1e-3)
    assert "99.7 %" in answer.classes
    assert "cat_and_giraffe.jpg" in answer.picture


def test_a_class_is_explained_and_another_put_beside_it(desk, started):
    labels = started.subject.names
    cat, giraffe = labels.index("cat"), labels.index("giraffe")
    alone = press(desk, started, "class", str(giraffe))
    assert len(maps_in(alone.maps)) == 1
    assert started.classes == (giraffe,)
    both = press(desk, started, "beside", str(cat))
    assert started.classes == (giraffe, cat)
    assert len(maps_in(both.maps)) == 2
    assert "shared_scale=True" in both.code
    ends = re.findall(r"<span>([^<]*)</span><span>[^<]*</span><span>([^<]*)</span>", both.maps)
    assert len(ends) == 2
    assert ends[0] == ends[1], "one scale for both"
    apart = actions.redraw(desk, started, *USUAL[:-1], False)
    assert len(set(re.findall(r"<span>([^<]*)</span><span>[^<]*</span><span>([^<]*)</span>", apart.maps))) == 2
    press(desk, started, "beside", str(cat))
    assert started.classes == (giraffe,)


def test_a_class_that_was_seen_costs_no_pass(desk, started, monkeypatch):
    press(desk, started, "class", "0")
    monkeypatch.setattr(desk.recordings, "of", lambda *_: pytest.fail("ran the model again"))
    index = started.subject.predicted
    assert press(desk, started, "class", str(index)).maps
    assert press(desk, started, "class", "0").maps
    assert actions.redraw(desk, started, ["gradtoken"], 0.3, 0.5, "viridis", "nearest", True, True).maps


def test_another_method_reuses_the_pass(desk, started, monkeypatch):
    made = []
    monkeypatch.setattr("gradtoken.web.subjects.Case.of", lambda *_: made.append(1))
    answer = actions.redraw(desk, started, *controls("gradtoken", "legrad", "raw_attention"))
    assert not made
    assert len(maps_in(answer.maps)) == 3
    assert "same for every class" in answer.maps


def test_a_method_that_finds_nothing_says_so_beside_the_others(desk, started, monkeypatch):
    from gradtoken.comparison import Cell

    index = started.subject.predicted
    started.subject.cells["legrad", "legrad", index] = Cell(None, "no <b>reason</b>")
    answer = actions.redraw(desk, started, *controls("gradtoken", "legrad"))
    assert "no &lt;b&gt;reason&lt;/b&gt;" in answer.maps
    assert len(maps_in(answer.maps)) == 1
    assert "legrad" not in answer.code
    alone = actions.redraw(desk, started, *controls("legrad"))
    assert "no &lt;b&gt;reason&lt;/b&gt;" in alone.maps
    assert alone.code == ""
    assert "no map" in press(desk, started, "file", "png", controls("legrad")).message
    assert "no map" in actions.erase(desk, started).message


def test_classes_are_searched(desk, started):
    assert re.findall(r'gt-name">(\w+)', actions.search(desk, started, "PH").classes) == ["elephant"]
    assert "no class holds" in actions.search(desk, started, "<b>zebra").classes
    assert "<b>" not in actions.search(desk, started, "<b>zebra").classes
    everything = re.findall(r'gt-name">(\w+)', actions.search(desk, started, "  ").classes)
    assert everything[0] == "cat"
    assert len(everything) == 6


def test_enter_explains_the_first_class_that_is_found(desk, started):
    answer = actions.ask(desk, started, "gir", *USUAL)
    assert started.classes == (GIRAFFE,)
    assert len(maps_in(answer.maps)) == 1
    for nothing in ("", "zebra", None):
        assert actions.ask(desk, started, nothing, *USUAL).maps is None
    assert started.classes == (GIRAFFE,)


def test_captions_are_the_classes_of_clip(visit, tmp_path):
    desk, clip = Desk(Settings()), str(towers.saved(towers.clip(), tmp_path))
    first = press(desk, visit, "sample", "cat.jpg", model=clip)
    assert "softmax over the 6 captions" in first.message
    assert visit.subject.names[1] == "a photo of a cat"
    caption = "<b>a dog</b>"
    answer = actions.ask(desk, visit, f"  {caption} ", *USUAL)
    assert visit.subject.names[visit.classes[0]] == caption
    assert "<b>a dog" not in answer.classes + answer.maps
    assert "target=&#x27;&lt;b&gt;a dog&lt;/b&gt;&#x27;" in answer.code
    expected = gradtoken.explain(FOLDER / "pictures" / "cat.jpg", clip, caption)
    found = [one["values"] for one in maps_in(answer.maps)]
    np.testing.assert_allclose(found[0], expected.relevance, rtol=2e-3, atol=1e-6)
    again = actions.ask(desk, visit, caption, *USUAL)
    assert again.picture is None, "nothing was read again"
    moved = press(desk, visit, "beside", "1")
    assert len(maps_in(moved.maps)) == 2


def test_variants_agree_with_the_map(desk, started):
    answer = actions.vary(desk, started)
    found = maps_in(answer.variants)
    subject = started.subject
    heads = len([key for key in subject.cells if key[1].startswith("head ")])
    depths = len([key for key in subject.cells if key[1].startswith("depth ")])
    assert len(found) == heads + depths + 5
    R = subject.cells["gradtoken", "gradtoken", subject.predicted].explanation.relevance
    M = np.array([one["values"] for one in found[:heads]])
    np.testing.assert_allclose(np.maximum(M, 0).mean(axis=0), R, atol=2e-3 * R.max())  # eq. 18 of the paper
    np.testing.assert_allclose(found[heads]["values"], R, rtol=1e-3)  # depth 1
    np.testing.assert_allclose(found[-1]["values"], R, rtol=1e-3)  # average_matmul


def test_erasing_shows_curves_and_the_order(desk, started):
    actions.redraw(desk, started, *controls("gradtoken", "raw_attention"))
    answer = actions.erase(desk, started)
    assert answer.erasing.count("<polyline") == 5
    steps = json.loads(html.unescape(re.search(r'data-erase="([^"]*)"', answer.erasing)[1]))
    subject = started.subject
    R = subject.cells["gradtoken", "gradtoken", subject.predicted].explanation.relevance
    assert np.argmin(steps["order"]) == R.argmax()
    assert steps["probability"][0] == pytest.approx(subject.probabilities.max(), abs=1e-3)
    assert actions.redraw(desk, started, *USUAL).erasing == "", "curves of other methods do not stay"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"hello", "text, not a picture"),
        (b"%PDF-1.7", "PDF"),
        (png()[:200], "damaged"),
        (png((3, 3))[:20], "damaged"),
        (bytes(range(256)) * 9, "damaged or not a picture"),
    ],
)
def test_a_bad_picture_is_a_message(desk, started, content, words):
    before = started.subject
    answer = press(desk, started, "upload", desk.uploads.add(Upload(content, "<img src=x onerror=alert(1)>.png")))
    assert words in answer.message
    assert 'role="alert"' in answer.message
    assert "<img" not in answer.message
    assert answer.maps is None
    assert started.subject is before


def test_pictures_of_too_many_pixels_are_refused_before_they_are_decoded(monkeypatch):
    desk = Desk(Settings(pixels=10_000))
    monkeypatch.setattr("gradtoken.web.subjects.decode", lambda *_: pytest.fail("was decoded"))
    visit = desk.visit("")[1]
    answer = press(desk, visit, "upload", desk.uploads.add(Upload(png((101, 100)), "a.png")))
    assert "megapixels that this page takes" in answer.message


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "LA", "RGBA", "I;16"])
def test_any_kind_of_picture_is_taken(desk, visit, mode):
    answer = press(desk, visit, "upload", desk.uploads.add(Upload(png(mode=mode), "a.png")))
    assert answer.message == ""
    assert "a.png" in answer.picture
    assert answer.maps


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("class", "11"),
        ("class", "-1"),
        ("class", None),
        ("class", True),
        ("class", "1e3"),
        ("class", {"a": 1}),
        ("beside", "999999999999999999999"),
        ("sample", "../facts.json"),
        ("sample", None),
        ("sample", "cat.jpg/"),
        ("upload", "never"),
        ("upload", ["x"]),
        ("file", "exe"),
        ("file", None),
        ("nothing", "x"),
        (None, None),
        (["class"], "1"),
    ],
)
def test_what_no_button_sends_is_a_message(desk, started, kind, value):
    answer = press(desk, started, kind, value)
    assert 'role="alert"' in answer.message
    assert answer.maps is None


def test_controls_that_cannot_be_are_a_message(desk, started):
    answer = actions.redraw(desk, started, ["<script>"], *USUAL[1:])
    assert "no method" in answer.message
    assert "<script>" not in answer.message
    assert "from 0 to 1" in actions.redraw(desk, started, *USUAL[:1], float("nan"), *USUAL[2:]).message


@pytest.mark.parametrize("model", ["no-such-model", "../../etc", "timm:nothing_at_all", "", None, "a" * 5000, "\0"])
def test_a_model_that_is_none_is_a_message(desk, started, model):
    answer = actions.choose_model(desk, started, model, *USUAL)
    assert 'role="alert"' in answer.message
    assert started.subject.model.name == "bundled"


def test_a_forgotten_visitor_is_told(desk, visit):
    for answer in (actions.vary(desk, visit), actions.redraw(desk, visit, *USUAL), actions.erase(desk, visit)):
        assert "forgotten" in answer.message


def erased(desk, visit):
    answer = actions.erase(desk, visit)
    return answer.erasing or answer.message


def test_hostile_labels_stay_text(desk, visit):
    model, lock = desk.shelf.get("bundled")
    bad = ['<img src=x onerror="alert(1)">', '"><script>alert(1)</script>', "\u202eright to left", "a\nb'c"]
    labels = Labels.of([*bad, *model.labels[4:]])
    picture = Image.open(io.BytesIO(png())).convert("RGB")
    visit.subject = subject_of(picture, "<script>\"'.png", replace(model, labels=labels), lock, desk.recordings)
    for index in range(4):
        answer = press(desk, visit, "class", str(index))
        parts = (answer.maps, answer.classes, answer.code, actions.vary(desk, visit).variants)
        parts += (erased(desk, visit) if index < 1 else "", actions.search(desk, visit, "").classes)
        for part in parts:
            assert "<script" not in part
            assert "<img src=x" not in part
            assert 'onerror="' not in part
            assert "\u202e" not in part


def test_what_is_downloaded_is_what_the_lines_make(desk, visit, tmp_path, monkeypatch):
    import base64

    monkeypatch.chdir(FOLDER / "pictures")
    values = (["gradtoken", "legrad"], 0.45, 0, "viridis", "nearest", True, True)
    actions.start(desk, visit, "bundled", *values)
    giraffe = visit.subject.names.index("giraffe")
    answer = press(desk, visit, "beside", str(giraffe), values)
    lines = html.unescape(re.search(r"<code>(.*)</code>", answer.code, re.S)[1])
    assert len(lines.splitlines()) == 3
    assert lines.splitlines()[-1].startswith("maps.save('cat_and_giraffe.png'")
    exec(lines.replace("maps.save('", f"maps.save('{tmp_path}/"), {})
    file = press(desk, visit, "file", "png", values).file
    assert base64.b64decode(file["content"]) == (tmp_path / "cat_and_giraffe.png").read_bytes()
    for kind, start in (("svg", b"<?xml"), ("npz", b"PK"), ("html", b"<!doctype")):
        file = press(desk, visit, "file", kind, values).file
        assert base64.b64decode(file["content"]).startswith(start)
        assert file["name"] == f"cat_and_giraffe-gradtoken.{kind}"


def test_visitors_at_the_same_time_see_their_own_pictures():
    desk = Desk(Settings())
    failures = []

    def look(number):
        visit = desk.visit("")[1]
        rng = np.random.default_rng(number)
        picture = Image.fromarray(rng.integers(0, 256, (40 + number, 60, 3), np.uint8))
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        expected = gradtoken.explain(picture, desk.shelf.get("bundled")[0], target=[0, 1], allow_blank=True)
        press(desk, visit, "upload", desk.uploads.add(Upload(buffer.getvalue(), f"{number}.png")))
        for index in (0, 1, 0, 1):
            answer = press(desk, visit, "class", str(index))
            found = [one["values"] for one in maps_in(answer.maps)] or 0  # a map that is zero is none
            if not np.allclose(found, expected[index].relevance, rtol=2e-3, atol=1e-6):
                failures.append((number, index, answer.message))

    threads = [threading.Thread(target=look, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
