"""Saved explanations against the published schema, and files of earlier versions."""

import json
from pathlib import Path

import numpy as np
import pytest

from gradtoken.axes import Axes
from gradtoken.errors import GradTokenError
from gradtoken.files import FIELDS, SCHEMA
from gradtoken.result import Explanation, Explanations
from gradtoken.stored import schema
from gradtoken.words import Piece, Words
from tests.test_result import example

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
FILES = Path(__file__).with_name("files")
TEXT = Words("a dull plot", ((0, 1), (2, 6), (7, 11)), ("a", "dull", "plot"), "max", (0, 11), (Piece(1, 2, 6, -0.5),))


def words() -> Explanation:
    return example(relevance=np.array([0.25, -0.5, 0.125], np.float32), words=TEXT, box=None, picture=None)


def sound() -> Explanation:
    return example(axes=Axes((0.0075, 1.5), (4000.0, 900.5, 20.0), 0.25))


def check(document) -> None:
    jsonschema.validate(document, schema(), jsonschema.Draft202012Validator)


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(schema())
    assert schema()["properties"]["schema"]["maximum"] == SCHEMA
    one = schema()["$defs"]["explanation"]
    assert set(one["properties"]) == {*FIELDS, "relevance", "words", "axes"}
    assert set(one["required"]) <= set(FIELDS)


@pytest.mark.parametrize("one", [example(), example(target=None, probability=None, box=None), words(), sound()])
def test_what_is_saved_fits_it(tmp_path, one):
    document = json.loads(one.save(tmp_path / "one.json").read_text())
    check(document)
    saved = np.load(one.save(tmp_path / "one.npz"))
    facts = json.loads(saved["facts"].tobytes())
    check(facts)
    assert {"relevance", *facts["explanations"][0]} == set(document["explanations"][0])


BAD = [
    ("name", ["<b>"]),
    ("logit", "high"),
    ("target", True),
    ("target", 1.5),
    ("box", [1, 2]),
    ("predicted", [["cat"]]),
    ("options", []),
    ("class_aware", "no"),
    ("probability", "1"),
    ("versions", None),
    ("relevance", []),
]


@pytest.mark.parametrize(("field", "value"), BAD)
def test_what_it_refuses_is_refused(tmp_path, field, value):
    document = json.loads(example().save(tmp_path / "one.json").read_text())
    document["explanations"][0][field] = value
    with pytest.raises(jsonschema.ValidationError):
        check(document)
    (tmp_path / "one.json").write_text(json.dumps(document))
    with pytest.raises(GradTokenError, match=r"is not an explanation|expected finite relevance|expected box"):
        Explanation.load(tmp_path / "one.json")


@pytest.mark.parametrize("field", FIELDS)
def test_what_is_required_is_required(tmp_path, field):
    document = json.loads(example().save(tmp_path / "one.json").read_text())
    del document["explanations"][0][field]
    (tmp_path / "one.json").write_text(json.dumps(document))
    if field in schema()["$defs"]["explanation"]["required"]:
        with pytest.raises(jsonschema.ValidationError, match=f"'{field}' is a required property"):
            check(document)
        with pytest.raises(GradTokenError, match=f"{field} missing"):
            Explanation.load(tmp_path / "one.json")
    else:
        check(document)
        assert Explanation.load(tmp_path / "one.json").name == "cat"


@pytest.mark.parametrize("version", [0, SCHEMA + 1, -1, 10**9])
def test_versions_that_are_not_known_are_refused(tmp_path, version):
    document = json.loads(example().save(tmp_path / "one.json").read_text()) | {"schema": version}
    (tmp_path / "one.json").write_text(json.dumps(document))
    with pytest.raises(jsonschema.ValidationError):
        check(document)
    with pytest.raises(GradTokenError, match=f"has schema {version}, this version reads 1; update gradtoken"):
        Explanations.load(tmp_path / "one.json")


@pytest.mark.parametrize("path", sorted(FILES.glob("explanations-*")), ids=lambda path: path.name)
def test_files_of_earlier_versions_are_read(path):
    """Each has a map of a picture for a class, one for a callable, and one of a text."""
    of_class, of_score, of_text = Explanations.load(path)
    rows = np.arange(6, dtype=np.float32).reshape(2, 3) / 8 - 0.25
    np.testing.assert_array_equal(of_class.relevance, rows)
    assert (of_class.name, of_class.target, of_class.logit, of_class.probability) == ("cat, house cat", 4, 3.25, 0.75)
    assert of_class.predicted == (("cat, house cat", 0.75), ("dog", 0.125))
    assert of_class.box == (0.0, 0.0, 50.0, 30.0)
    assert of_class.options == {"depth": 2}
    assert (of_score.target, of_score.probability, of_score.class_aware) == (None, None, False)
    assert of_text.words.names == ("a", "dull", "plot")
    assert of_text.words.pieces == (Piece(1, 2, 6, -0.5),)
    np.testing.assert_array_equal(of_text.relevance, np.array([0.25, -0.5, 0.125], np.float32))


def test_there_are_files_of_every_version():
    names = {path.name for path in FILES.glob("explanations-*")}
    assert {f"explanations-{v}.{kind}" for v in range(1, SCHEMA + 1) for kind in ("json", "npz")} <= names
