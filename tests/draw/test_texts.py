"""Texts in colours: pages, figures, the terminal, tables; and what is saved of them."""

import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from gradtoken import Explanation, Explanations
from gradtoken.draw.colours import Scale
from gradtoken.draw.html import fragment, page
from gradtoken.draw.style import Style
from gradtoken.draw.texts import Shades, clean, cut, luminance, slices, told
from gradtoken.errors import BadRelevance, GradTokenError
from gradtoken.words import Piece, Words, words_in
from tests.test_words import SAMPLES

TEXT = 'The film, unforgettable\nand "bad" <b>&amp; שלום 🙂 tail'
HOSTILE = "<script>alert(1)</script>\" onmouseover='x' \x1b[31m\u202e {{facts}}"


def example(text=TEXT, values=None, read=None, special=False, **facts) -> Explanation:
    read = read or (0, len(text))
    spans = [span for span in words_in(text) if read[0] <= span[0] and span[1] <= read[1]]
    places, names = list(spans), [text[a:b] for a, b in spans]
    if special:
        places, names = [None, *places, None], ["[CLS]", *names, "[SEP]"]
    values = np.linspace(-1, 1, len(places)) if values is None else values
    pieces = [p for i, (a, b) in enumerate(spans) for p in (Piece(i, a, a + 1, 0.25), Piece(i, a + 1, b, 0.5))]
    words = Words(text, tuple(places), tuple(names), "sum", read, () if special else tuple(pieces))
    kept = {"target": 1, "name": "POS", "logit": 2.0, "probability": 0.9, "model": "tiny", "method": "gradtoken"}
    return Explanation(values, None, None, **(kept | facts), words=words)


class Text(HTMLParser):
    """What a reader sees in the block of the text, and the attributes of all elements."""

    def __init__(self, content):
        super().__init__()
        self.tags, self.attributes, self.seen, self.depth = [], [], [], 0
        self.feed(content)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if ("class", "text") in attrs or self.depth:
            self.depth += 1

    def handle_endtag(self, tag):
        self.depth -= self.depth > 0

    def handle_data(self, data):
        if self.depth:
            self.seen.append(data)


@pytest.mark.parametrize("text", [TEXT, *SAMPLES])
@pytest.mark.parametrize("read", [None, (4, 12)])
def test_slices_are_the_whole_text_in_order(text, read):
    one = example(text, read=read and tuple(min(edge, len(text)) for edge in read)) if words_in(text) else None
    found = list(slices(one.words))
    assert "".join(part.text for part in found) == text
    assert [part.text for part in found if part.word is not None] == list(one.words.names)
    unread = "".join(part.text for part in found if not part.read)
    assert unread == ("" if read is None else text[:4] + text[12:])


def test_special_tokens_stand_around_the_text():
    shown = "".join(part.text for part in slices(example(special=True).words))
    assert shown == f"[CLS] {TEXT} [SEP]"


@pytest.mark.parametrize("make", [page, fragment])
def test_the_text_is_in_the_page_as_it_is(make):
    one = example()
    found = Text(make([one]))
    assert "".join(found.seen) == TEXT
    assert found.tags.count("mark") == len(one.words.spans)
    titles = [value for name, value in found.attributes if name == "title"]
    assert titles[0] == "The: −1 (sum of T 0.25, he 0.5)"  # noqa: RUF001
    assert ("dir", "auto") in found.attributes


@pytest.mark.parametrize("make", [page, fragment])
def test_hostile_texts_and_labels_stay_text(make):
    facts = dict.fromkeys(("name", "source", "model", "note", "method"), HOSTILE)
    one = example(HOSTILE, predicted=((HOSTILE, 1.0),), **facts)
    content = make([one])
    allowed = {"html", "head", "meta", "title", "style", "body", "div", "figure", "figcaption", "b", "br", "mark"}
    allowed |= {"span", "label", "input", "table", "tr", "th", "td", "script", "output"}
    found = Text(content)
    assert set(found.tags) <= allowed
    assert found.tags.count("script") == (make is page)
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    assert "\x1b" not in content
    assert "\u202e" not in content
    assert "".join(found.seen) == clean(HOSTILE)


def test_colours_are_white_at_zero_and_say_the_sign():
    R = np.array([-2.0, 0.0, 1.0, 2.0])
    one = example("a b c d", R)
    shades = Shades.of(one, [one], Style())
    assert (shades.scale.low, shades.scale.high) == (-2, 2)
    assert shades.plain.tolist() == [False, True, False, False]
    red, blue = shades.colours[3].astype(int), shades.colours[0].astype(int)
    assert red[0] > red[2]
    assert blue[2] > blue[0]
    positive = example("a b c d", np.array([0.5, 0.6, 1.0, 2.0]))
    shades = Shades.of(positive, [positive], Style())
    assert (shades.scale.low, shades.scale.high, shades.scale.name) == (0, 2, "Oranges")
    assert luminance(shades.colours[0]) > luminance(shades.colours[3])
    negative = example("a b", np.array([-1.0, -0.5]))
    assert Shades.of(negative, [negative], Style()).scale.low == -1
    shared = Shades.of(positive, [positive, one], Style(shared_scale=True))
    assert (shared.scale.low, shared.scale.high) == (-2, 2)


@pytest.mark.parametrize("opacity", [0.3, 0.6, 1.0])
@pytest.mark.parametrize("name", ["RdBu_r", "Oranges", "jet", "inferno"])
def test_every_word_can_be_read_on_its_colour(name, opacity):
    one = example("a " * 256, np.linspace(-1, 1, 256))
    shades = Shades.of(one, [one], Style(colours=name, opacity=opacity))
    for i in range(256):
        light, ink = luminance(shades.colours[i]) + 0.05, 0.05 if shades.ink(i) == "black" else 1.05
        assert max(light, ink) / min(light, ink) >= 4.4  # WCAG 2 asks for 4.5


def test_masks_hide_words():
    one = example("a b c d", np.array([4.0, 3.0, 2.0, 1.0]))
    assert Shades.of(one, [one], Style(top=0.5)).hidden.tolist() == [False, False, True, True]
    assert Shades.of(one, [one], Style(threshold=0.7)).hidden.tolist() == [False, False, True, True]
    assert "#737373" in page([one], top=0.5)


def test_what_stands_out_is_told():
    one = example("good bad so", np.array([0.5, -0.25, 0.0]))
    assert told(one).replace("\u200e", "") == "for POS: “good” 0.5; against: “bad” −0.25"  # noqa: RUF001
    assert told(example("a", np.zeros(1))) == "every word has the value zero"
    assert cut(one) == ""
    assert (
        cut(example(read=(0, 9)))
        == f"grey: {len(TEXT[9:].strip())} of {len(TEXT)} characters that the model did not read"
    )


@pytest.mark.parametrize("text", [TEXT, *SAMPLES, "a" * 500, "x y\n\n" * 200, HOSTILE])
@pytest.mark.parametrize("style", [{}, {"top": 0.3}])
def test_figures_of_any_text(tmp_path, text, style):
    one = example(text)
    picture = Image.open(one.save(tmp_path / "a.png", **style))
    assert picture.width == 1440
    assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 10
    if not style:
        assert one.save(tmp_path / "a.svg").stat().st_size > 1000


def test_a_figure_shows_the_first_lines_of_a_long_text():
    one = example("word " * 5000)
    texts = [text.get_text() for text in one.figure().texts]
    assert any(re.fullmatch(r"the first 60 of \d+ lines; \.html shows all", text) for text in texts)


def test_a_figure_of_a_picture_and_of_a_text_has_both():
    picture = Explanation(np.arange(4.0).reshape(2, 2), Image.new("RGB", (8, 8)), None, 1, "CAT", 1.0)
    drawn = Explanations((example(), picture)).figure()
    texts = [text for text in drawn.texts if text.get_text() in ("CAT", "POS")]
    above, below = sorted(texts, key=lambda text: -text.get_position()[1])
    assert (above.get_text(), below.get_text()) == ("CAT", "POS")
    assert sum(bool(ax.images) for ax in drawn.axes) == 4, "the picture, its map, and a bar for each"
    assert drawn.get_figheight() > Explanations((picture,)).figure().get_figheight() + 0.5
    with pytest.raises(BadRelevance, match=r"\.txt lists the words of a text, and this is a picture"):
        picture.save("a.txt")


def terminal(one, **options) -> str:
    console = Console(file=io.StringIO(), width=100, **options)
    console.print(one)
    return console.file.getvalue()


def test_the_terminal():
    shown = terminal(example(), force_terminal=True, color_system="truecolor")
    assert "\x1b[30;48;2;" in shown
    sixteen = terminal(
        example("a b c d", np.array([1.0, 0.2, 0.0, -1.0])), force_terminal=True, color_system="standard"
    )
    assert [look in sixteen for look in ("\x1b[37;41ma", "\x1b[31mb", "\x1b[37;44md")] == [True] * 3
    plain = terminal(Explanations((example(), example(HOSTILE, name=HOSTILE))))
    assert "unforgettable" in plain
    assert "for POS:" in plain
    assert "\x1b" not in plain
    assert "\u202e" not in plain
    assert "save as .html" in terminal(example("word " * 10_000))


@pytest.mark.parametrize("suffix", [".json", ".npz"])
@pytest.mark.parametrize("special", [False, True])
def test_texts_are_saved_whole(tmp_path, suffix, special):
    both = Explanations((example(special=special), example(HOSTILE)))
    for one, again in zip(both, Explanations.load(both.save(tmp_path / f"a{suffix}")), strict=True):
        np.testing.assert_array_equal(again.relevance, one.relevance)
        assert vars(again.words) == vars(one.words)
        assert again.to_dict() == one.to_dict()


def test_a_table_of_words(tmp_path):
    lines = example('a\tb "c"\nd', np.arange(6.0), source="x").save(tmp_path / "a.txt").read_text().splitlines()
    assert lines[:2] == ["# POS", "# probability 90.0 %, logit 2"]
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    assert [row[0] for row in rows] == ["0", "1", "2", "3", "4", "5"]
    assert rows[1][1:] == ["2", "3", "b"]
    assert [row[3] for row in rows] == ["a", "b", '\\"', "c", '\\"', "d"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spans": [[0, 99]]}, "a name and a span in the text"),
        ({"names": []}, "a name and a span in the text"),
        ({"spans": [["0", 1]]}, "expected span to be int"),
        ({"text": 3}, "expected text to be str"),
        ({"pieces": [[7, 0, 1, 0.5]]}, "word pieces inside the text"),
        ({"pieces": [[0, 0, 1, "x"]]}, "expected piece to be"),
    ],
)
def test_damaged_words_are_refused(tmp_path, change, message):
    path = example("a", np.ones(1)).save(tmp_path / "a.json")
    content = json.loads(path.read_text())
    content["explanations"][0]["words"] |= change
    path.write_text(json.dumps(content))
    with pytest.raises(GradTokenError, match=message):
        Explanation.load(path)


def test_words_and_values_must_match():
    with pytest.raises(BadRelevance, match=r"expected relevance of 2 words, got shape \(3,\)"):
        example("a b", np.ones(3))


def test_scales_of_texts_keep_raw_ends():
    one = example("a b", np.array([0.5, 1.0]))
    assert Shades.of(one, [one], Style(limits=(0.0, 4.0))).scale == Scale(0.0, 4.0, "Oranges", (False, False))
