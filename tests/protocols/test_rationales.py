"""Words against rationales: the protocol against a naive version."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gradtoken.benchmark.plan import Plan, Variant, planned
from gradtoken.benchmark.report import Report
from gradtoken.benchmark.running import run
from gradtoken.benchmark.work import measured
from gradtoken.data import open_data
from gradtoken.data.sample import Sample
from gradtoken.errors import BadModel, BadSample
from gradtoken.methods import METHODS
from gradtoken.models.model import Model
from gradtoken.models.text import Encode
from gradtoken.probe import LEARNT
from gradtoken.protocols import PROTOCOLS
from tests import texts
from tests.protocols import tiny
from tests.reference import rationales as naive

ERASER = PROTOCOLS["movies/eraser"]
MOVIES = Path(__file__).parents[3] / "shared" / "data" / "movies"
SOME = ("gradtoken", "raw_attention", "rollout", "gradcam", "transattrib", "generic_attention", "input_x_gradient")


def values(model, samples, method, batch=8, options=None):
    """Values by sample and metric, and reasons by sample."""
    chosen = ERASER.options.get(method, {}) if options is None else options
    plan = Plan(ERASER, texts.data_of(samples), model, (Variant(method, chosen),), batch=batch)
    found, reasons = {}, {}
    for row in next(iter(measured(plan, range(len(samples)), plan.variants).values())):
        if row.reason:
            reasons[row.sample] = row.reason
        else:
            assert row.ask == "label"
            found.setdefault(row.sample, {})[row.metric] = row.values
    return found, reasons


def close(found, expected, tolerance=1e-7):
    assert found.keys() == expected.keys()
    for sample, metrics in expected.items():
        assert found[sample].keys() == metrics.keys()
        for name, value in metrics.items():
            np.testing.assert_allclose(found[sample][name], value, rtol=0, atol=tolerance, err_msg=f"{sample} {name}")


def expected_of(model, samples, method):
    options = ERASER.options.get(method, {})
    return {
        one.id: naive.document(model.net, texts.VOCAB, texts.LENGTH, one, method, options, ERASER.ks) for one in samples
    }


def test_the_published_settings():
    assert ERASER.asks == ("label",)
    assert ERASER.ks == tuple(range(5, 81, 5))
    assert ERASER.averaged == (10, 20, 30, 40, 50, 60, 70, 80)


@pytest.mark.parametrize("method", SOME)
@pytest.mark.parametrize("batch", [1, 4])
def test_equal_to_the_naive_version(method, batch):
    model, samples = texts.text_model(), texts.documents()
    found, reasons = values(model, samples, method, batch)
    assert not reasons
    close(found, expected_of(model, samples, method))


def test_numbers_and_the_curve():
    model, samples = texts.text_model(), texts.documents()
    found, _ = values(model, samples, "gradtoken")
    metrics = next(iter(found.values()))
    means = {name: np.mean([one[name] for one in found.values()], axis=0) for name in metrics}
    expected = naive.numbers(list(expected_of(model, samples, "gradtoken").values()), ERASER.ks)
    tiny.same(tiny.concluded(ERASER, means), expected)
    ((title, (ks, F1)),) = ERASER.curves(means).items()
    assert (title, ks, F1.shape) == ("token-F1", ERASER.ks, (16,))
    stacked = {name: np.stack([value, value]) for name, value in means.items()}
    assert {value.shape for value in ERASER.conclude(stacked).values()} == {(2,)}


@pytest.mark.parametrize("method", METHODS)
def test_padded_batches_give_what_single_documents_give(method):
    model, samples = texts.text_model(), texts.documents()
    one, refused = values(model, samples, method, 1)
    together, reasons = values(model, samples, method, 6)
    assert reasons == refused
    close(together, one)
    if reasons:
        assert not one
        assert all("picture" in reason for reason in reasons.values()), reasons


def test_the_published_alignment_is_the_same_where_every_piece_is_known():
    text = "the film is n't good , actors acted unforgettable 1997 ! dull plots so unlikely"
    pieces = naive.read(text, texts.VOCAB, 20)
    scores = torch.randn(len(pieces), generator=torch.Generator().manual_seed(0)).tolist()
    words = text.split()
    ours, theirs = naive.word_scores(scores, pieces, words), naive.counted_scores(scores, pieces, words)
    assert np.isnan(ours).any()
    np.testing.assert_array_equal(ours, theirs)


def test_what_was_cut_off_counts_as_missed_and_is_recorded():
    text = "the film is not good . " * 8
    marked = [0, 1, 40, 41]
    found, _ = values(texts.text_model(), [texts.document("long", text, marked)], "gradtoken")
    assert found["long"]["words"] == [48, 4]
    assert found["long"]["unread"] == [48 - 22, 2]
    assert found["long"]["f1"][-1] == pytest.approx(2 * 2 / (22 + 4))


def test_the_label_is_explained_and_not_the_prediction(monkeypatch):
    asked = []
    known = METHODS["gradtoken"].call

    def watched(probe, **options):
        asked.append(probe.chosen.indices.tolist())
        return known(probe, **options)

    monkeypatch.setitem(METHODS, "gradtoken", replace(METHODS["gradtoken"], call=watched))
    one = "the film is not good"
    values(texts.text_model(), [texts.document("a", one, [1], 0), texts.document("b", one, [1], 1)], "gradtoken")
    assert asked == [[[0], [1]]]


def test_documents_that_cannot_be_measured_are_left_out_with_the_reason():
    samples = [
        texts.document("empty", "", []),
        texts.document("unmarked", "a film", []),
        texts.document("outside", "a film", [0], 2),
        Sample("plain", "a film", (1,)),
        Sample("picture", tiny.picture(0), (1,)),
        texts.document("good", "a film", [1]),
    ]
    found, reasons = values(texts.text_model(), samples, "gradtoken")
    assert list(found) == ["good"]
    assert reasons == {
        "empty": "empty: left out, for the text has no words",
        "unmarked": "unmarked: left out, for no word is marked",
        "outside": "outside: label 2 is outside the model's 2 classes",
        "plain": "plain: expected a text with marked words, got NoneType",
        "picture": "picture: expected a text with marked words, got NoneType",
    }


def test_models_that_do_not_fit_are_refused_before_anything_is_run():
    data = texts.data_of(texts.documents())
    with pytest.raises(BadModel, match="tiny reads pictures; expected a model of texts"):
        planned(ERASER, data, tiny.tiny_model())
    with pytest.raises(BadModel, match="explains the 2 classes of made here, and tiny has 3"):
        planned(ERASER, data, texts.text_model(classes=3))
    with pytest.raises(BadModel, match=r"tiny has class NEG as number 1; movies/eraser expects NEG, POS"):
        planned(ERASER, data, texts.text_model(names=("POSITIVE", "negative")))
    for names in (None, ("negative", "positive"), ("1 star", "5 stars")):
        assert planned(ERASER, data, texts.text_model(names=names)).data is data


def test_protocols_for_pictures_refuse_a_model_of_texts_and_texts():
    model, protocol = texts.text_model(), PROTOCOLS["perturbation/gradtoken2025"]
    samples = [Sample("picture", tiny.picture(0), (1,)), Sample("text", "a film", (1,))]
    assert tiny.reasons(protocol, samples, model) == {
        "picture": "BadModel: tiny reads texts; expected a model of pictures. For texts there are gradtoken.explain, "
        "gradtoken.attribute and the protocols on words, such as movies/eraser",
        "text": "text: expected a picture, got a text; perturbation/gradtoken2025 is for pictures",
    }


def test_methods_for_pictures_are_refused_once_for_a_batch():
    model, calls, counts = texts.text_model(), [], []
    model.net.register_forward_hook(lambda *_: calls.append(1))
    for method in ("raw_attention", "occlusion"):
        LEARNT.clear()
        calls.clear()
        values(model, texts.documents(), method, 6)
        counts.append(len(calls))
    assert counts[0] == counts[1]


def test_a_text_as_the_model_reads_it_has_no_pixels():
    view = ERASER.view(texts.documents()[0], texts.text_model())
    assert view.truth.spans[:3] == ((0, 0), (0, 3), (4, 8))
    with pytest.raises(BadSample, match="all: expected a picture, got a text"):
        view.pixels  # noqa: B018


def test_a_plan_of_texts_knows_its_tokenizer():
    data = texts.data_of(texts.documents())
    settings = [planned(ERASER, data, texts.text_model(n)).manifest()["settings"]["preprocessing"] for n in (20, 24)]
    assert [one["length"] for one in settings] == [20, 24]
    assert settings[0]["rules"] == settings[1]["rules"]


@pytest.mark.skipif(not MOVIES.is_dir(), reason="the reviews are not here")
def test_reviews_end_to_end(tmp_path):
    data = open_data(MOVIES)
    data = replace(data, ids=data.ids[:4])
    samples = list(data)
    tokenizer = texts.tokenizer(96, [sample.input for sample in samples])
    net = texts.bert(96, vocab_size=len(tokenizer)).double()
    model = Model(net, "tiny", Encode(tokenizer, 96), None, "random")
    plan = planned(ERASER, data, model, SOME, batch=3)
    report = Report.of(run(plan, tmp_path).root)
    assert {line.title.split()[0]: line.samples for line in report.lines} == dict.fromkeys(SOME, 4)
    vocab = tokenizer.get_vocab()
    for line in report.lines:
        method = line.title.split()[0]
        options = ERASER.options.get(method, {})
        expected = naive.numbers(
            [naive.document(net, vocab, 96, one, method, options, ERASER.ks) for one in samples], ERASER.ks
        )
        tiny.same({name: one.value for name, one in line.numbers.items()}, expected)
        assert 0.5 < line.numbers["marked words not read"].value < 1
    for one in samples:
        pieces = naive.read(one.input, vocab, 96)
        scores = np.random.default_rng(0).normal(size=len(pieces)).tolist()
        ours = naive.word_scores(scores, pieces, one.truth.words)
        np.testing.assert_array_equal(ours, naive.counted_scores(scores, pieces, one.truth.words))
