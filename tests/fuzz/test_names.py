"""Class names from files, and the class that a person asks for."""

import json
from pathlib import Path

import pytest
from hypothesis import strategies as st

from gradtoken.draw.words import printable
from gradtoken.models.labels import Labels, find_class
from tests.asking import ask, examples
from tests.fuzz.damage import DEEP, JSON, WORDS, altered, damaged, written
from tests.fuzz.outcomes import expected_right, tried

NAMES = ["tabby, tabby cat", "Egyptian_cat", "n01440764 tench", "été", "a\u2028b", "[bold]x[/bold]", "12"]
LABELS = Labels(tuple(NAMES[:4] * 2))


def read(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    found = tried("class names", lambda: Labels.of(path))
    if found is not None:
        with expected_right("class names"):
            assert len(found) > 0
            assert all(isinstance(name, str) for name in found)
            assert all(found.where(name, exact=True) for name in found)


@examples(60, 2000)
@pytest.mark.parametrize("name", ["names.txt", "names.json", "numbered.json"])
def test_damaged_files(name, count, tmp_path):
    numbered = {str(i): one for i, one in enumerate(NAMES)}
    contents = {"names.txt": "\n".join(NAMES), "names.json": json.dumps(NAMES), "numbered.json": json.dumps(numbered)}

    def opened(content: bytes) -> None:
        read(tmp_path / name, content)

    ask(count, opened, damaged(contents[name].encode()))


@examples(60, 2000)
@pytest.mark.parametrize("document", [NAMES, dict(enumerate(NAMES))], ids=["list", "object"])
def test_other_documents(document, count, tmp_path):
    def opened(other: object) -> None:
        read(tmp_path / "names.json", written(other))

    ask(count, opened, altered(json.loads(json.dumps(document))))


@pytest.mark.parametrize("content", [DEEP, b"9" * 5000, b"[" + b"9" * 5000 + b"]", b""])
def test_documents_that_go_too_far(content, tmp_path):
    read(tmp_path / "names.json", content)


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/tty", "\x00", "x" * 5000, "", "/proc/self/mem"])
def test_files_that_are_none(path):
    assert tried("class names", lambda: Labels.of(Path(path))) is None


def test_a_line_is_a_name(tmp_path):
    """Signs that Python takes for the end of a line are part of a name: only a line feed ends one."""
    path = tmp_path / "names.txt"
    path.write_bytes("a\u2028b\nc\x0bd\r\ne\x85f\n".encode())
    assert list(Labels.of(path)) == ["a\u2028b", "c\x0bd", "e\x85f"]


TARGETS = st.one_of(WORDS, st.integers(), st.floats(), st.none(), st.booleans(), st.binary(max_size=4), JSON)


@examples(150, 5000)
@pytest.mark.parametrize("labels", [LABELS, None], ids=["names", "numbers"])
def test_targets(labels, count):
    def found(target: object) -> None:
        index = tried("targets", lambda: find_class(labels, target, 8))
        if index is not None:
            with expected_right("targets"):
                assert type(index) is int
                assert 0 <= index < 8

    ask(count, found, TARGETS)


@examples(100, 3000)
def test_names_on_the_screen_hold_no_control_signs(count):
    def shown(name: str) -> None:
        text = tried("targets", lambda: printable(name))
        assert not any(ord(c) < 32 or 127 <= ord(c) < 160 or c in "\u202e\u202d\u2066\u2067" for c in text), text

    ask(count, shown, WORDS)
