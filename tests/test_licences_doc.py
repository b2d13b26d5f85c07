"""The page of licences lists what the project asks for."""

import importlib.metadata
import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "licences_doc.py"


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("licences_doc", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_dependency_is_listed_with_its_extra(script):
    rows = [line.split(" | ") for line in script.PAGE.read_text("utf-8").splitlines() if line.startswith("| ")]
    listed = {row[0].removeprefix("| "): row[1] for row in rows}
    missing = {name: extra for name, extra in script.direct().items() if listed.get(name) != (extra or "always")}
    assert not missing, "run: python scripts/licences_doc.py"


def test_licences_are_what_packages_state(script, tmp_path, monkeypatch):
    def state(name: str, *lines: str) -> str:
        folder = tmp_path / f"{name.replace('-', '_')}-1.0.dist-info"
        folder.mkdir()
        importlib.invalidate_caches()
        (folder / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0", *lines]))
        return script.licence(name)

    monkeypatch.syspath_prepend(str(tmp_path))
    mark = "Classifier: License :: OSI Approved :: MIT License"
    assert state("stated-one", "License-Expression: MIT", mark) == "MIT"
    assert state("stated-two", mark, "License: whatever") == "MIT License"
    assert state("stated-three", "License: BSD") == "BSD"
    assert state("stated-four", "Classifier: License :: OSI Approved") == "not stated"
    assert script.version("stated-five") == "not installed here"


def test_the_table_stands_between_its_marks(script):
    page = f"before\n{script.MARKS[0]}\nold\n{script.MARKS[1]}\nafter\n"
    written = script.document(page)
    assert written.startswith(f"before\n{script.MARKS[0]}\n| package |")
    assert written.endswith(f"{script.MARKS[1]}\nafter\n")
    assert "old" not in written.splitlines()
    assert script.document(written) == written
