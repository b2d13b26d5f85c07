"""Saved explanations that are damaged, or say what no explanation says."""

import io
import json
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gradtoken.batch import report
from gradtoken.draw.html import page
from gradtoken.result import Explanation
from gradtoken.words import Words
from tests.asking import ask, examples
from tests.fuzz.damage import DEEP, altered, damaged, written
from tests.fuzz.outcomes import expected_right, tried
from tests.fuzz.test_weights import Code

ONE = Explanation(
    relevance=np.arange(6, dtype=np.float32).reshape(2, 3),
    picture=Image.new("RGB", (30, 20)),
    box=(0.0, 0.0, 30.0, 20.0),
    target=3,
    name="tabby",
    logit=4.5,
    probability=0.75,
    predicted=(("tabby", 0.75), ("tiger", 0.25)),
    model="bundled",
    method="gradtoken",
    options={"depth": 2},
    preprocessing={"size": [2, 3]},
)
TEXT = Explanation(
    relevance=np.array([1.0, 2.0], dtype=np.float32),
    picture=None,
    box=None,
    target=1,
    name="good",
    logit=1.0,
    words=Words("a film", ((0, 1), (2, 6)), ("a", "film"), "max", (0, 6), ()),
)


def saved(one: Explanation, suffix: str, folder: Path) -> bytes:
    return one.save(folder / f"one{suffix}").read_bytes()


def loaded(path: Path, content: bytes) -> Explanation | None:
    """What is read of a file with this content; it can be drawn and saved again as it is."""
    path.write_bytes(content)
    found = tried("saved explanations", lambda: Explanation.load(path))
    if found is not None:
        with expected_right("saved explanations"):
            assert np.isfinite(found.relevance).all()
            assert Explanation.load(found.save(path.with_name(f"again{path.suffix}"))).to_dict() == found.to_dict()
            assert "<script>alert(1)" not in page([found])
    return found


@examples(40, 1500)
@pytest.mark.parametrize("suffix", [".json", ".npz"])
def test_damaged(suffix, count, tmp_path):
    def opened(content: bytes) -> None:
        loaded(tmp_path / f"damaged{suffix}", content)

    ask(count, opened, damaged(saved(ONE, suffix, tmp_path)))


@examples(80, 2000)
@pytest.mark.parametrize("one", [ONE, TEXT], ids=["picture", "text"])
def test_another_document(one, count, tmp_path):
    def opened(document: object) -> None:
        loaded(tmp_path / "other.json", written(document))

    ask(count, opened, altered(json.loads(saved(one, ".json", tmp_path))))


def archive(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        return {name.removesuffix(".npy"): file.read(name) for name in file.namelist()}


@examples(60, 1500)
@pytest.mark.parametrize("name", ["facts", "relevance_0"])
def test_a_damaged_array_in_a_whole_archive(name, count, tmp_path):
    parts = members(saved(ONE, ".npz", tmp_path))

    def opened(content: bytes) -> None:
        loaded(tmp_path / "array.npz", archive(**parts | {name: content}))

    ask(count, opened, damaged(parts[name]))


@pytest.mark.parametrize("content", [DEEP, b'{"schema": 1, "explanations": ' + DEEP + b"}", b"", b"null", b"9" * 5000])
def test_documents_that_go_too_far(content, tmp_path):
    for name, document in (("deep.json", content), ("deep.npz", archive(facts=content))):
        assert loaded(tmp_path / name, document) is None


@pytest.mark.parametrize(
    "value",
    [[{}, 1], ["1", "2"], [True, 2], [[1], 2], [10**400, 1], [], {}, [None]],
    ids=lambda value: repr(value)[:20],
)
def test_values_that_are_no_numbers(value, tmp_path):
    document = json.loads(saved(TEXT, ".json", tmp_path))
    document["explanations"][0]["relevance"] = value
    assert loaded(tmp_path / "values.json", written(document)) is None


def test_a_number_that_no_float_holds(tmp_path):
    content = saved(ONE, ".json", tmp_path).replace(b"4.5", b"1e999")
    assert loaded(tmp_path / "vast.json", content) is None


def test_a_header_of_numpy_cannot_name_objects(tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, np.array([print], dtype=object), allow_pickle=True)
    parts = members(saved(ONE, ".npz", tmp_path))
    assert loaded(tmp_path / "objects.npz", archive(**parts | {"relevance_0": buffer.getvalue()})) is None


@pytest.mark.parametrize("told", [100, 2**30])
def test_archives_that_lie_about_their_size(told, tmp_path):
    """50 MB of zeros in 50 KB, said to be little, and little said to be a GiB."""
    parts = members(saved(ONE, ".npz", tmp_path))
    more = 50_000_000 if told == 100 else 100
    content = archive(**parts | {"relevance_0": parts["relevance_0"] + bytes(more)})
    size = (len(parts["relevance_0"]) + more).to_bytes(4, "little")
    assert content.count(size) == 2, "in the member's header and in the directory"
    assert loaded(tmp_path / "bomb.npz", content.replace(size, told.to_bytes(4, "little"))) is None


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_a_pickle_in_other_clothes(suffix, tmp_path):
    mark = tmp_path / "mark"
    assert loaded(tmp_path / f"dressed{suffix}", pickle.dumps(Code(mark))) is None
    assert not mark.exists()


def test_a_long_name_is_one_short_line_of_the_shell(capsys):
    report(replace(ONE, name="a\x1b[31m\n" + "b" * 100_000), Path("a.png"))
    said = capsys.readouterr().out
    assert "logit 4.500" in said
    assert len(said) < 500
    assert "\x1b" not in said
