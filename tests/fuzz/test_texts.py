"""Texts of any signs, and files that should hold texts."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st
from rich.console import Console

import gradtoken
from gradtoken.draw.html import page
from gradtoken.models.model import Model
from gradtoken.models.texts import open_text
from gradtoken.pieces import MERGES
from tests import texts
from tests.asking import ask, examples
from tests.fuzz.damage import WORDS, damaged
from tests.fuzz.outcomes import expected_right, tried
from tests.test_words import texts_of

MARKUP = ["<script>alert(1)</script>", "[bold red]x[/]", "\x1b[31mred", "[/nothing]", "&amp;", "</style>", "{x}"]
ANY = st.one_of(st.text(max_size=300), texts_of, WORDS, st.lists(st.sampled_from(MARKUP), max_size=8).map(" ".join))


@pytest.fixture(scope="module")
def model() -> Model:
    return texts.text_model(64)


@examples(40, 600)
def test_any_text(count, model):
    def explained(text: str, merge: str, special: bool, windows: int | None) -> None:
        how = {"merge": merge, "special": special, "windows": windows, "allow_blank": True}
        found = tried("texts", lambda: gradtoken.explain(text[:4000], model, **how))
        if found is None:
            return
        with expected_right("texts"):
            assert np.isfinite(found.relevance).all()
            assert len(found.words.names) == len(found.relevance)
            for span, name in zip(found.words.spans, found.words.names, strict=True):
                assert span is None or found.words.text[slice(*span)] == name or merge == "pieces"
            html = page([found])
            assert "<script>alert(1)" not in html
            screen = Console(file=io.StringIO(), force_terminal=False, width=80)
            screen.print(found)
            assert "\x1b" not in screen.file.getvalue()

    ask(count, explained, ANY, st.sampled_from(sorted(MERGES)), st.booleans(), st.sampled_from([None, 0, 4, 61, 10**9]))


@examples(60, 2000)
def test_files(count, tmp_path):
    path = tmp_path / "a.txt"

    def opened(content: bytes) -> None:
        path.write_bytes(content)
        for source in (path, content, io.BytesIO(content)):
            found = tried("texts", lambda source=source: open_text(source))
            if found is not None:
                with expected_right("texts"):
                    assert found.encode() == content.removeprefix(b"\xef\xbb\xbf")

    ask(count, opened, damaged("\ufeffA film, ein schöner Film. 電影\n".encode()))


@pytest.mark.parametrize("path", ["/dev/zero", "/proc/self/mem", "\x00", "x" * 5000, "", "."])
def test_files_that_are_none(path):
    assert tried("texts", lambda: open_text(Path(path))) is None
