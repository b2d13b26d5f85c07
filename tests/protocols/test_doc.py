"""The list of protocols and metrics is that of the registries."""

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "protocols_doc.py"


def test_the_page_is_up_to_date():
    spec = importlib.util.spec_from_file_location("protocols_doc", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.PAGE.read_text(encoding="utf-8") == script.document(), "run: python scripts/protocols_doc.py"
