"""Reviews with the words that are the reason."""

import json

import pytest

from gradtoken.data import check, open_data
from gradtoken.errors import BadData, BadSample
from tests.data import make


def test_reviews(tmp_path):
    data = open_data(make.movies(tmp_path))
    assert (data.name, data.classes, list(data.ids)) == (
        "movies/test",
        ("NEG", "POS"),
        ["negR_900.txt", "posR_900.txt"],
    )
    first, second = data
    assert first.input == "a dull , long film . it n't ends"
    assert first.input.split(" ") == list(first.truth.words)
    assert first.truth.marked.nonzero()[0].tolist() == [1, 2, 3], "spans end before their last number and may overlap"
    assert (first.labels, second.labels) == ((0,), (1,))
    assert [problem.reason for problem in check(data)] == ["no word is marked as the reason"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"classification": "BAD"}, "the classification is 'BAD'"),
        ({"evidences": None}, "the evidences are not lists"),
        ({"evidences": [[{"docid": "negR_900.txt"}]]}, "the evidences are not lists .*KeyError"),
        ({"evidences": [[make.span("negR_900.txt", 3, 10)]]}, "from word 3 to 10 does not lie in the 9 words"),
        ({"evidences": [[make.span("negR_900.txt", 3, 2)]]}, "from word 3 to 2"),
        ({"evidences": [[make.span("negR_900.txt", -1, 2)]]}, "from word -1 to 2"),
        ({"evidences": [[make.span("negR_900.txt", 0.0, 2)]]}, "from word 0.0 to 2"),
        ({"evidences": [[make.span("posR_900.txt", 0, 2)]]}, "evidence lies in another document, 'posR_900.txt'"),
    ],
)
def test_broken_reviews(tmp_path, change, reason):
    file = make.movies(tmp_path) / "test.jsonl"
    first, second = file.read_text().splitlines()
    make.text(file, json.dumps(json.loads(first) | change) + "\n\n" + second)
    data = open_data(tmp_path)
    with pytest.raises(BadSample, match=f"negR_900.txt: .*{reason}"):
        data[0]
    assert data[1].labels == (1,)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "cannot be read: No such file"), (b"", "has no words"), (b"caf\xe9", "is not UTF-8 text")],
)
def test_broken_documents(tmp_path, content, reason):
    path = make.movies(tmp_path) / "docs" / "posR_900.txt"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadSample, match=f"posR_900.txt: .*{reason}"):
        open_data(tmp_path)[1]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("{", "line 1 of .* is not JSON"),
        ("[1]", "line 1 of .* has no annotation_id"),
        ('{"annotation_id": 7}', "has no annotation_id"),
        ("", "is empty"),
        ('{"annotation_id": "a"}\n' * 2, "'a' is there 2 times"),
    ],
)
def test_broken_indices(tmp_path, lines, reason):
    make.text(make.movies(tmp_path) / "test.jsonl", lines)
    with pytest.raises(BadData, match=reason):
        open_data(tmp_path)


def test_missing_parts(tmp_path):
    make.movies(tmp_path)
    with pytest.raises(BadData, match=r"train\.jsonl' cannot be read"):
        open_data(tmp_path, split="train")
    with pytest.raises(BadData, match="expected split train, val or test, got 'dev'"):
        open_data(tmp_path, split="dev")


def test_a_document_that_cannot_be_a_file(tmp_path):
    make.text(make.movies(tmp_path) / "test.jsonl", json.dumps({"annotation_id": "a\0b", "classification": "NEG"}))
    with pytest.raises(BadSample, match="cannot be read: embedded null"):
        open_data(tmp_path)[0]
