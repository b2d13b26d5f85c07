"""The table of models that can be explained: one line of each kind of input, as the script examines them."""

import importlib
from pathlib import Path

import pytest

pytest.importorskip("transformers")
SCRIPTS = Path(__file__).parent.parent / "scripts"
SOURCES = ("texts", "generators", "sounds", "films", "captions", "answers", "detectors")
ROWS = {
    "texts": ("12 tokens", "class token"),
    "generators": ("12 tokens", "last token"),
    "sounds": ("5 x 9", "2 tokens"),
    "films": ("8 x 4", "mean of the tokens"),
    "captions": ("8 x 8", "class token"),
    "answers": ("69 tokens", "last token"),
    "detectors": ("8 x 12", "query of its own"),
}


@pytest.mark.parametrize("source", SOURCES)
def test_the_first_of_each_kind_is_explained(source, monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    matrix, others = (importlib.import_module(name) for name in ("support_matrix", "support_others"))
    assert len(others.OTHERS) == len(SOURCES)
    row = matrix.examine(next(getattr(others, f"from_{source}")()), {})
    assert (row["result"], row["grid"], row["reads"]) == ("OK", *ROWS[source])


def test_what_has_no_attention_is_refused(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    matrix, others = (importlib.import_module(name) for name in ("support_matrix", "support_others"))
    found = next(one for one in others.from_texts() if one.name == "FNet")
    assert matrix.examine(found, {})["result"].startswith("NoAttention: FNetForSequenceClassification computed no")
