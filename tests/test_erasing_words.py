"""Words of a text, erased one by one: tokens are left out, and the probability is that of what stays."""

import numpy as np
import pytest
import torch

import gradtoken
from gradtoken.erasing import curves_of_words
from gradtoken.errors import BadRelevance, BadTarget
from gradtoken.reading import Read, Reading
from tests import texts

TEXT = "The film was unforgettable , never dull"


def test_the_probability_is_that_of_the_text_without_the_words():
    model = texts.text_model()
    one = gradtoken.explain(TEXT, model, 1, heads="mean")
    curves = curves_of_words(Read.of(TEXT, model, [1], Reading()), [one])
    assert [(curve.name, curve.most_first) for curve in curves] == [
        ("gradtoken", True),
        ("gradtoken", False),
        ("random order", None),
    ]
    words = TEXT.split()
    for curve, sign in zip(curves, (-1, 1), strict=False):
        order = np.argsort(sign * one.relevance, kind="stable")
        assert len(curve.probability) == len(words) + 1
        for gone in range(len(words)):
            rest = " ".join(word for i, word in enumerate(words) if i not in order[:gone])
            inputs = {name: x[None] for name, x in model.for_texts(rest).inputs.items()}
            with torch.no_grad():
                p = model.net(**inputs).logits.softmax(1)[0, 1]
            assert curve.probability[gone] == pytest.approx(float(p), rel=1e-6)


def test_what_cannot_be_followed_is_refused():
    model = texts.text_model()
    read = Read.of(TEXT, model, [1], Reading())
    with pytest.raises(BadRelevance, match="no map"):
        curves_of_words(read, [])
    long = Read.of(TEXT * 9, model, [1], Reading(windows=5))
    with pytest.raises(BadTarget, match="read at once"):
        curves_of_words(long, [gradtoken.explain(TEXT, model, 1, heads="mean")])
    free = gradtoken.explain(TEXT, model, lambda output: output.logits[:, 1], heads="mean")
    with pytest.raises(BadTarget, match="probability of a class"):
        curves_of_words(read, [free])
