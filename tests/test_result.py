"""Explanations as files: round trips, formats, refusals, and what is never written or executed."""

import io
import json
import os
import xml.dom.minidom
import zipfile
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
    for suffix in ("png", "svg", "pdf", "npz", "json", "html"):
        first, second = (example().save(tmp_path / f"{i}.{suffix}").read_bytes() for i in (1, 2))
        assert first == second


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
    with pytest.raises(BadRelevance, match="every number must be finite"):
        example(logit=float("nan")).save(path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["one.json"]
    with pytest.raises(GradTokenError, match=r"there is no folder .*nowhere'; make it first"):
        example().save(tmp_path / "nowhere" / "one.npy")
    (tmp_path / "folder.npy").mkdir()
    with pytest.raises(GradTokenError, match="it is a folder"):
        example().save(tmp_path / "folder.npy")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b"{", "is not an explanation"),
        ("a.json", b"[]", "is not an explanation"),
        (
            "a.json",
            b'{"schema": 1, "explanations": [{"name": "x"}]}',
            "is not an explanation that was saved as .json: KeyError: 'relevance'",
        ),
        ("a.json", b'{"schema": 99, "explanations": []}', "has schema 99, this version reads 1; update gradtoken"),
        ("a.npz", b"PK\x03\x04 nonsense", "is not an explanation"),
        ("a.npz", b"", "is not an explanation"),
        ("a.json", b"[" * 200_000, "nested too deep"),
        ("a.json", b"\xff\xfe\x00", "UnicodeDecodeError"),
        ("a.json", b'{"schema": "1", "explanations": []}', "expected schema to be int, got str"),
        ("a.json", b'{"schema": 1, "explanations": []}', "it holds no explanations"),
        ("a.txt", b"", "expected a file saved as .npz or .json"),
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
    with pytest.raises(GradTokenError, match="is not an explanation"):
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


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("name", ["<b>"], "expected name to be str, got list"),
        ("logit", "high", r"expected logit to be int \| float, got str"),
        ("target", True, "expected target to be int, got bool"),
        ("box", [1, 2], "expected box x0, y0, x1, y1"),
        ("box", [0, 0, 0, 5], "expected box x0, y0, x1, y1"),
        ("predicted", [["cat"]], "not enough values"),
        ("options", [], "expected options to be dict"),
        ("class_aware", "no", "expected class_aware to be bool, got str"),
        ("relevance", [[float("nan")]], "NaN is not a number that is saved"),
        ("relevance", [[1e300]], "expected finite relevance"),
        ("relevance", [[1], [1, 2]], "is not an explanation"),
        ("relevance", [], "expected finite relevance"),
    ],
)
def test_damaged_parts_are_refused(tmp_path, field, value, message):
    content = json.loads(example().save(tmp_path / "one.json").read_text())
    content["explanations"][0][field] = value
    (tmp_path / "one.json").write_text(json.dumps(content))
    with pytest.raises(GradTokenError, match=message):
        Explanation.load(tmp_path / "one.json")


def npz(path, relevance: bytes) -> None:
    """A saved explanation with these bytes as its map."""
    saved = example().save(path.with_name("good.npz"))
    with zipfile.ZipFile(saved) as good, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bad:
        bad.writestr("facts.npy", good.read("facts.npy"))
        bad.writestr("relevance_0.npy", relevance)


def header(*shape: int) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return file.getvalue()


def test_sizes_are_checked_before_memory_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr("gradtoken.stored.LARGEST", 2**22)
    npz(tmp_path / "a.npz", header(10**6, 10**6))
    with pytest.raises(GradTokenError, match=r"expected an array of type <f4"):
        Explanation.load(tmp_path / "a.npz")
    npz(tmp_path / "a.npz", header(10**3, 1250) + bytes(5 * 10**6))
    with pytest.raises(GradTokenError, match="unpacks to more than 4 MiB"):
        Explanation.load(tmp_path / "a.npz")


def test_values_survive_exactly_whatever_their_layout(tmp_path):
    values = np.asfortranarray(np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32) * 1e-30)
    for suffix in ("json", "npz", "npy"):
        path = example(relevance=values).save(tmp_path / f"one.{suffix}")
        again = np.load(path) if suffix == "npy" else Explanation.load(path).relevance
        np.testing.assert_array_equal(again, values)


def test_relevance_cannot_be_changed_afterwards():
    values = np.ones((2, 2), np.float32)
    one = example(relevance=values)
    values[0, 0] = 7
    assert one.relevance[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        one.relevance[0, 0] = 7


def test_options_of_any_kind_are_written(tmp_path):
    options = {"f": len, "n": np.float32(0.5), "t": (1, 2), "a": np.arange(2)}
    again = Explanation.load(example(options=options).save(tmp_path / "one.json"))
    assert again.options == {"f": "len", "n": 0.5, "t": [1, 2], "a": [0, 1]}
    assert example(options=options).to_dict()["options"] == again.options


def test_maps_of_pixels_are_saved_and_drawn_as_others(tmp_path):
    pixels = np.random.default_rng(0).normal(size=(70, 90)).astype(np.float32)
    one = example(relevance=pixels, box=(5.0, -2.0, 45.0, 32.0), class_aware=False)
    for suffix in (".npz", ".json"):
        again = Explanation.load(one.save(tmp_path / f"a{suffix}"), picture=one.picture)
        np.testing.assert_array_equal(again.relevance, pixels)
        assert again.class_aware is False
        assert again.overlay().tobytes() == one.overlay().tobytes()
    for suffix in ("png", "html", "npy"):
        assert one.save(tmp_path / f"a.{suffix}", threshold=0.5).stat().st_size > 100
    np.testing.assert_allclose(one.heat((7, 9), normalise=False), pixels.reshape(7, 10, 9, 10).mean((1, 3)), atol=1e-5)


def test_older_files_do_not_say_whether_a_method_knows_classes(tmp_path):
    content = json.loads(example().save(tmp_path / "one.json").read_text())
    del content["explanations"][0]["class_aware"]
    (tmp_path / "one.json").write_text(json.dumps(content))
    assert Explanation.load(tmp_path / "one.json").class_aware


def test_grey_pictures_and_loaded_ones_are_drawn(tmp_path):
    one = example(picture=Image.new("L", (50, 30), 99))
    assert one.picture.mode == "RGB"
    loaded = Explanation.load(one.save(tmp_path / "one.npz"), picture=one.picture)
    assert loaded.save(tmp_path / "a.png").read_bytes() == one.save(tmp_path / "b.png").read_bytes()
    with pytest.raises(BadRelevance, match="holds no picture"):
        example(picture=None).overlay()


def test_heat_is_linear():
    one = example(relevance=np.array([[1.0, 3.0]]))
    np.testing.assert_allclose(one.heat(), [[0, 1]])
    np.testing.assert_allclose(one.heat(size=(1, 4)), [[0, 0.25, 0.75, 1]])
    np.testing.assert_allclose(one.heat(size=(1, 4), normalise=False), [[1, 1.5, 2.5, 3]])
    np.testing.assert_allclose(example(relevance=np.array([[-1.0, 0.0, 4.0]])).heat(), [[-0.25, 0, 1]], atol=1e-6)


def test_npy_needs_maps_of_one_shape(tmp_path):
    with pytest.raises(BadRelevance, match=r"one shape, got .*save as .npz"):
        Explanations((example(), example(relevance=np.ones((2, 2))))).save(tmp_path / "a.npy")
    assert not os.listdir(tmp_path)


def test_new_files_have_usual_permissions_and_links_stay(tmp_path):
    (tmp_path / "plain").touch()
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    example().save(tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "real.json").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_sequences(tmp_path):
    both = Explanations([example(), example("dog")])
    assert both[1].name == "dog"
    assert [one.name for one in both[::-1]] == ["dog", "cat"]
    assert isinstance(both[:1], Explanations)
    assert np.load(both.save(tmp_path / "a.npy")).shape == (2, 3, 5)
    assert repr(both) == "<2 explanations: 'cat' gradtoken, 'dog' gradtoken>"
    assert both._repr_html_().count("<figure") == 2
