"""Figures for a paper: sizes, fonts, what stands in them, and that they can be told apart in grey."""

import io
import runpy
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

import gradtoken
from gradtoken import figures
from gradtoken.benchmark.report import Report
from gradtoken.benchmark.running import run
from gradtoken.benchmark.summary import Curve, Estimate, Line
from gradtoken.draw import graphs
from gradtoken.draw.graphs import Bar, Graph, Series
from gradtoken.errors import BadRun, BadTarget, GradTokenError, UnknownName
from gradtoken.models.bundled import FOLDER
from tests.benchmark import tiny
from tests.draw.test_figure import texts
from tests.draw.test_table import comparison

PICTURES = FOLDER / "pictures"
CAT = PICTURES / "cat_and_giraffe.jpg"


@pytest.fixture(scope="module")
def model():
    return gradtoken.load("bundled")


@pytest.fixture(scope="module")
def heads(model):
    return gradtoken.compare(CAT, model, ["cat", "giraffe"], vary="heads")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    plan = tiny.plan_of(protocol=tiny.CHEFER, methods=("gradtoken", "random", "raw_attention"))
    return Report.of(run(plan, tmp_path_factory.mktemp("figures") / "run").root)


def saved(sheet, form="png"):
    buffer = io.BytesIO()
    sheet.savefig(buffer, format=form)
    return buffer.getvalue()


def words(sheet):
    """All that is written, titles and legends included."""
    from matplotlib.text import Text

    return [text.get_text() for text in sheet.findobj(Text) if text.get_text()]


@pytest.mark.parametrize(("width", "millimetres"), [("column", 90), ("page", 190), (5.0, 127)])
@pytest.mark.parametrize("count", [1, 12])
def test_maps_are_exactly_as_wide_as_asked(width, millimetres, count):
    sheet = figures.maps(comparison([f"method_{i}" for i in range(count)], sizes=((50, 30), (30, 50))), width)
    assert sheet.get_size_inches()[0] * 25.4 == pytest.approx(millimetres)
    sheet.draw_without_rendering()
    for text in sheet.texts:
        box = text.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= sheet.bbox.x1 + 1, text.get_text()


def test_numbers_below_maps_do_not_touch():
    sheet = figures.maps(comparison(["plain", "signed", "pixels", *"abcdef"]), "page")
    sheet.draw_without_rendering()
    for ax in sheet.axes:
        boxes = [text.get_window_extent() for text in ax.texts if text.get_text()]
        assert all(one.x1 < other.x0 or other.x1 < one.x0 for one, other in combinations(boxes, 2))


def test_maps_say_what_they_show_and_the_caption_the_rest():
    found = comparison(["plain", "signed", "refusing"])
    said = texts(figures.maps(found))
    for text in ("picture", "plain", "same for every class", "cat: probability 25.0 %, logit 2.5", "no map"):
        assert text in said
    assert not any("bundled" in text for text in said)
    assert "bundled" in figures.caption(found)
    assert "red speaks for the class" in figures.caption(found)
    assert "kept of each map" in figures.caption(found, threshold=0.5)


def test_fonts_are_embedded_as_truetype_whatever_the_settings(heads):
    import matplotlib

    with matplotlib.rc_context({"pdf.fonttype": 3, "text.usetex": False}):
        table, graph = (saved(sheet, "pdf") for sheet in (figures.maps(heads), figures.contributions(heads)))
    for content in (table, graph):
        assert b"/FontFile2" in content
        assert b"/Type3" not in content
    assert b"/MediaBox [ 0 0 538.58" in table, "190 mm in points"
    assert b"/MediaBox [ 0 0 255.11" in graph, "90 mm in points"


def test_contributions_are_shares_of_the_map(heads):
    sheet = figures.contributions(heads)
    bars = [bar.get_height() for bar in sheet.axes[0].patches]
    count = len(heads.columns)
    for k, row in enumerate(heads.rows):
        parts = np.array([cell.explanation.relevance.clip(0).sum() for cell in row.cells])
        np.testing.assert_allclose(bars[k * count : (k + 1) * count], 100 * parts / parts.sum(), rtol=1e-5)
    assert {"cat", "giraffe", "head", "share of the map (%)"} <= set(words(sheet))
    assert sheet.get_size_inches()[0] * 25.4 == pytest.approx(90)
    with pytest.raises(BadTarget, match='vary="heads"'):
        figures.contributions(comparison(["plain"]))


def test_erasing_falls_faster_along_the_map_than_against_it(model):
    sheet = figures.erasing(PICTURES / "horse.jpg", model, "horse", ["rollout", "legrad"])
    lines = {line.get_label(): line.get_ydata() for line in sheet.axes[0].get_lines()}
    assert list(lines) == [
        *(f"{name}, {order} relevant first" for name in ("rollout", "legrad") for order in ("most", "least")),
        "random order",
    ]
    assert len({float(y[0]) for y in lines.values()}) == 1
    assert lines["rollout, most relevant first"].mean() < lines["rollout, least relevant first"].mean()
    assert "probability of horse" in words(sheet)
    with pytest.raises(BadTarget, match="at most 3 methods"):
        figures.erasing(CAT, model, method=["gradtoken", "rollout", "gradcam", "lrp"])


# Runs -----------------------------------------------------------------------------------------------------------------


def test_curves_are_those_of_the_report(report):
    sheet = figures.curves(report.folder.root, methods=["random", "gradtoken"])
    panels = list(dict.fromkeys((line.ask, name) for line in report.lines for name in line.curves))
    assert len([ax for ax in sheet.axes if ax.get_lines()]) == len(panels)
    for ax, (ask, name) in zip(sheet.axes, panels, strict=False):
        drawn = {line.get_label(): line.get_ydata() for line in ax.get_lines()}
        assert list(drawn) == ["random", "gradtoken"]
        for line in report.lines:
            if line.ask == ask and line.title in drawn:
                np.testing.assert_allclose(drawn[line.title], 100 * line.curves[name].y)
    assert sheet.get_size_inches()[0] * 25.4 == pytest.approx(190)
    assert {"accuracy (%)", "share erased"} <= set(words(sheet))


def test_bars_are_the_numbers_of_the_report(report):
    sheet = figures.bars(report)
    numbers = [number for number in report.protocol.numbers if number.better]
    lines = [line for line in report.lines if line.ask == report.lines[0].ask]
    for ax, number in zip(sheet.axes, numbers, strict=False):
        widths = [bar.get_width() for bar in ax.patches]
        np.testing.assert_allclose(widths, [100 * line.numbers[number.name].value for line in lines])
    assert [text.get_text() for text in sheet.axes[0].get_yticklabels()] == [line.title for line in lines]


def test_what_is_not_in_a_run_is_refused(report):
    with pytest.raises(UnknownName, match="method with numbers in this run"):
        figures.curves(report, methods=["gradtokn"])
    with pytest.raises(UnknownName, match="explained class of this run"):
        figures.bars(report, ask="nobody")
    with pytest.raises(BadRun, match="is not a run"):
        figures.bars("/nowhere")
    with pytest.raises(UnknownName, match="width"):
        figures.bars(report, "colum")
    with pytest.raises(GradTokenError, match="2 to 20 inches"):
        figures.bars(report, 90)


def invented(title, ask=""):
    """A line of a report with many methods."""
    estimate, x = Estimate(0.5, 0.4, 0.6), (0.1, 0.5, 0.9)
    y = np.full(3, 0.5)
    curves = {"positive": Curve(x, y, y - 0.1, y + 0.1)}
    return Line(title, ask, 3, {"ABPC": estimate}, {}, 0, 0, None, (1, 1), curves)


def test_of_many_methods_as_many_are_drawn_as_can_be_told_apart(report):
    many = replace(report, lines=(*(invented(f"m{i}") for i in range(30)), invented("gradtoken")))
    drawn = [line.get_label() for line in figures.curves(many).axes[0].get_lines()]
    assert drawn == ["gradtoken", *(f"m{i}" for i in range(7))]
    with pytest.raises(BadTarget, match="at most 8 methods"):
        figures.curves(many, methods=[f"m{i}" for i in range(9)])
    with pytest.raises(BadRun, match="no curves to draw"):
        figures.curves(replace(report, lines=tuple(replace(line, curves={}) for line in many.lines)))


def test_lines_differ_without_their_colours():
    looks = list(zip(map(str, graphs.DASHES), graphs.MARKS, strict=True))
    assert len(set(looks)) == len(set(graphs.HUES)) == graphs.MOST
    whites = [np.dot(to_rgb(hue), (0.2126, 0.7152, 0.0722)) for hue in graphs.HUES]
    assert max(whites) < 0.7, "a line on white paper"


@pytest.mark.parametrize("width", [90 / 25.4, 190 / 25.4])
def test_nothing_leaves_the_sheet(width):
    names = [f"a_rather_long_method_name option={i}" for i in range(8)]
    series = tuple(Series(n, i, (0, 0.5, 1), np.array([1, 0.5, 0.1 * i])) for i, n in enumerate(names))
    sheets = [
        graphs.graphs([Graph("positive, predicted class", "share erased", "accuracy (%)", series)] * 5, width),
        graphs.bars([("a number with a long name", [Bar(n, 50, 40, 98.7) for n in names])] * 4, width),
        graphs.groups([str(i) for i in range(16)], [("cat", [6.0] * 16), ("dog", [5.0] * 16)], ("x", "y"), width),
    ]
    for sheet in sheets:
        sheet.draw_without_rendering()
        box = sheet.get_tightbbox()
        assert box.x0 >= -0.02
        assert box.x1 <= width + 0.02
        assert box.y0 >= -0.02
        assert box.y1 <= sheet.get_size_inches()[1] + 0.02
        titles = [ax.title.get_window_extent() for ax in sheet.axes if ax.get_visible()]
        assert not any(one.overlaps(other) for one, other in combinations(titles, 2))


def test_a_figure_shows_itself(heads):
    shown = Image.open(io.BytesIO(figures.contributions(heads)._repr_png_()))
    assert shown.width == pytest.approx(90 / 25.4 * 200, abs=1)


@pytest.mark.slow
def test_the_picture_of_the_readme_is_drawn_by_its_script(tmp_path):
    script = Path(__file__).parent.parent / "scripts" / "summary_picture.py"
    runpy.run_path(str(script))["main"](tmp_path / "summary.jpg")
    assert Image.open(tmp_path / "summary.jpg").width == 1826
