"""Protocols on probabilities, of a model each of whose classes may be there: sigmoids, as in explanations."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import gradtoken
from gradtoken.benchmark.plan import Plan, Variant
from gradtoken.benchmark.ready import prepared
from gradtoken.benchmark.work import batch_of, measured
from gradtoken.choosing import Choice
from gradtoken.data.sample import Sample
from gradtoken.methods import METHODS
from gradtoken.probe import Probe
from gradtoken.protocols import PROTOCOLS
from gradtoken.protocols.mosaics import sure_of
from tests import texts
from tests.protocols.tiny import numbers, picture, plan_of, rows, tiny_model

MODEL = replace(tiny_model(), independent=True)
SAMPLES = [Sample(str(i), picture(i), (i % 5,)) for i in range(3)]


def first_of(found, metric: str) -> float:
    return next(row.values for row in found if row.metric == metric and not row.reason)


@pytest.mark.parametrize(
    "name", [name for name, one in PROTOCOLS.items() if getattr(one, "score", "") == "probability"]
)
def test_curves_begin_at_the_probability_that_an_explanation_has(name):
    protocol = PROTOCOLS[name]
    for sample in SAMPLES:
        found = rows(protocol, [sample], MODEL)
        ask = "predicted" if "predicted" in protocol.asks else "label"
        target = None if ask == "predicted" else sample.labels[0]
        pixels = protocol.view(sample, MODEL).pixels[None].double()
        with torch.no_grad():
            logits = MODEL.net(pixels)[0]
        expected = logits.sigmoid()[int(logits.argmax()) if target is None else target]
        untouched = [row.values for row in found if row.metric == "untouched" and row.ask == ask]
        assert untouched[0] == pytest.approx([expected.item()], rel=1e-6), name


def test_confidence_of_one_class_is_not_of_the_others():
    """A constant added to all logits is nothing to a softmax; a sigmoid sees it."""
    protocol = PROTOCOLS["confidence/chattopadhyay2018"]

    class Raised(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = MODEL.net

        def forward(self, x):
            return self.net(x) + 3

    raised, plain = replace(MODEL, net=Raised()), replace(MODEL, independent=False)
    softmax = numbers(protocol, SAMPLES, plain)["predicted"]
    np.testing.assert_allclose(
        list(numbers(protocol, SAMPLES, replace(raised, independent=False))["predicted"].values()),
        list(softmax.values()),
        rtol=1e-9,
    )
    one, other = (numbers(protocol, SAMPLES, model)["predicted"] for model in (MODEL, raised))
    assert one["drop in deletion"] != pytest.approx(other["drop in deletion"], rel=1e-3)
    assert one["drop in deletion"] != pytest.approx(softmax["drop in deletion"], rel=1e-3)


def test_erased_words_of_a_multi_label_classifier():
    model = replace(texts.text_model(), independent=True)
    sample = texts.document("one", "the film is not good", [3])
    plan = Plan(PROTOCOLS["faithfulness/eraser"], texts.data_of([sample]), model, (Variant("raw_attention"),))
    found = next(iter(measured(plan, range(1), plan.variants).values()))

    def p(text: str) -> float:
        with torch.no_grad():
            return float(
                model.net(**model.for_texts.padded([model.for_texts(text).inputs])).logits.sigmoid()[0, chosen]
            )

    with torch.no_grad():
        chosen = int(model.net(**model.for_texts.padded([model.for_texts(sample.input).inputs])).logits.argmax())
    R = gradtoken.attribute(
        model.net, model.for_texts.padded([model.for_texts(sample.input).inputs]), chosen, "raw_attention"
    )
    most = int(R[0, 1:6].argmax())
    words = sample.input.split()
    expected = p(sample.input) - p(" ".join(words[:most] + words[most + 1 :]))
    assert first_of(found, "erased")[0] == pytest.approx(expected, rel=1e-5)


def test_methods_on_probabilities_see_sigmoids():
    """The map of a run is that of an explanation, and not that of a softmax."""
    protocol, method = PROTOCOLS["confidence/chattopadhyay2018"], "self_attention_attribution"

    def of_run(model) -> np.ndarray:
        plan = plan_of(protocol, SAMPLES[:1], model, method)
        ready, _ = prepared(plan, range(1))
        return METHODS[method].bind({})(batch_of(plan, ready).probe)[0, 0].numpy()

    pixels = protocol.view(SAMPLES[0], MODEL).pixels[None].double()
    expected = METHODS[method].bind({})(Probe(MODEL.net, pixels, Choice(MODEL, [None])))[0, 0].numpy()
    np.testing.assert_allclose(of_run(MODEL), expected, rtol=1e-9)
    assert not np.allclose(of_run(replace(MODEL, independent=False)), expected, rtol=1e-2)


def test_pictures_for_mosaics_that_a_model_is_sure_of():
    protocol = next(one for one in PROTOCOLS.values() if hasattr(one, "sure"))
    views = [(i, protocol.view(sample, MODEL)) for i, sample in enumerate(SAMPLES)]
    with torch.no_grad():
        logits = MODEL.net(torch.stack([view.pixels for _, view in views]).double())
    views = [(i, replace(view, labels=(int(logits[i].argmax()),))) for i, view in views]
    p = [float(logits[i].max().sigmoid()) for i in range(len(views))]
    assert [number for number, _ in sure_of(views, MODEL, sorted(p)[1])] == [
        i for i in range(3) if p[i] >= sorted(p)[1]
    ]


def test_another_reading_is_another_run():
    protocol = PROTOCOLS["confidence/chattopadhyay2018"]
    one, other = (plan_of(protocol, SAMPLES, m).manifest() for m in (MODEL, replace(MODEL, independent=False)))
    assert one["fingerprint"] != other["fingerprint"]
    assert "independent" not in other["settings"]["model"]
