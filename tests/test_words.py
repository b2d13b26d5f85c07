"""Words of a text, and word pieces of every kind of tokenizer put together to words."""

import functools
import itertools
import random

import numpy as np
import pytest

from gradtoken.errors import GradTokenError, UnknownName
from gradtoken.models.text import Encode
from gradtoken.pieces import MERGES, Grouping, grouped
from gradtoken.words import Piece, Words, words_in
from tests import tokenizers

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

SAMPLES = [
    "The film was UNforgettable, isn't it?  3.14 e.g.5 well-made 1997-98 don\u2019t -x- x_y",
    "👩‍👩‍👧 🇩🇪🇫🇷 👍🏽 a🙂b 1\u20e3 ❤️",
    "電影很好看。映画はとても良い。 ภาพยนตร์ดีมาก सुन्दर फिल्म",
    "שָׁלוֹם עולם, הסרט טוב! فيلم جيد جدا 12 و 3",
    "İstanbul ǅ ﬁne ½ ⅷ \u0301x e\u0301te ß ẞ",
    "a\nb\r\n\n\tc \x00\x01 d\u200be\ufefff\u2028g",
    "[SEP] [CLS] </s> <s> <unk> [UNK] ## ▁ Ġ",
]
texts_of = st.one_of(
    st.text(max_size=60),
    st.lists(st.sampled_from([*" ".join(SAMPLES)]), max_size=60).map("".join),
    st.lists(st.sampled_from(" ".join(SAMPLES).split()), max_size=12).map(" ".join),
).filter(lambda text: not any("\ud800" <= c <= "\udfff" for c in text))


@functools.cache
def encode(kind: str) -> Encode:
    return Encode(tokenizers.KINDS[kind](4096), 4096)


def test_words_are_what_a_reader_calls_words():
    found = [[text[a:b] for a, b in words_in(text)] for text in SAMPLES]
    expected = "The film was UNforgettable , isn't it ? 3.14 e . g . 5 well-made 1997-98 don\u2019t - x - x_y"
    assert " ".join(found[0]) == expected
    assert found[1] == ["👩‍👩‍👧", "🇩🇪🇫🇷", "👍🏽", "a", "🙂", "b", "1\u20e3", "❤️"]
    assert found[2][:9] == ["電", "影", "很", "好", "看", "。", "映", "画", "は"]
    assert found[2][-2:] == ["सुन्दर", "फिल्म"]
    assert found[3] == ["שָׁלוֹם", "עולם", ",", "הסרט", "טוב", "!", "فيلم", "جيد", "جدا", "12", "و", "3"]
    assert found[5] == [*"abcdefg"]


@hypothesis.given(texts_of)
@hypothesis.settings(deadline=None, max_examples=300)
def test_words_hold_every_letter_once(text):
    spans = words_in(text)
    assert all(a < b for a, b in spans)
    assert all(b <= a for (_, b), (a, _) in itertools.pairwise(spans))
    inside = "".join(text[a:b] for a, b in spans)
    assert [c for c in text if c.isalnum()] == [c for c in inside if c.isalnum()]
    assert not any(c.isspace() for c in inside)


@pytest.mark.parametrize("kind", tokenizers.KINDS)
@hypothesis.given(text=texts_of)
@hypothesis.settings(
    deadline=None, max_examples=100, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
def test_words_of_pieces_are_slices_of_the_text(kind, text):
    windows = encode(kind).windows(text)
    spans = [span for span, _ in windows.tokens if span is not None]
    words, owners = grouped(text, spans)
    assert all(b <= a for (_, b), (a, _) in itertools.pairwise(words)), "words do not overlap"
    assert set(owners) == set(range(len(words))), "each word has a piece and each piece a word"
    whole = words_in(text)
    for (a, b), own in zip(spans, owners, strict=True):
        touched = [(first, end) for first, end in whole if a < end and first < b and a < b]
        assert all(words[own][0] <= first and end <= words[own][1] for first, end in touched)
        assert not touched or words[own][0] in {first for first, _ in whole}, "words begin where those of the text do"
    random.seed(0)
    values = np.array([random.uniform(-1, 1) for _ in windows.tokens])
    grouping = Grouping.of(text, windows.tokens, "sum", special=True)
    found, relevance = grouping.explained(values)
    np.testing.assert_allclose(relevance.sum(), values.sum(), atol=1e-9)
    assert all(name == text[slice(*span)] for name, span in zip(found.names, found.spans, strict=True) if span)


@pytest.mark.parametrize("kind", tokenizers.KINDS)
@pytest.mark.parametrize("text", SAMPLES)
def test_all_that_is_written_comes_back(kind, text):
    """Every word of the text is in a word of the pieces, but for what a tokenizer leaves out."""
    windows = encode(kind).windows(text)
    names = Grouping.of(text, windows.tokens, "sum", special=False).words.names
    written = [text[a:b] for a, b in words_in(text)]
    missing = [word for word in written if not any(word in name for name in names)]
    assert all(not any(c.isalnum() for c in word) for word in missing), missing


@pytest.mark.parametrize("kind", tokenizers.KINDS)
def test_words_without_signs_between_are_those_between_blanks(kind):
    text = "The film was never dull nor unforgettable"
    windows = encode(kind).windows(text)
    assert list(Grouping.of(text, windows.tokens, "sum", special=False).words.names) == text.split()


def test_unknown_words_and_upper_case_keep_their_letters():
    text = "ZZZ Bad ÉTÉ unLIKEly"
    grouping = Grouping.of(text, encode("WordPiece, few words").windows(text).tokens, "sum", special=True)
    assert grouping.words.names == ("[CLS]", "ZZZ", "Bad", "ÉTÉ", "unLIKEly", "[SEP]")


def test_pieces_in_several_words_make_one_of_them():
    words, owners = grouped("one, two three", [(0, 2), (2, 8), (9, 14)])
    assert words == [(0, 8), (9, 14)]
    assert owners == [0, 0, 1]


def test_pieces_of_blanks():
    text = " a\n b  "
    words, owners = grouped(text, [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (7, 7)])
    assert [text[a:b] for a, b in words] == ["a", "\n", "b"]
    assert owners == [0, 0, 1, 2, 2, 2, 2]
    assert grouped("  ", [(0, 2)]) == ([(0, 2)], [0])
    assert grouped("", []) == ([], [])


def test_the_rules():
    values, owners = np.array([1.0, -3.0, 2.0, 0.5, 3.0]), np.array([0, 0, 0, 1, 2])
    found = {name: rule(values, owners, 3).tolist() for name, rule in MERGES.items()}
    assert found == {"sum": [0.0, 0.5, 3.0], "max": [-3.0, 0.5, 3.0], "mean": [0.0, 0.5, 3.0]}
    tied = MERGES["max"](np.array([-2.0, 2.0]), np.array([0, 0]), 1)
    assert tied.tolist() == [-2.0]
    with pytest.raises(UnknownName, match="no rule for word pieces 'avg'; known: max, sum, mean, pieces"):
        Grouping.of("a", [((0, 1), "a")], "avg", special=False)


def test_pieces_for_themselves():
    text = "unlikely bad"
    tokens = [(None, "<s>"), ((0, 2), "un"), ((2, 8), "likely"), ((8, 12), " bad"), (None, "</s>")]
    words, values = Grouping.of(text, tokens, "pieces", special=True).explained(np.arange(5.0))
    assert words.names == ("<s>", "un", "likely", "bad", "</s>")
    assert values.tolist() == [0, 1, 2, 3, 4]
    assert words.pieces == (Piece(1, 0, 2, 1.0), Piece(2, 2, 8, 2.0), Piece(3, 8, 12, 3.0))
    assert words.read == (0, 12)


def test_words_that_do_not_fit_are_refused():
    with pytest.raises(GradTokenError, match="a name and a span in the text of 3 characters for each word"):
        Words("one", ((0, 4),), ("one",), "sum", (0, 3))
    with pytest.raises(GradTokenError, match="word pieces inside the text, each of one of its words"):
        Words("one", ((0, 3),), ("one",), "sum", (0, 3), (Piece(1, 0, 3, 0.0),))
