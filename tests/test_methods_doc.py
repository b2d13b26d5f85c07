"""The list of methods is that of the registry, and what is said of a method is what its docstring says."""

import importlib.util
from pathlib import Path

from gradtoken import manual
from gradtoken.registry import Registry

SCRIPT = Path(__file__).parent.parent / "scripts" / "methods_doc.py"


def script():
    spec = importlib.util.spec_from_file_location("methods_doc", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date():
    written = script()
    assert written.PAGE.read_text(encoding="utf-8") == written.document(), "run: python scripts/methods_doc.py"


def method(probe, *, start: int = 0, power: float = 1.0, exact: bool = False, other=None):
    """Sum of |x|: R = x.

    Returns (B, K, S). start: the first block,
    from 0. power:
    `p` of x ** p; a number.

    exact=True: in float64.
    """


ENTRY = Registry("method")
ENTRY.add(paper="https://arxiv.org/abs/1.2", formula="R = |x|", cost="1 F", class_aware=False, needs=("last", "dq"))(
    method
)


def test_options_are_read_from_the_docstring():
    assert [(one.name, one.default, one.meaning) for one in manual.options(ENTRY["method"])] == [
        ("start", 0, "the first block, from 0"),
        ("power", 1.0, "`p` of x ** p; a number"),
        ("exact", False, "True: in float64"),
        ("other", None, ""),
    ]
    assert manual.prose(ENTRY["method"]) == ["Sum of |x|: R = x.", "Returns (B, K, S)."]


def test_needs_are_words():
    assert manual.need("dq") == "Gradient of each score by the last query before its scale"
    assert "attention" in manual.facts(ENTRY["method"])["needs"]
    assert "differs" not in manual.facts(ENTRY["method"])


def test_a_line_of_the_table():
    assert script().row(ENTRY["method"]) == (
        "| [`method`](#method) | `R = \\|x\\|` | no | 1 F | a last attention over the tokens of the input, Gradient of "
        "each score by the last query before its scale | [arXiv 1.2](https://arxiv.org/abs/1.2) |"
    )
