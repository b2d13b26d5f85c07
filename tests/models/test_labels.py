import json
from pathlib import Path

import numpy as np
import pytest

from gradtoken.errors import BadModel, BadTarget, UnknownName
from gradtoken.models.labels import Labels, find_class

NAMES = (
    *("tabby, tabby cat", "tiger cat", "Persian cat", "African elephant, Loxodonta africana", "Indian elephant"),
    *("crane", "crane", "hot_dog", "7", "Étagère"),
)
SYNSETS = tuple(f"n0000000{i}" for i in range(10))
REAL = Path(__file__).parents[2].parent / "shared/data/deit_tiny/synset_words.txt"


@pytest.fixture
def labels() -> Labels:
    return Labels(NAMES, SYNSETS)


@pytest.mark.parametrize(
    ("target", "index"),
    [
        (3, 3),
        (np.int64(3), 3),
        ("tabby, tabby cat", 0),
        ("tabby", 0),
        ("Tabby  Cat", 0),
        ("TIGER CAT", 1),
        ("loxodonta africana", 3),
        ("hot dog", 7),
        ("Hot_Dog", 7),
        ("n00000004", 4),
        ("3", 3),
        (" 9 ", 9),
        ("7", 8),  # a class with this very name wins over the index
        ("ÉTAGÈRE", 9),
    ],
)
def test_find(labels, target, index):
    found = labels.find(target)
    assert found == index
    assert type(found) is int


@pytest.mark.parametrize("target", [10, -1, "10", "-1", np.int64(99)])
def test_index_out_of_range(labels, target):
    with pytest.raises(BadTarget, match=r"class index -?\d+ is out of range; this model has 10 classes, 0 to 9"):
        labels.find(target)


@pytest.mark.parametrize("target", [1.0, True, None, [1]])
def test_what_is_no_class(labels, target):
    with pytest.raises(BadTarget, match=r"expected a class index or a class name, got"):
        labels.find(target)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("crane", r"'crane' names 2 classes: 'crane' \(5\), 'crane' \(6\); give the index"),
        ("elephant", r"did you mean 'African elephant, .*' \(3\), 'Indian elephant' \(4\)\?"),
        ("cat", r"did you mean 'tabby, tabby cat' \(0\), 'tiger cat' \(1\), 'Persian cat' \(2\)\?"),
        ("dog", r"no class is named 'dog'; did you mean 'hot_dog' \(7\)\?"),  # never explained unasked
        ("elefant", "did you mean '(African|Indian) elephant|the 10 classes begin"),
        ("indian elefant", r"did you mean 'Indian elephant' \(4\)"),
        ("qqq", r"the 10 classes begin 'tabby, tabby cat' \(0\), "),
        ("", "the 10 classes begin"),
        ("(.*", "the 10 classes begin"),
        ("n99999999", "no class is named 'n99999999'"),
    ],
)
def test_unknown_or_ambiguous(labels, target, message):
    with pytest.raises(UnknownName, match=message):
        labels.find(target)


def test_behaves_as_a_sequence(labels):
    assert len(labels) == 10
    assert labels[1] == "tiger cat"
    assert list(labels) == list(NAMES)
    assert repr(labels) == "Labels(10 names: 'tabby, tabby cat', 'tiger cat', 'Persian cat', ...)"


def test_without_names_only_indices():
    assert find_class(None, 2, 5) == find_class(None, "2", 5) == 2
    with pytest.raises(
        UnknownName, match=r"names of this model's 5 classes are not known, so 'cat'.* index from 0 to 4"
    ):
        find_class(None, "cat", 5)
    with pytest.raises(BadTarget, match=r"class index 5 is out of range"):
        find_class(None, "5", 5)


def test_with_names(labels):
    assert find_class(labels, "tiger cat", 10) == 1


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("a.txt", "cat\n dog \nbird\n\n"),
        ("a.json", json.dumps(["cat", "dog", "bird"])),
        ("b.json", json.dumps({"1": "dog", "0": "cat", "2": "bird"})),
    ],
)
def test_names_from_files(tmp_path, file, content):
    (tmp_path / file).write_text(content)
    assert Labels.of(tmp_path / file) == Labels.of(str(tmp_path / file)) == Labels(("cat", "dog", "bird"))


def test_names_from_values():
    assert Labels.of(["a", "b"]) == Labels.of({0: "a", 1: "b"}) == Labels(("a", "b"))
    assert Labels.of(Labels(("a",))) == Labels(("a",))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([], "expected class names as text, at least one"),
        ([1, 2], r"expected class names as text, at least one, got \[1, 2\]"),
        ({0: "a", 2: "b"}, r"expected class names for 0 to 1, got the indices \[0, 2\]"),
        ({"x": "a"}, "expected class names as index -> name"),
        ("none.txt", "'none.txt' cannot be read: No such file"),
    ],
)
def test_names_that_cannot_be_used(source, message):
    with pytest.raises(BadModel, match=message):
        Labels.of(source)


@pytest.mark.parametrize(
    ("content", "message"), [(b"{", "not UTF-8 text or JSON"), (b"3", "expected a list or an object")]
)
def test_damaged_files(tmp_path, content, message):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(BadModel, match=message):
        Labels.of(tmp_path / "x.json")


@pytest.mark.skipif(not REAL.exists(), reason="the list of ImageNet classes is not beside this checkout")
def test_the_real_imagenet_list():
    labels = Labels.of(REAL)
    assert len(labels) == len(labels.synsets) == 1000
    assert labels.find("tabby") == labels.find("n02123045") == labels.find("281") == 281
    assert labels.find("zebra") == 340
    with pytest.raises(UnknownName, match=r"did you mean .*elephant"):
        labels.find("elephant")


def test_timm_names_every_imagenet_class_by_its_synset():
    timm = pytest.importorskip("timm")
    info = timm.data.ImageNetInfo("imagenet-1k")
    labels = Labels(tuple(info.label_descriptions()), tuple(info.label_names()))
    assert [labels.find(synset) for synset in labels.synsets] == list(range(1000))
    assert labels.find("tabby") == 281
