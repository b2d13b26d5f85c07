"""Comparisons: what stands in which cell, what refuses, and that everything is computed once."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import gradtoken
from gradtoken.comparing import compare
from gradtoken.errors import BadPicture, BadRelevance, BadTarget, GradTokenError, NoGrid, UnknownName
from gradtoken.methods import METHODS
from gradtoken.methods.gradtoken import head_maps
from gradtoken.models.labels import Labels
from gradtoken.models.model import Model
from gradtoken.models.preprocess import Preprocess
from gradtoken.models.vit import VisionTransformer
from gradtoken.progress import showing
from gradtoken.registry import Registry
from gradtoken.result import Explanations
from tests import zoo

NAMES = Labels(("cat, house cat", "dog", "horse", "boat", "bird"))
FACTS = {"paper": "", "formula": "", "cost": ""}


def pixels(probe):
    """One value for each pixel."""
    gray = probe.picture.mean(dim=1)[:, None]
    return gray.expand(-1, probe.scores.shape[1], -1, -1) * probe.scores[..., None, None]


def refusing(probe):
    """No model is good enough."""
    raise NoGrid("never; on principle")


def hungry(probe):
    """More than there is."""
    raise torch.OutOfMemoryError("tried to allocate")


def wild(probe):
    """No numbers for the second target."""
    R = probe.dq.new_ones(*probe.scores.shape, probe.layout.count)
    return R.index_fill(1, torch.arange(1, R.shape[1]), torch.nan)


def blank(probe):
    """Nothing."""
    return probe.dq.new_zeros(*probe.scores.shape, probe.layout.count)


@pytest.fixture(autouse=True)
def registry(monkeypatch) -> Registry:
    """Two real methods and some that misbehave."""
    few = Registry("method")
    few.update({name: METHODS[name] for name in ("gradtoken", "raw_attention")})
    for call in (pixels, refusing, hungry, wild, blank):
        few.add(**FACTS)(call)
    for module in ("comparing", "explaining", "answering", "attribution"):
        monkeypatch.setattr(f"gradtoken.{module}.METHODS", few)
    return few


@pytest.fixture
def model() -> Model:
    net = zoo.shaken(VisionTransformer(classes=5, size=32, patch=8, width=16, depth=3, heads=2, hidden=32))
    return Model(net, "small", Preprocess((32, 32), (40, 40)), NAMES, "made here", "a note")


def picture(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (50, 80, 3), dtype=np.uint8))


GOOD = ["gradtoken", "raw_attention", "pixels"]


def test_cells_are_those_of_explain(model):
    found = compare(picture(), model, ["dog", "boat"], GOOD, heads="mean")
    assert [column.title for column in found.columns] == ["gradtoken heads=mean", "raw_attention", "pixels"]
    assert [row.name for row in found.rows] == ["dog", "boat"]
    for i, method in enumerate(GOOD):
        options = {"heads": "mean"} if method == "gradtoken" else {}
        alone = gradtoken.explain(picture(), model, ["dog", "boat"], method, **options)
        for row, one in zip(found.rows, alone, strict=True):
            ours = row.cells[i].explanation
            np.testing.assert_array_equal(ours.relevance, one.relevance)
            assert (ours.name, ours.method, ours.options, ours.box) == (one.name, method, options, one.box)
            assert (row.name, row.logit, row.probability) == (one.name, one.logit, one.probability)
    assert found.column(2)[0].relevance.shape == (32, 32)
    assert found.column(2)[0].box == (8, 5, 72, 45)


def test_one_forward_pass_a_picture(model):
    compare(picture(), model, ["dog", "boat"], "gradtoken", heads="mean")  # the first run also finds the layout
    runs = []
    model.net.head.register_forward_hook(lambda *_: runs.append(1))
    compare([picture(), picture(1)], model, ["dog", "boat"], GOOD, heads="mean")
    assert len(runs) == 2


def test_what_knows_no_class_says_so(model):
    found = compare(picture(), model, ["dog", "boat"], GOOD[:2], heads="mean")
    assert [column.note for column in found.columns] == ["", "same for every class"]
    one, two = found.column(1)
    np.testing.assert_array_equal(one.relevance, two.relevance)
    assert not one.class_aware


def test_refusals_leave_a_cell_and_the_run_goes_on(model):
    found = compare(picture(), model, ["dog", "boat"], "all", heads="mean")
    assert len(found.columns) == 7
    assert set(found.refusals) == {
        ("blank", "every value is zero"),
        ("hungry", "there is not enough memory for this method"),
        ("refusing", "never; on principle"),
        ("wild", "wild gave values that are not finite for (sample, target) [[0, 0]]"),
    }
    drawn = [
        {column.method for column, cell in zip(found.columns, row.cells, strict=True) if cell.explanation}
        for row in found.rows
    ]
    assert drawn == [{*GOOD, "wild"}, set(GOOD)]
    assert compare(picture(), model, 0, "blank", allow_blank=True).explanations[0].relevance.max() == 0
    with pytest.raises(BadRelevance, match="no method gave a map; refusing: never; on principle; blank: every value"):
        compare(picture(), model, 0, ["refusing", "blank"])


@pytest.mark.parametrize(("rows", "order"), [("pictures", "a1 a3 b1 b3"), ("classes", "a1 b1 a3 b3")])
def test_rows(model, tmp_path, rows, order):
    for name in "ab":
        picture().save(tmp_path / f"{name}.png")
    found = compare([tmp_path / "a.png", tmp_path / "b.png"], model, [1, 3], "raw_attention", rows=rows)
    assert " ".join(f"{row.source[-5]}{row.target}" for row in found.rows) == order


def test_without_a_target_each_picture_has_its_prediction(model):
    found = compare([picture(), picture(1)], model, method="raw_attention")
    alone = [gradtoken.explain(picture(i), model, method="raw_attention").name for i in (0, 1)]
    assert [row.name for row in found.rows] == alone


def test_schemes_and_depths(model):
    schemes = compare(picture(), model, "dog", vary="propagation", heads="mean")
    assert [(c.title, c.note) for c in schemes.columns][::4] == [
        ("none", "GradToken-0"),
        ("average_matmul", "GradToken-4"),
    ]
    depths = compare(picture(), model, "dog", vary="depth", heads="mean")
    assert [column.title for column in depths.columns] == ["depth 1", "depth 2", "depth 3"]
    (published, none) = (schemes.column(i)[0].relevance for i in (4, 0))
    np.testing.assert_array_equal(depths.column(0)[0].relevance, published)
    np.testing.assert_array_equal(depths.column(2)[0].relevance, none)
    alone = gradtoken.explain(picture(), model, "dog", heads="mean", propagation="rollout_matmul")
    np.testing.assert_array_equal(schemes.column(2)[0].relevance, alone.relevance)


def test_heads_have_a_sign_and_are_averaged_to_the_map(model):
    found = compare(picture(), model, ["dog", "boat"], vary="heads", depth=2)
    assert [column.title for column in found.columns] == ["head 1", "head 2"]
    heads = np.stack([[one.relevance for one in found.column(h)] for h in range(2)])
    assert (heads < 0).any()
    for k, target in enumerate(("dog", "boat")):
        for integration, maps in (("mean", heads[:, k]), ("relu_mean", np.maximum(heads[:, k], 0))):
            one = gradtoken.explain(picture(), model, target, heads=integration, depth=2, allow_blank=True)
            np.testing.assert_allclose(maps.mean(axis=0), one.relevance, rtol=1e-5, atol=1e-7)
    assert found.explanations[1].options == {"depth": 2, "head": 2}


def test_head_maps_are_keys_times_gradient_without_propagation(model):
    case = gradtoken.Probe(model.net, model.preprocess(picture()).pixels[None].double().float(), 1)
    M = head_maps(case, propagation="none")
    naive = torch.stack([case.last.k[0, h, 1:] @ case.dq[0, 0, h].sum(dim=0) for h in range(2)])
    torch.testing.assert_close(M[0, 0], naive)


def test_wrong_requests_are_refused_before_the_model_runs(model):
    model.net.forward = None  # any run of it would be another error
    for message, error, request in (
        ("no method 'rollot'", UnknownName, {"method": ["rollot"]}),
        ("no option of gradtoken 'dept'; did you mean 'depth'", UnknownName, {"method": "gradtoken", "dept": 1}),
        ("no method among those asked 'gradtokn'", UnknownName, {"method": ["gradtoken"], "gradtokn.depth": 1}),
        ("no option of raw_attention 'depth'", UnknownName, {"raw_attention.depth": 1}),
        ("no variation 'head'; did you mean 'heads'", UnknownName, {"vary": "head"}),
        ("leave out method='raw_attention'", BadTarget, {"vary": "heads", "method": "raw_attention"}),
        ("depth=2 was given and is varied too", BadTarget, {"vary": "depth", "depth": 2}),
        ("rows 'pictures' or 'classes', got 'columns'", BadTarget, {"rows": "columns"}),
        ("at least one method, got an empty list", BadTarget, {"method": []}),
        ("at least one target, got an empty list", BadTarget, {"target": []}),
    ):
        with pytest.raises(error, match=message):
            compare(picture(), model, **request)
    with pytest.raises(BadTarget, match="at least one picture"):
        compare([], model)
    with pytest.raises(BadPicture, match="no file"):
        compare([picture(), "missing.png"], model)


def test_options_of_one_method_come_before_those_of_all(model, registry):
    @registry.add(**FACTS)
    def other(probe, *, depth: int = 0):
        """Its option as its map."""
        return probe.dq.new_full((*probe.scores.shape, probe.layout.count), depth)

    found = compare(picture(), model, 0, ["gradtoken", "other"], **{"other.depth": 7, "depth": 3, "heads": "mean"})
    assert [column.options for column in found.columns] == [{"depth": 3, "heads": "mean"}, {"depth": 7}]
    assert found.column(1)[0].relevance.max() == 7
    both = gradtoken.explain(picture(), model, 0, ["gradtoken", "other"], depth=3, **{"gradtoken.heads": "mean"})
    assert [one.options for one in both] == [{"depth": 3, "heads": "mean"}, {"depth": 3}]


def test_progress_names_the_method(model):
    seen = []

    def show(steps, what):
        for step in steps:
            seen.append((what, getattr(step, "name", None)))
            yield step

    with showing(show):
        compare([picture(), picture(1)], model, 0, GOOD[1:])
    names = [("methods", "raw_attention"), ("methods", "pixels")]
    assert seen == [("pictures", None), *names, ("pictures", None), *names]


def test_files(model, tmp_path):
    found = compare(picture(), model, ["dog", "boat"], "all", heads="mean")
    for suffix in ("png", "svg", "pdf", "html", "json", "npz"):
        assert found.save(tmp_path / f"a.{suffix}", colours="jet").stat().st_size > 1000
    saved = json.loads((tmp_path / "a.json").read_text())
    assert ["refusing", "never; on principle"] in saved["refusals"]
    for suffix in ("json", "npz"):
        again = Explanations.load(tmp_path / f"a.{suffix}")
        assert [(e.name, e.method, e.class_aware) for e in again] == [
            (e.name, e.method, e.class_aware) for e in found.explanations
        ]
        for one, two in zip(again, found.explanations, strict=True):
            np.testing.assert_array_equal(one.relevance, two.relevance)
    with pytest.raises(GradTokenError, match="no style 'color'"):
        found.save(tmp_path / "b.json", color="jet")
    with pytest.raises(UnknownName, match=r"no file format '.bmp'"):
        found.save(tmp_path / "b.bmp")
    with pytest.raises(BadRelevance, match="npy stacks maps of one shape"):
        found.save(tmp_path / "b.npy")
    assert found._repr_png_().startswith(b"\x89PNG")
    assert "<script" not in found._repr_html_()
    assert repr(found).startswith("<Comparison of 2 rows by 7 columns: blank, gradtoken heads=mean, hungry, pixels")


def test_methods_that_run_the_model_again_read_the_same_targets(model, registry):
    @registry.add(**FACTS)
    def again(probe):
        """Scores of other pictures, as a map of one value."""
        pictures = torch.cat([probe.picture, -probe.picture, 0 * probe.picture])
        return probe.score(inputs=pictures).mean() * torch.ones(*probe.scores.shape, probe.layout.count)

    before = compare(picture(), model, [None, lambda logits: logits[:, 1] - logits[:, 0]], "raw_attention").rows
    after = compare(picture(), model, [None, lambda logits: logits[:, 1] - logits[:, 0]], ["again"]).rows
    assert [(row.name, row.logit, row.probability) for row in before] == [
        (row.name, row.logit, row.probability) for row in after
    ]
    with pytest.raises(BadRelevance, match="one score for each input"):
        compare(picture(), model, [0, lambda logits: logits[:1, 1]], "again")
