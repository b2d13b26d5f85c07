"""The list of data sets is that of the registry."""

import importlib.util
from pathlib import Path

from gradtoken.data import DATASETS

SCRIPT = Path(__file__).parents[2] / "scripts" / "data_doc.py"


def test_the_page_is_up_to_date():
    spec = importlib.util.spec_from_file_location("data_doc", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    page = script.document()
    assert script.PAGE.read_text(encoding="utf-8") == page, "run: python scripts/data_doc.py"
    assert all(f"## {name}\n" in page for name in DATASETS)
