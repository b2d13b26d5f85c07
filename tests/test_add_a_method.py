"""The page on adding a method, followed line by line in a registry of its own."""

import inspect
import re
from pathlib import Path

import pytest

from gradtoken import manual
from gradtoken.methods import METHODS
from gradtoken.probe import Probe
from gradtoken.registry import Registry

PAGE = Path(__file__).parent.parent / "docs" / "add-a-method.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)


@pytest.fixture
def registry(monkeypatch) -> Registry:
    copy = Registry("method")
    copy.update(METHODS)
    for module in ("methods", "attribution"):
        monkeypatch.setattr(f"gradtoken.{module}.METHODS", copy)
    return copy


def test_the_page_can_be_followed(registry):
    method, use, check = BLOCKS
    namespace = {}
    for block in (method, use, check):  # whose assertions are what the page claims
        exec(compile(block, str(PAGE), "exec"), namespace)
    entry = registry["key_norm"]
    assert "key_norm" not in METHODS
    assert (entry.class_aware, entry.needs, entry.cost) == (True, ("last",), "1 F + K short B")
    assert manual.options(entry) == [("power", 1.0, (), "of the norm of the keys; 0 leaves the gradient alone")]
    assert manual.obstacle(entry, Probe(namespace["net"], namespace["pixels"])) == ""
    with pytest.raises(LookupError, match="no option of key_norm 'powr'; did you mean 'power'"):
        entry.bind({"powr": 2})


def test_the_page_names_what_exists():
    text = PAGE.read_text(encoding="utf-8")
    for name in re.findall(r"`probe\.(\w+)`", text):
        assert hasattr(Probe, name) or name in ("logits", "scores", "layout", "picture", "inputs", "net"), name
    parameters = inspect.signature(Registry.add).parameters
    told = re.findall(r"^\| `(\w+)` \|", text, re.M)
    assert set(parameters) - {"self"} <= set(told)
