"""What makes imports quick is undone afterwards."""

import gc
import importlib
import inspect
import subprocess
import sys

import pytest

from gradtoken.web import imports


def test_stubs_are_not_written_and_the_way_to_files_is_put_back():
    before = inspect.getfile
    with imports.no_stubs(), pytest.raises(OSError, match="gradio"):
        inspect.getfile(type("A", (), {"__module__": "gradio.components.a"}))
    assert inspect.getfile is before


def test_a_package_is_hidden_and_comes_back(monkeypatch):
    monkeypatch.delitem(sys.modules, "this", raising=False)
    with imports.without("gc", "this"):
        assert sys.modules["gc"] is gc, "what is here already stays"
        with pytest.raises(ImportError, match="this"):
            importlib.import_module("this")
    assert "this" not in sys.modules


def test_garbage_is_collected_again_afterwards():
    with imports.unswept():
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.unfreeze()


def test_the_page_imports_neither_pytorch_nor_what_gradio_can_do_without(tmp_path):
    """They would be half of the time until it is there."""
    pytest.importorskip("gradio", reason="the extra `app` is not installed")
    code = "import sys; from gradtoken.web.serving import Desk, Settings, build; "
    code += f"build(Desk(Settings()), {str(tmp_path)!r}); "
    code += "print([m for m in ('torch', 'pyarrow', 'IPython', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
