"""Sentences with a sentiment."""

import pytest

from gradtoken.data import check, open_data
from gradtoken.errors import BadData
from tests.data import make


def test_sentences(tmp_path):
    data = open_data(make.sst2(tmp_path))
    assert (data.name, data.classes, list(data.ids)) == ("sst2/test", ("NEG", "POS"), ["1", "3"])
    assert [(one.input, one.labels, one.truth) for one in data] == [
        ("a dull , long film", (0,), None),
        ("great\tfun .", (1,), None),
    ]
    assert [problem for problem in check(data) if problem.kind == "error"] == []
    assert len(open_data(tmp_path, split="dev")) == 1


@pytest.mark.parametrize("line", ["a film", "a film\t2", "\t1", " \t1", "a film 1"])
def test_broken_lines(tmp_path, line):
    make.text(make.sst2(tmp_path) / "test.tsv", f"fine\t1\n{line}\n")
    with pytest.raises(BadData, match=r"line 2 of '.*test.tsv': expected a text, a tab and 0 or 1, got '"):
        open_data(tmp_path)


def test_what_is_missing_is_told(tmp_path):
    make.sst2(tmp_path)
    with pytest.raises(BadData, match=r"train.tsv' cannot be read: No such file"):
        open_data(tmp_path, split="train")
    with pytest.raises(BadData, match="expected split train, dev or test, got 'val'"):
        open_data(tmp_path, split="val")
    make.text(tmp_path / "test.tsv", "\n")
    with pytest.raises(BadData, match="sst2/test is empty"):
        open_data(tmp_path)
    with pytest.raises(BadData, match=r"the sentences, as train.tsv"):
        open_data(tmp_path / "test.tsv", "sst2")


def test_other_labels_are_another_data_set(tmp_path):
    first = open_data(make.sst2(tmp_path)).lists
    assert open_data(tmp_path).lists == first
    make.text(tmp_path / "test.tsv", (tmp_path / "test.tsv").read_text().replace("film\t0", "film\t1"))
    assert open_data(tmp_path).lists != first
