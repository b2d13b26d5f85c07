"""The package's layers: what runs at import goes downwards only, and stays small."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import gradtoken

ROOT = Path(gradtoken.__file__).parent
LAYERS = [
    ["defaults", "errors", "lazy"],
    ["axes", "checks", "folded", "named", "outside", "seeds", "words"],
    ["pieces"],
    ["registry", "attention", "multihead", "rowwise", "inputs", "call"],
    ["operations", "progress"],
    ["record", "anatomy", "targets", "state", "tokens", "blocks"],
    ["tape", "align"],
    ["run", "look", "first", "keeping"],
    ["passes"],
    ["probe"],
    ["readout", "lens"],
    ["along", "lrp", "decomposition", "softmax"],
    ["methods"],
    ["maximising"],
    ["manual", "attribution"],
    ["models"],
    ["adapters"],
    ["data", "metrics"],
    ["protocols"],
    ["draw"],
    ["files"],
    ["stored"],
    ["result"],
    ["comparison"],
    ["scores"],
    ["choosing"],
    ["reading"],
    ["prompting"],
    ["doubts", "provenance"],
    ["answering"],
    ["explaining"],
    ["comparing", "checking", "erasing"],
    ["benchmark"],
    ["figures"],
    ["batch", "web"],
    ["notebook"],
    ["commands"],
    ["cli"],
    ["__main__"],
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def layer_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(tree: ast.AST) -> list[str]:
    """Modules of the package that are imported when the file is, not inside functions or for types alone."""
    found = []
    for node in tree.body:  # type: ignore[attr-defined]
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "gradtoken":
            parts = node.module.split(".")
            found += [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_downwards(path):
    own = layer_of(path)
    for name in imported(ast.parse(path.read_text())):
        assert name == own or RANK[name] < RANK[own], f"{own} must not import {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_small(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 260
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno <= 55, f"{path.name}: {node.name}"


def test_importing_the_package_imports_nothing_else():
    heavy = ("torch", "numpy", "timm", "transformers", "torchvision", "matplotlib")
    code = f"import sys, gradtoken; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_simple_call_imports_no_model_library():
    code = "import sys, gradtoken; gradtoken.load; gradtoken.explain; gradtoken.attribute; print('ok' if not "
    code += "{'timm', 'transformers', 'torchvision', 'open_clip', 'matplotlib'} & set(sys.modules) else 'bad')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "ok"
