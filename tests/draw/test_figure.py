"""Figures: what stands where, which scale, and text that comes from outside."""

import threading
import warnings
import xml.dom.minidom

import matplotlib
import numpy as np
import pytest
from PIL import Image

from gradtoken.draw.figure import figure, rendered
from gradtoken.draw.layout import COLUMNS, arranged
from gradtoken.draw.words import fit, number, percent
from gradtoken.errors import BadRelevance
from gradtoken.result import Explanations
from tests.test_result import HOSTILE, example


def texts(sheet):
    return [text.get_text() for text in sheet.texts] + [text.get_text() for ax in sheet.axes for text in ax.texts]


def footer(sheet):
    """The last lines, and some of those above."""
    return " ".join(text.get_text() for text in reversed(sheet.texts[-9:]))


def test_a_figure_says_what_it_shows():
    said = texts(example().figure())
    for text in ("a.jpg", "predicted cat, 75.0 %", "cat", "probability 75.0 %, logit 3.25", "0.0165", "0.494", "0.971"):
        assert text in said
    assert any("bundled · gradtoken depth=2 · colours: raw relevance, linear, 60 % opaque · small" in t for t in said)


def test_bars_are_shared_within_a_method_on_request():
    pair = Explanations((example(), example("dog", relevance=example().relevance * 9), example(method="rollout")))
    alone, shared = (texts(pair.figure(shared_scale=on)) for on in (False, True))
    assert (alone.count("8.74"), alone.count("0.971")) == (1, 2)
    assert (shared.count("8.74"), shared.count("0.971")) == (2, 1)
    assert any("one scale for all maps of a method" in text for text in shared)


def test_one_signed_map_makes_the_colours_of_its_method_signed():
    """Red means the same in panels that stand side by side."""
    signed = example("dog", relevance=example().relevance - 0.5)
    said = texts(Explanations((example(), signed, example(method="rollout"))).figure())
    ends = ["\N{MINUS SIGN}0.971", "0.971", "0.0165"]
    assert [said.count(end) for end in ends] == [1, 2, 1]


def test_values_beyond_the_colours_are_marked():
    said = texts(example(relevance=np.arange(101.0)[None]).figure(clip=0.1))
    assert {"≤ 10", "50", "≥ 90"} <= set(said)


def test_rows_are_pictures_or_targets():
    product = [example(name, method=method) for method in ("a", "b", "c") for name in ("cat", "dog")]
    rows = arranged(product)
    assert [[(p.one.name, p.one.method) for p in row.panels if not p.bare] for row in rows] == [
        [("cat", m) for m in "abc"],
        [("dog", m) for m in "abc"],
    ]
    assert [row.panels[0].bare for row in rows] == [True, True]
    assert len(arranged([example(), example("dog"), example(source="b.jpg")])) == 2
    many = arranged([example(method=str(i)) for i in range(13)])
    assert [len(row.panels) for row in many] == [5, 5, 4]
    assert max(len(row.panels) for row in many) <= COLUMNS


def test_nothing_overlaps_or_leaves_the_sheet():
    long = "a very long class name, that goes on, and on, and on, and on, and on, and on"
    items = [example(long), example("W" * 200), example("dog", picture=Image.new("RGB", (10, 60)))]
    sheet = figure([items[0], items[1], items[2]])
    sheet.draw_without_rendering()
    boxes = [text.get_window_extent() for text in sheet.texts]
    for i, one in enumerate(boxes):
        assert one.x0 >= 0
        assert one.x1 <= sheet.bbox.x1
        for other in boxes[:i]:
            assert not (
                min(one.x1, other.x1) - max(one.x0, other.x0) > 1 and min(one.y1, other.y1) - max(one.y0, other.y0) > 4
            )


def test_without_picture_or_grid():
    assert len(example(picture=None).figure().axes) == 2  # the map and its bar
    assert len(example(picture=None, relevance=np.arange(-3, 4)).figure().axes) == 1
    with pytest.raises(BadRelevance, match="no explanation to draw"):
        figure([])


def test_maps_of_zeros_say_so_instead_of_a_scale():
    said = texts(example(relevance=np.zeros((3, 5))).figure())
    assert "zero everywhere" in said
    assert "1" not in said


def test_maps_that_know_no_class_say_so():
    assert "same for every class" in texts(example(class_aware=False).figure())


def test_of_maps_of_pixels_few_are_beyond_the_colours():
    pixels = np.zeros((100, 100))
    pixels[0, :40], pixels[5:50] = 1000, 1
    sheet = example(relevance=pixels).figure()
    said = texts(sheet)
    assert {"0", "\N{GREATER-THAN OR EQUAL TO} 1"} <= set(said)
    assert "up to 0.5 % of pixels beyond each end" in footer(sheet)
    assert "1000" in texts(example(relevance=pixels).figure(clip=0.0))
    sparse = np.zeros((100, 100))
    sparse[0, 0] = 7
    assert "7" in texts(example(relevance=sparse).figure())


def test_masked_views_say_what_is_kept():
    said = texts(example().figure(threshold=0.5))
    assert "kept: relevance ≥ 0.485 (50 % of the maximum)" in said
    assert not any("colours" in text for text in said)


def test_text_stays_text_and_files_are_reproducible():
    one = example(HOSTILE, source=HOSTILE, model=HOSTILE, method=HOSTILE, note=HOSTILE)
    files = [rendered(one.figure(), form) for form in ("svg", "svg", "pdf", "pdf")]
    assert files[0] == files[1]
    assert files[2] == files[3]
    found = xml.dom.minidom.parseString(files[0]).getElementsByTagName("text")
    assert any("<script>" in node.firstChild.data for node in found)
    assert not xml.dom.minidom.parseString(files[0]).getElementsByTagName("script")


def test_settings_of_the_caller_are_neither_used_nor_changed():
    with matplotlib.rc_context({"svg.fonttype": "path", "text.usetex": True, "font.size": 40}):
        before = dict(matplotlib.rcParams)
        files = {}
        threads = [
            threading.Thread(target=lambda i=i: files.update({i: rendered(example().figure(), "svg")}))
            for i in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert dict(matplotlib.rcParams) == before
    assert len(files) == 4
    assert all(b"<text" in content for content in files.values())


def test_letters_that_no_font_has_only_warn():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rendered(example("\U0001f981 \u732b").figure(), "png")
    assert all("missing from font" in str(w.message) for w in caught)


def test_words():
    assert [number(v) for v in (0, 0.01234, -4.5, 1.23e-5, -2e9, 150)] == [
        "0",
        "0.0123",
        "\N{MINUS SIGN}4.5",
        "1.23\N{MULTIPLICATION SIGN}10⁻⁵",
        "\N{MINUS SIGN}2\N{MULTIPLICATION SIGN}10⁹",
        "150",
    ]
    assert [percent(p) for p in (0, 1e-5, 0.0123, 0.5, 0.99999, 1)] == [
        "0 %",
        "< 0.1 %",
        "1.23 %",
        "50.0 %",
        "> 99.9 %",
        "100.0 %",
    ]
    assert fit("one two three four five", 0.8, 9, lines=2) == ["one two", "three…"]
    assert fit("onetwothree", 0.75, 9) == ["onetwothr…"]
    assert fit("onetwothreefourfivesix", 0.75, 9, lines=2) == ["onetwothre", "efourfive…"]
    assert fit("a\nb\x00\ud800", 3, 9) == ["a b��"]
    assert fit("", 3, 9) == [""]
