"""The figure and the page of a comparison: what stands where, and what is said of it."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from gradtoken.comparison import Cell, Column, Comparison, Row
from gradtoken.draw.figure import rendered
from gradtoken.draw.panels import scale_of
from gradtoken.draw.sizes import Sizes
from gradtoken.draw.style import Style
from gradtoken.draw.table import blocks_of, figure
from gradtoken.draw.table_html import fragment, page
from tests.draw.test_figure import footer, texts
from tests.draw.test_html import Page
from tests.test_result import HOSTILE, example

LONG = "a very long class name, that goes on, and on, and on, and on"


def row(number, name, picture, columns, **facts):
    cells = [
        Cell(None, f"there is no way; {HOSTILE}")
        if column.method == "refusing"
        else Cell(example(name, method=column.method, picture=picture, relevance=relevance_of(column)))
        for column in columns
    ]
    return Row(picture, f"/a/{number}.jpg", 1, name, 2.5, 0.25, tuple(cells), **facts)


def relevance_of(column):
    values = example().relevance
    if column.method == "pixels":
        return np.random.default_rng(0).normal(size=(90, 150))
    return values * 0 if column.method == "zero" else values - 0.5 if column.method == "signed" else values


def comparison(methods=("plain", "signed", "refusing", "zero"), names=("cat", "dog"), sizes=((50, 30),)):
    columns = [Column(method, {}, method, "same for every class" if method == "plain" else "") for method in methods]
    pictures = [Image.new("RGB", size, (90, 120, 30)) for size in sizes]
    rows = [row(i, name, picture, columns) for i, picture in enumerate(pictures) for name in names]
    return Comparison(tuple(columns), tuple(rows))


def test_rows_and_columns_are_named():
    said = texts(figure(comparison()))
    for text in ("picture", "plain", "signed", "same for every class", "cat", "dog", "no map", "there is no way"):
        assert text in said
    assert said.count("probability 25.0 %") == said.count("logit 2.5") == said.count("zero everywhere") == 2
    assert said.count("no map") == 2
    assert "0.jpg" not in said, "the one file needs no name in each row"
    assert texts(figure(comparison(sizes=((50, 30), (30, 50))))).count("1.jpg") == 2


def test_a_head_has_a_sign_even_where_all_of_it_is_against_the_class():
    against = -1 - example().relevance
    one, alone = (example(method="gradtoken", relevance=against, options=o) for o in ({"head": 3}, {}))
    assert scale_of(one, [one], Style()).signed
    assert not scale_of(alone, [alone], Style()).signed


def test_each_map_has_its_own_scale_unless_they_share_one():
    first, second = comparison(["plain"]).rows
    twice = example("dog", method="plain", relevance=example().relevance * 2)
    both = Comparison(comparison(["plain"]).columns, (first, Row(*list(vars(second).values())[:-1], (Cell(twice),))))
    alone, shared = texts(figure(both)), texts(figure(both, shared_scale=True))
    assert ("0.971" in alone, "1.94" in alone, "0.971" in shared, shared.count("1.94")) == (True, True, False, 2)
    assert "each map on its own scale" in footer(figure(both))
    assert "one scale for each column" in footer(figure(both, shared_scale=True))


@pytest.mark.parametrize(
    ("colours", "legend"),
    [(None, "red speaks for the class, blue against it, white is zero"), ("jet", "in the middle")],
)
def test_the_legend_says_where_zero_is(colours, legend):
    assert legend in footer(figure(comparison(), colours=colours))
    assert not any("zero is" in text for text in texts(figure(comparison(["plain"]), colours=colours)))
    assert "0" in texts(figure(comparison(["signed"])))


def test_many_columns_stand_in_blocks():
    wide = comparison([f"some_longer_method_name_{i}" for i in range(25)])
    assert [len(block.columns) for block in blocks_of(wide)] == [9, 9, 8]
    assert max(len(block.columns) for block in blocks_of(wide)) <= Sizes().most
    sheet = figure(wide)
    assert sheet.get_size_inches()[0] < 12 * Sizes().wide
    said = texts(sheet)
    assert "some_longer_" in said
    assert "method_name_24" in said
    assert said.count("cat") == 3


@pytest.mark.parametrize("sizes", [((10, 80),), ((300, 10),), ((50, 50), (10, 60), (60, 10))])
@pytest.mark.parametrize("names", [("cat",), (LONG, "W" * 99)])
def test_nothing_overlaps_or_leaves_the_sheet(sizes, names):
    sheet = figure(comparison(["plain", "signed", "refusing", "zero", "pixels"], names, sizes))
    sheet.draw_without_rendering()
    boxes = [text.get_window_extent() for text in sheet.texts]
    for i, one in enumerate(boxes):
        assert one.x0 >= 0
        assert one.x1 <= sheet.bbox.x1
        assert one.y0 >= 0
        assert one.y1 <= sheet.bbox.y1 + 1
        for other in boxes[:i]:
            apart = min(one.x1, other.x1) - max(one.x0, other.x0) <= 1
            assert apart or min(one.y1, other.y1) - max(one.y0, other.y0) <= 5, (i, sheet.texts[i].get_text())


def test_a_very_long_table_is_drawn_smaller(monkeypatch):
    monkeypatch.setattr("gradtoken.draw.figure.LONGEST", 400)
    content = rendered(figure(comparison(["plain"], [str(i) for i in range(9)])), "png")
    assert max(Image.open(io.BytesIO(content)).size) <= 401


def test_masked_views_say_what_is_kept():
    assert "kept of each map: 50 % of its maximum" in footer(figure(comparison(), threshold=0.5))


def test_the_page_holds_everything_and_fetches_nothing():
    found = Page(page(comparison(["plain", "refusing", "pixels"], sizes=((50, 30), (30, 50)))))
    words = " ".join(found.words)
    for text in ("plain", "same for every class", "cat", "25.0 %", "0.jpg", "no map", "each map on its own scale"):
        assert text in words
    assert HOSTILE.split("\n")[0] in words
    assert found.tags.count("script") == 1
    assert not [v for _, v in found.attributes if v and v.startswith(("http", "//"))]
    assert "url(data:image/jpeg" in words, "each picture is there once, under all maps"
    maps = [json.loads(text) for text in found.of("data-map")]
    assert ["values" in one for one in maps] == [True, False] * 4
    assert found.of("data-picture") == ["0"] * 4 + ["1"] * 4
    assert found.of("rowspan") == ["2", "2"]


def test_the_notebook_has_no_script():
    found = Page(fragment(comparison()))
    assert "script" not in found.tags
    assert "style" not in found.tags
    assert found.tags.count("tr") == 3
