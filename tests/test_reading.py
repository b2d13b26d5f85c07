"""Texts explained by the simple call: words, windows, sources, refusals."""

import copy
import io
from dataclasses import replace

import numpy as np
import pytest
import torch

import gradtoken
from gradtoken.errors import BadModel, BadRelevance, BadTarget, BadText, GradTokenError, UnknownName
from gradtoken.methods import METHODS
from gradtoken.models.labels import Labels
from gradtoken.models.model import Model
from gradtoken.models.text import Encode
from gradtoken.probe import Probe
from gradtoken.progress import showing
from gradtoken.reading import Reading
from tests import texts, tokenizers
from tests.methods.test_every_method import CHEAP

LONG = "the film is not good . a bad plot , un-likely . " * 4


@pytest.fixture(scope="module")
def model():
    return texts.text_model(24, names=("NEG", "POS"))


def logits(model, text):
    inputs = {name: x[None] for name, x in model.for_texts(text).inputs.items()}
    return model.net(**inputs).logits[0].detach()


def test_an_explanation_says_what_it_is(model):
    text = "  The film was UNFORGETTABLE ,\nnever dull"
    one = gradtoken.explain(text, model, "POS", heads="mean", merge="sum")
    y = logits(model, text)
    assert one.words.names == ("The", "film", "was", "UNFORGETTABLE", ",", "never", "dull")
    assert [text[a:b] for a, b in one.words.spans] == list(one.words.names)
    assert one.words.text == text
    assert (one.target, one.name, one.method, one.source, one.picture) == (1, "POS", "gradtoken", "", None)
    assert one.logit == pytest.approx(y[1].item())
    assert one.probability == pytest.approx(y.softmax(0)[1].item())
    assert one.options == {"heads": "mean"}
    assert one.predicted[0][0] == ("NEG", "POS")[int(y.argmax())]
    assert one.note == "a word has the sum of its pieces"
    R = gradtoken.attribute(model.net, model.for_texts.padded([model.for_texts(text).inputs]), 1, heads="mean")[0]
    np.testing.assert_allclose(one.relevance, [*R[1:4], R[4:6].sum(), *R[6:9]], rtol=1e-5)
    assert [piece.word for piece in one.words.pieces] == [0, 1, 2, 3, 3, 4, 5, 6]
    np.testing.assert_allclose([piece.relevance for piece in one.words.pieces], R[1:-1])


@pytest.mark.parametrize("method", METHODS)
def test_every_method_explains_texts_or_says_why_not(model, method):
    target, options = ["NEG", "POS"], CHEAP.get(method, {})
    try:
        both = gradtoken.explain(texts.TEXT, model, target, [method], allow_blank=True, **options, merge="sum")
    except BadModel as error:
        reason = str(error)
    else:
        reason = ""
    if reason:
        assert len(reason) > 40, "a refusal gives its reason"
        pytest.skip(f"{method}: {reason}")
    assert [one.name for one in both] == ["NEG", "POS"]
    pieces = [sum(p.relevance for p in one.words.pieces) for one in both]
    np.testing.assert_allclose([one.relevance.sum() for one in both], pieces, rtol=1e-4, atol=1e-6)


def test_special_tokens_are_kept_on_request(model):
    without, all_of = (
        gradtoken.explain("the film is bad", model, 1, "attn_lrp", special=special) for special in (False, True)
    )
    assert all_of.words.names == ("[CLS]", *without.words.names, "[SEP]")
    assert all_of.words.spans == (None, *without.words.spans, None)
    np.testing.assert_array_equal(all_of.relevance[1:-1], without.relevance)


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_long_text_is_cut_off_and_that_is_said(side):
    tokenizer = texts.tokenizer(24)
    tokenizer.truncation_side = side
    model = Model(texts.bert(24).double(), "tiny", Encode(tokenizer, 24), None, "random")
    one = gradtoken.explain(LONG, model, 1, "attn_lrp")
    assert "22 of 56 tokens were read; windows=5 reads all" in one.note
    first, end = one.words.read
    assert first == 0 if side == "right" else end == len(LONG.rstrip())
    assert all(first <= a and b <= end for a, b in one.words.spans)


def test_windows_are_means_over_those_that_read_a_token(model):
    one = gradtoken.explain(LONG, model, 1, "attn_lrp", windows=5, merge="pieces")
    encode, net = model.for_texts, model.net
    parts = encode.windows(LONG, 5).parts
    maps = [gradtoken.attribute(net, encode.padded([part.inputs]), 1, "attn_lrp")[0] for part in parts]
    found: dict[tuple[int, int], list[float]] = {}
    for part, R in zip(parts, maps, strict=True):
        for span, r in zip(part.spans, R.tolist(), strict=True):
            if span is not None:
                found.setdefault(span, []).append(r)
    assert max(map(len, found.values())) == 2
    np.testing.assert_allclose(one.relevance, [np.mean(found[span]) for span in one.words.spans], rtol=1e-5)
    outputs = torch.stack([net(**encode.padded([part.inputs])).logits[0] for part in parts]).detach()
    assert one.logit == pytest.approx(outputs[:, 1].mean().item())
    assert one.probability == pytest.approx(outputs.mean(dim=0).softmax(0)[1].item())
    assert f"read in {len(parts)} windows that share 5 tokens; all values are their means" in one.note


def test_windows_with_callables_and_the_prediction(model):
    def contrast(output):
        return output.logits[:, 0] - output.logits[:, 1]

    both = gradtoken.explain(LONG, model, [contrast, None, 0, 1], "attn_lrp", windows=0, merge="sum")
    assert both[0].logit == pytest.approx(both[2].logit - both[3].logit)
    assert both[1].name == both[1].predicted[0][0]
    np.testing.assert_allclose(both[0].relevance, both[2].relevance - both[3].relevance, atol=1e-6)


def test_a_text_that_fits_is_one_window(model):
    one, other = (gradtoken.explain("the film is bad", model, 1, "attn_lrp", windows=w) for w in (None, 3))
    np.testing.assert_array_equal(one.relevance, other.relevance)
    assert one.note == other.note


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("kind", tokenizers.KINDS)
def test_windows_read_each_token_of_the_text(kind, side):
    text = "The good film, acted in 1997 👍🏽 電影 un-likely. " * 3
    tokenizer = tokenizers.KINDS[kind](4096)
    whole = Encode(tokenizer, 4096)(text)
    tokenizer.truncation_side = side
    windows = Encode(tokenizer, 11).windows(text, 3)
    ids = [None] * len(windows.tokens)
    for part, numbers in zip(windows.parts, windows.numbers, strict=True):
        for number, token in zip(numbers, part.inputs["input_ids"].tolist(), strict=True):
            assert ids[number] in (None, token)
            ids[number] = token
    assert ids == whole.inputs["input_ids"].tolist()
    assert windows.total == windows.content == sum(span is not None for span in whole.spans)


def test_where_a_text_may_be(model, tmp_path):
    path = tmp_path / "review.txt"
    path.write_bytes(b"\xef\xbb\xbfnever dull")
    expected = gradtoken.explain("never dull", model, 1, "attn_lrp")
    for source in (path, b"never dull", io.BytesIO(b"never dull"), io.StringIO("never dull")):
        one = gradtoken.explain(source, model, 1, "attn_lrp")
        np.testing.assert_array_equal(one.relevance, expected.relevance)
        assert one.words.text == "never dull"
        assert one.source == (str(path) if source is path else "")
    with pytest.raises(BadText, match=r"is a file; for the text in it give pathlib\.Path"):
        gradtoken.explain(str(path), model)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "the text is empty; expected at least one word"),
        (" \n\t ", "the text is empty"),
        ("\x00\x01", r"tiny finds no token in '\\x00\\x01'; expected at least one word"),
        ("a \ud800", "character 2 of the text is half of a pair"),
        (b"\x00\x01\x02", "the 3 bytes given: binary data, not a text; expected UTF-8"),
        (b"caf\xe9", "no UTF-8 at byte 3; convert it"),
        (7, "expected a text, its path, bytes or an open file, got int"),
    ],
)
def test_bad_texts(model, source, message):
    with pytest.raises(BadText, match=message):
        gradtoken.explain(source, model)


def test_bad_files(model, tmp_path):
    with pytest.raises(BadText, match="is a folder or a device, not a text"):
        gradtoken.explain(tmp_path, model)
    with pytest.raises(BadText, match=r"no file .*; check the name and the folder"):
        gradtoken.explain(tmp_path / "a.txt", model)


def test_one_token(model):
    one = gradtoken.explain("bad", model, 1, heads="mean")
    assert one.words.names == ("bad",)
    assert one.relevance.shape == (1,)


def test_a_hundred_thousand_words(model):
    text = "the film is not good\n" * 20_000
    one = gradtoken.explain(text, model, 1, "attn_lrp")
    assert one.words.text == text
    assert "22 of 100,000 tokens were read" in one.note
    windows = model.for_texts.windows(text, 0)
    assert windows.content == 100_000


def test_progress_is_shown_for_many_windows(model):
    seen = []

    def show(steps, what):
        seen.append((what, len(steps)))
        yield from steps

    with showing(show):
        gradtoken.explain(LONG * 4, model, 1, "attn_lrp", windows=0)
    assert seen == [("windows", 2)] * 2


def test_options_of_reading(model):
    with pytest.raises(UnknownName, match="no rule for word pieces 'avg'; known: max, sum, mean, pieces"):
        gradtoken.explain("bad", model, merge="avg")
    with pytest.raises(BadTarget, match="windows that share 0 to 21 tokens of the 22 in each, got 22"):
        gradtoken.explain("bad", model, windows=22)
    with pytest.raises(GradTokenError, match="expected windows of the reading of a text as int or None, got 'all'"):
        gradtoken.explain("bad", model, windows="all")
    with pytest.raises(GradTokenError, match="expected special of the reading of a text as bool, got 1"):
        Reading(special=1)
    with pytest.raises(BadTarget, match="merge, special and windows are for texts, and bundled reads pictures"):
        gradtoken.explain(np.zeros((8, 8, 3), np.uint8), merge="sum")


def test_words_that_are_all_zero_are_refused_unless_they_are_wanted(model):
    net = copy.deepcopy(model.net)
    inputs = {name: x[None] for name, x in model.for_texts(texts.TEXT).inputs.items()}
    G = Probe(net, inputs, 1).dq.sum(dim=3)[0, 0]
    net.bert.encoder.layer[-1].attention.self.key.bias.data -= 1e6 * G.flatten()  # every k . G is below 0
    moved = replace(model, net=net)
    one = gradtoken.explain(texts.TEXT, moved, "POS", allow_blank=True)
    assert not one.relevance.any()
    with pytest.raises(BadRelevance, match="every value is zero"):
        gradtoken.explain(texts.TEXT, moved, "POS")


def test_labels_with_several_classes():
    model = Model(texts.bert(24, 3).double(), "tiny", Encode(texts.tokenizer(24), 24), Labels.of(["a", "b", "c"]), "")
    assert [one.name for one in gradtoken.explain("never dull", model, ["a", 2], "attn_lrp")] == ["a", "c"]
    with pytest.raises(UnknownName, match="no class is named 'd'"):
        gradtoken.explain("never dull", model, "d")
