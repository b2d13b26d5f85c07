"""Words that are erased or kept alone: the protocol against a naive version, and what must hold whatever the model."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from gradtoken.benchmark.plan import Plan, Variant, planned
from gradtoken.benchmark.report import Report
from gradtoken.benchmark.running import run
from gradtoken.benchmark.work import measured
from gradtoken.data.sample import Sample
from gradtoken.errors import BadModel
from gradtoken.methods import METHODS
from gradtoken.metrics.words import word_scores
from gradtoken.protocols import PROTOCOLS
from gradtoken.protocols.words import first_of, order_of
from tests import texts
from tests.protocols import tiny
from tests.reference import rationales as naive

FAITHFUL = PROTOCOLS["faithfulness/eraser"]
SOME = ("gradtoken", "raw_attention", "generic_attention", "input_x_gradient")
NAMES = ("comprehensiveness", "sufficiency", "erased", "kept")


def values(samples, method="gradtoken", batch=8, protocol=FAITHFUL, model=None):
    """Values by sample and metric, and reasons by sample."""
    plan = Plan(protocol, texts.data_of(samples), model or texts.text_model(), (Variant(method),), batch=batch)
    found, reasons = {}, {}
    for row in next(iter(measured(plan, range(len(samples)), plan.variants).values())):
        if row.reason:
            reasons[row.sample] = row.reason
        else:
            assert row.ask == "predicted"
            found.setdefault(row.sample, {})[row.metric] = row.values
    return found, reasons


def close(found, expected):
    assert found.keys() == expected.keys()
    for sample, metrics in expected.items():
        assert sorted(found[sample]) == sorted(NAMES)
        for name in NAMES:
            np.testing.assert_allclose(
                found[sample][name], metrics[name], rtol=0, atol=1e-9, err_msg=f"{sample} {name}"
            )


def test_the_published_settings():
    assert FAITHFUL.asks == ("predicted",)
    assert FAITHFUL.shares == (0.01, 0.05, 0.1, 0.2, 0.5)
    assert [(one.name, one.better) for one in FAITHFUL.numbers] == [
        ("comprehensiveness", "higher"),
        ("sufficiency", "lower"),
    ]


@pytest.mark.parametrize("method", SOME)
@pytest.mark.parametrize("batch", [1, 4])
def test_equal_to_the_naive_version(method, batch):
    samples, model = texts.documents(), texts.text_model()
    found, reasons = values(samples, method, batch, model=model)
    assert not reasons
    expected = {
        one.id: naive.erasing(model.net, texts.VOCAB, texts.LENGTH, one.truth.words, method, {}, FAITHFUL.shares)
        for one in samples
    }
    close(found, expected)
    assert max(abs(one["comprehensiveness"][0]) for one in expected.values()) > 1e-4


def test_all_words_erased_is_what_no_word_kept_would_be():
    """With the share 1 the erased text is empty and the kept one whole."""
    samples, model = texts.documents(), texts.text_model()
    found, _ = values(samples, protocol=replace(FAITHFUL, shares=(1.0,)), model=model)
    empty = [("[CLS]", -1, -1), ("[SEP]", -1, -1)]
    for one in samples:
        pieces = naive.read(one.input, texts.VOCAB, texts.LENGTH)
        y = [naive.probability(model.net, pieces, texts.VOCAB, cls) for cls in range(2)]
        fall = max(y) - naive.probability(model.net, empty, texts.VOCAB, y.index(max(y)))
        assert found[one.id]["erased"][0] == pytest.approx(fall, abs=1e-9)
        assert found[one.id]["kept"][0] == pytest.approx(0, abs=1e-9)


def test_negative_words_come_last_and_equal_ones_in_reading_order():
    text = "bad good film never"
    reading = FAITHFUL.view(texts.document("a", text, []), texts.text_model()).truth
    R = torch.tensor([9.0, -1.0, 0.0, 2.0, 0.0, 9.0, 7.0])  # [CLS], four words, [SEP], padding
    assert order_of(R, reading).tolist() == [2, 1, 3, 0]
    assert word_scores(R[:6], reading.spans, reading.words, signed=True).tolist() == [-1, 0, 2, 0]
    assert word_scores(R[:6], reading.spans, reading.words).tolist() == [0, 0, 2, 0]


@pytest.mark.parametrize(("share", "count"), [(0.01, 1), (0.05, 1), (0.1, 1), (0.2, 2), (0.5, 5), (1.0, 10)])
def test_shares_are_rounded_up_and_a_tenth_of_ten_is_one(share, count):
    reading = FAITHFUL.view(texts.document("a", "a film " * 5, []), texts.text_model()).truth
    first = first_of(torch.arange(10), share, reading)
    assert first.tolist() == [True] * count + [False] * (10 - count)


def test_what_the_model_did_not_read_is_not_moved_in():
    """A text that is cut off stays as long as what was read, less the words erased."""
    reading = FAITHFUL.view(texts.documents()[1], texts.text_model()).truth
    order = order_of(torch.arange(float(texts.LENGTH)), reading)
    assert len(order) == texts.LENGTH - 2 < len(reading.words)
    left = reading.without(first_of(order, 0.5, reading))
    assert {len(x) for x in left.values()} == {texts.LENGTH - 11}
    assert left["input_ids"].tolist() == [*reading.encoded.inputs["input_ids"].tolist()[:12], texts.VOCAB["[SEP]"]]


@pytest.mark.parametrize("method", METHODS)
def test_padded_batches_give_what_single_texts_give(method):
    model = texts.text_model()
    one, refused = values(texts.documents(), method, 1, model=model)
    together, reasons = values(texts.documents(), method, 6, model=model)
    assert reasons == refused
    close(together, one)


def test_texts_without_a_truth_are_enough_and_others_are_left_out():
    samples = [Sample("plain", "a good film", ()), Sample("empty", " ", ()), Sample("picture", tiny.picture(0), (1,))]
    found, reasons = values(samples)
    assert list(found) == ["plain"]
    assert reasons == {
        "empty": "empty: left out, for the text has no words",
        "picture": "picture: expected a text, got a picture; faithfulness/eraser is for texts",
    }


def test_a_model_of_pictures_is_refused():
    with pytest.raises(BadModel, match="tiny reads pictures; expected a model of texts"):
        planned(FAITHFUL, texts.data_of(texts.documents()), tiny.tiny_model())


def test_a_report_has_the_means_and_the_curves(tmp_path):
    samples, model = texts.documents(), texts.text_model()
    plan = planned(FAITHFUL, texts.data_of(samples), model, ("gradtoken", "random"))
    line = next(one for one in Report.of(run(plan, tmp_path).root).lines if one.title == "gradtoken")
    found, _ = values(samples, model=model)
    for name in ("comprehensiveness", "sufficiency"):
        assert line.numbers[name].value == pytest.approx(np.mean([one[name][0] for one in found.values()]))
    erased, kept = line.curves.values()
    np.testing.assert_allclose(erased.y, np.mean([one["erased"] for one in found.values()], axis=0))
    np.testing.assert_allclose(np.mean(kept.y), line.numbers["sufficiency"].value)
