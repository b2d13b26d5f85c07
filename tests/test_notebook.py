"""What shows itself in a notebook, the viewer, and the notebooks of examples/, executed without a network."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import gradtoken
from gradtoken.errors import BadModel, BadPicture, GradTokenError, UnknownName
from gradtoken.models.bundled import FOLDER
from tests.benchmark import tiny
from tests.draw.test_html import Page

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.ipynb"))
CAT = FOLDER / "pictures" / "cat_and_giraffe.jpg"
FIRST = "from gradtoken.models._torchvision import ensure_torchvision; ensure_torchvision()"  # as conftest.py


@pytest.fixture(scope="module")
def model():
    return gradtoken.load("bundled")


@pytest.fixture
def viewer(model):
    pytest.importorskip("ipywidgets")
    from gradtoken.notebook import viewer

    return viewer(CAT, model)


def index(viewer, name):
    return viewer.subject.names.index(name)


def test_what_can_be_picked_is_shown_with_the_prediction_first(viewer):
    assert viewer.classes.options[0][0].startswith("cat  99.7 %")
    assert viewer.classes.value == (index(viewer, "cat"),)
    assert [(one.name, one.method) for one in viewer.explanations] == [("cat", "gradtoken")]
    assert "<b>cat</b>" in viewer.drawn.value
    assert "application/vnd.jupyter.widget-view+json" in viewer._repr_mimebundle_()


def test_picking_shows_the_maps_that_explain_gives_and_keeps_them(viewer, model, monkeypatch):
    viewer.classes.value = (index(viewer, "cat"), index(viewer, "giraffe"))
    viewer.methods.value = ("rollout", "legrad")
    expected = gradtoken.explain(CAT, model, ["cat", "giraffe"], ["rollout", "legrad"])
    assert [(one.name, one.method) for one in viewer.explanations] == [(one.name, one.method) for one in expected]
    for one, other in zip(viewer.explanations, expected, strict=True):
        np.testing.assert_allclose(one.relevance, other.relevance, rtol=1e-4, atol=1e-7)
    drawn = viewer.drawn.value
    monkeypatch.setattr(model.net, "forward", None)  # what is known needs no model
    viewer.opacity.value = 0.2
    assert viewer.drawn.value != drawn
    viewer.methods.value = ("gradtoken",)
    viewer.classes.value = (index(viewer, "cat"),)
    assert len(viewer.explanations) == 1


def test_the_search_keeps_what_is_picked(viewer):
    viewer.search.value = "gira"
    assert [name.split("  ")[0] for name, _ in viewer.classes.options] == ["cat", "giraffe"]
    assert viewer.classes.value == (index(viewer, "cat"),)
    viewer.search.value = "nothing like it"
    assert len(viewer.classes.options) == 1


def test_nothing_picked_leaves_what_was_shown(viewer):
    drawn = viewer.drawn.value
    viewer.methods.value = ()
    viewer.opacity.value = 0.2
    assert viewer.drawn.value == drawn
    assert len(viewer.explanations) == 0


def test_a_method_that_refuses_says_why_beside_those_that_do_not(viewer, monkeypatch):
    def refuse(probe):
        raise GradTokenError("there is <b>no</b> way")

    tiny.replaced(monkeypatch, refuse, "legrad")
    viewer.methods.value = ("gradtoken", "legrad")
    assert "no map: there is &lt;b&gt;no&lt;/b&gt; way" in viewer.drawn.value
    assert len(viewer.explanations) == 1


def test_bad_input_is_refused_before_anything_is_shown(model):
    pytest.importorskip("ipywidgets")
    from gradtoken.notebook import viewer

    with pytest.raises(UnknownName, match="no method 'gradtokn'"):
        viewer(CAT, model, "gradtokn")
    with pytest.raises(BadPicture, match=r"absent\.jpg"):
        viewer("absent.jpg", model)


def test_names_cannot_become_markup(model):
    pytest.importorskip("ipywidgets")
    from gradtoken.notebook import viewer

    labels = ["<script>alert(1)</script>"] * 11
    shown = viewer(CAT, gradtoken.load(model.net, preprocess=model.preprocess, labels=labels))
    assert "script" not in Page(shown.drawn.value).tags


def test_too_few_labels_are_an_error_that_says_so(model):
    with pytest.raises(BadModel, match="11 outputs and 2 labels; give one label for each"):
        gradtoken.explain(CAT, gradtoken.load(model.net, preprocess=model.preprocess, labels=["ant", "bee"]))


# The notebooks --------------------------------------------------------------------------------------------------------


def test_there_are_notebooks_for_each_purpose():
    assert [path.stem[2:] for path in EXAMPLES] == [
        "first-picture",
        "two-classes",
        "your-own-model",
        "a-text",
        "a-benchmark",
        "add-a-method",
    ]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_notebooks_are_kept_without_outputs(path):
    nbformat = pytest.importorskip("nbformat")
    book = nbformat.read(path, 4)
    nbformat.validate(book)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in book.cells)
    assert path.stat().st_size < 10_000


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_notebooks_run(path, tmp_path, monkeypatch):
    """In a kernel of their own; the last cell with a value shows a drawing, a table or numbers."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    pytest.importorskip("ipywidgets")
    for name, value in (("HF_HUB_OFFLINE", "1"), ("OMP_NUM_THREADS", "1"), ("IPYTHONDIR", str(tmp_path))):
        monkeypatch.setitem(os.environ, name, value)
    book = nbformat.read(path, 4)
    book.cells.insert(0, nbformat.v4.new_code_cell(FIRST))
    nbclient.NotebookClient(
        book, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    shown = [out for cell in book.cells if cell.cell_type == "code" for out in cell.outputs]
    assert all(out.output_type in ("execute_result", "stream") for out in shown), "nothing is warned of"
    assert all(out.name == "stdout" for out in shown if out.output_type == "stream")
    assert any("text/html" in out.get("data", {}) or "image/png" in out.get("data", {}) for out in shown)


def test_what_is_shown_is_html_and_a_picture(model):
    out = gradtoken.explain(CAT, model, ["cat", "giraffe"])
    for one in (out, out[0], gradtoken.compare(CAT, model, method=["gradtoken", "rollout"]), out.figure()):
        assert Image.open(io.BytesIO(one._repr_png_())).width > 400
    for one in (out, out[0], gradtoken.compare(CAT, model, method=["gradtoken"])):
        assert "img" in Page(one._repr_html_()).tags
