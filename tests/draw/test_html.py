"""The page: self-contained, safe, and with the values that were computed."""

import base64
import io
import json
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from gradtoken.draw.html import fragment, page
from gradtoken.errors import BadRelevance
from tests.test_result import HOSTILE, example


class Page(HTMLParser):
    """Tags, attributes and text of a document."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.words.append(data)

    def of(self, name):
        return [value for attribute, value in self.attributes if attribute == name]


def test_values_and_place_are_in_the_page():
    one = example(box=(10.0, -15.0, 60.0, 45.0))
    data = json.loads(Page(page([one])).of("data-map")[0])
    assert data["box"] == [0.2, -0.5, 1.2, 1.5]
    np.testing.assert_allclose(data["values"], one.relevance, rtol=1e-3)


def test_pictures_are_inside_the_page():
    found = Page(page([example()]))
    sources = found.of("src")
    assert len(sources) == 2
    for source in sources:
        content = base64.b64decode(source.removeprefix("data:image/jpeg;base64,"))
        assert Image.open(io.BytesIO(content)).size == (900, 540)
    assert not [v for _, v in found.attributes if v and v.startswith(("http", "//"))]
    assert "default-src 'none'" in " ".join(found.of("content"))


@pytest.mark.parametrize("make", [page, fragment])
def test_hostile_text_stays_text(make):
    hostile = HOSTILE + "' onload='x\"{{facts}}"
    facts = dict.fromkeys(("source", "model", "note", "method"), hostile)
    one = example(
        hostile, predicted=((hostile, 1.0),), options={hostile: hostile}, versions={hostile: hostile}, **facts
    )
    found = Page(make([one]))
    assert found.tags.count("script") == (1 if make is page else 0)
    assert "onload" not in [name for name, _ in found.attributes]
    assert any('<script>alert("x")</script>&' in text for text in found.words)


def test_facts_differ_by_map():
    text = " ".join(Page(page([example(), example("dog", method="rollout")])).words)
    assert "gradtoken depth=2; rollout depth=2" in text
    assert "cat 75.0 %, dog 20.0 %" in text


def test_maps_of_pixels_are_in_the_page_as_half_floats():
    pixels = np.random.default_rng(0).normal(size=(90, 70)).astype(np.float32) * 1e-9
    data = json.loads(Page(page([example(relevance=pixels)])).of("data-map")[0])
    assert (data["rows"], data["columns"]) == (90, 70)
    halves = np.frombuffer(base64.b64decode(data["halves"]), "<f2").reshape(90, 70)
    np.testing.assert_allclose(halves.astype(np.float64) * data["unit"], pixels, rtol=1e-3, atol=1e-7 * data["unit"])
    huge = json.loads(Page(page([example(relevance=np.zeros((2**10, 2**10 + 1)))])).of("data-map")[0])
    assert set(huge) == {"box", "rows", "columns"}


def test_notebook_has_no_script():
    text = example()._repr_html_()
    assert "<script" not in text
    assert "<style" not in text


def test_maps_without_picture_or_grid():
    assert "data-map" in page([example(picture=None)])
    assert "data:image/png" in page([example(relevance=np.arange(4.0))])
    with pytest.raises(BadRelevance, match="no explanation to draw"):
        page([])
