"""Explanations as files: round trips, formats, refusals, and what is never written or executed."""

import json
import os
import xml.dom.minidom
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from gradtoken.errors import BadRelevance, GradTokenError, UnknownName
from gradtoken.result import Explanation, Explanations

HOSTILE = '<script>alert("x")</script>&\n$\\alpha$'


def example(name: str = "cat", **changes) -> Explanation:
    values = np.random.default_rng(0).random((3, 5), dtype=np.float32)
    facts = {
        "relevance": values,
        "picture": Image.new("RGB", (50, 30), (90, 120, 30)),
        "box": (0.0, 0.0, 50.0, 30.0),
        "target": 4,
        "name": name,
        "logit": 3.25,
        "probability": 0.75,
        "predicted": (("cat", 0.75), ("dog", 0.2)),
        "model": "bundled",
        "method": "gradtoken",
        "options": {"depth": 2},
        "versions": {"torch": "2"},
        "preprocessing": {"size": [224, 224]},
        "source": "a.jpg",
        "note": "small",
    }
    return Explanation(**{**facts, **changes})


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_round_trip_is_exact(tmp_path, suffix):
    one = example()
    one.save(tmp_path / f"one{suffix}")
    again = Explanation.load(tmp_path / f"one{suffix}")
    np.testing.assert_array_equal(again.relevance, one.relevance)
    assert again.relevance.dtype == np.float32
    assert again.picture is None
    for name in ("box", "target", "name", "logit", "probability", "predicted", "options", "source", "note"):
        assert getattr(again, name) == getattr(one, name)
    both = Explanations((one, example("dog", target=None, probability=None)))
    both.save(tmp_path / f"both{suffix}")
    assert [e.name for e in Explanations.load(tmp_path / f"both{suffix}")] == ["cat", "dog"]
    with pytest.raises(GradTokenError, match=r"holds 2 explanations; use Explanations\.load"):
        Explanation.load(tmp_path / f"both{suffix}")


def test_pictures_and_arrays(tmp_path):
    one = example()
    for suffix in ("png", "svg", "pdf", "html", "npy"):
        assert one.save(tmp_path / f"one.{suffix}", colours="jet", interpolation="nearest").stat().st_size > 100
    np.testing.assert_array_equal(np.load(tmp_path / "one.npy"), one.relevance)
    with Image.open(tmp_path / "one.png") as drawn:
        assert drawn.width > 800
    text = (tmp_path / "one.svg").read_text()
    xml.dom.minidom.parseString(text)
    assert "cat" in text, "text stays text"
    assert (tmp_path / "one.pdf").read_bytes().startswith(b"%PDF")
    assert one.overlay().size == (50, 30)
    assert one._repr_png_().startswith(b"\x89PNG")


def test_files_are_reproducible(tmp_path):
    for suffix in ("png", "svg", "npz", "json", "html"):
        first, second = (example().save(tmp_path / f"{i}.{suffix}").read_bytes() for i in (1, 2))
        assert first == second or suffix == "svg"  # svg holds generated ids


def test_several_share_a_scale_only_on_request(tmp_path):
    low, high = example(), example("dog", relevance=example().relevance * 9)
    figures = [Explanations((low, high)).figure(shared_scale=shared) for shared in (False, True)]
    ends = [[tuple(np.round(ax.get_ylim(), 3)) for ax in figure.axes[3:]] for figure in figures]
    assert ends[0][0] != ends[0][1]
    assert ends[1][0] == ends[1][1]


def test_hostile_names_are_text(tmp_path):
    one = example(HOSTILE, source=HOSTILE, model=HOSTILE, note=HOSTILE, predicted=((HOSTILE, 1.0),))
    page = one.save(tmp_path / "one.html").read_text()
    scripts = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag, attrs):
            scripts.append((tag, attrs)) if tag == "script" else None
            assert not any(value and value.startswith("http") for _, value in attrs), "no outside references"

    Parser().feed(page)
    assert scripts == [("script", [])], "the page's own script only"
    xml.dom.minidom.parseString(one.save(tmp_path / "one.svg").read_text())
    one.save(tmp_path / "one.png")


def test_unknown_formats_and_styles(tmp_path):
    with pytest.raises(UnknownName, match=r"no file format '.tiff'; known: .png, .svg"):
        example().save(tmp_path / "one.tiff")
    with pytest.raises(UnknownName, match="no style 'color'; did you mean 'colours'"):
        example().save(tmp_path / "one.png", color="jet")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "one.json"
    path.write_text("old")
    with pytest.raises(ValueError, match="JSON compliant"):
        example(logit=float("nan")).save(path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["one.json"]
    with pytest.raises(GradTokenError, match=r"cannot write .*No such file or directory; is the folder there"):
        example().save(tmp_path / "nowhere" / "one.npy")
    (tmp_path / "folder.npy").mkdir()
    with pytest.raises(GradTokenError, match="Is a directory"):
        example().save(tmp_path / "folder.npy")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b"{", "is no saved explanation"),
        ("a.json", b"[]", "is no saved explanation"),
        ("a.json", b'{"schema": 1, "explanations": [{"name": "x"}]}', r"is no saved explanation \('relevance'\)"),
        ("a.json", b'{"schema": 99, "explanations": []}', "has schema 99; this version reads up to 1"),
        ("a.npz", b"PK\x03\x04 nonsense", "is no saved explanation"),
        ("a.npz", b"", "is no saved explanation"),
    ],
)
def test_damaged_files_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(GradTokenError, match=message):
        Explanations.load(tmp_path / name)


def test_nothing_in_a_file_is_executed(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "executed"),))

    np.savez(tmp_path / "a.npz", facts=np.array([Bomb()], dtype=object), allow_pickle=True)
    with pytest.raises(GradTokenError, match="is no saved explanation"):
        Explanation.load(tmp_path / "a.npz")
    assert not (tmp_path / "executed").exists()


def test_not_finite_is_no_explanation():
    with pytest.raises(BadRelevance, match="finite relevance"):
        example(relevance=np.full((2, 2), np.nan, np.float32))


def test_json_is_plain(tmp_path):
    content = json.loads(example().save(tmp_path / "one.json").read_text())
    assert content["schema"] == 1
    assert content["explanations"][0]["relevance"][0][0] == pytest.approx(float(example().relevance[0, 0]))
    assert repr(example()) == "<Explanation of 'cat', probability 0.750: gradtoken of bundled, 3 x 5>"
