"""The methods against passes written out naively, operation by operation."""

import pytest
import torch

from gradtoken.methods.abs_lrp import abs_lrp
from gradtoken.methods.attn_lrp import attn_lrp
from gradtoken.methods.cp_lrp import cp_lrp
from gradtoken.methods.lrp import lrp
from gradtoken.methods.partial_lrp import partial_lrp
from gradtoken.methods.transattrib import transattrib
from gradtoken.probe import Probe
from tests import zoo
from tests.lrp.backward import close
from tests.reference import abs_lrp as magnitudes
from tests.reference import lrp as naive
from tests.reference import surgery

TARGETS = torch.tensor([[0, 3], [1, 4]])
CASES = [
    *((lrp, naive.lrp, {"rule": rule}) for rule in ("published", "conservative")),
    *(
        (partial_lrp, naive.partial_lrp, {"rule": rule, "gradient": gradient})
        for rule in ("published", "conservative")
        for gradient in (False, True)
    ),
    *(
        (transattrib, naive.transattrib, options)
        for options in ({}, {"start": 0}, {"start": 2, "normalise": True}, {"start": 0, "normalise": False})
    ),
    (attn_lrp, surgery.attn_lrp, {}),
    (cp_lrp, surgery.cp_lrp, {}),
    (cp_lrp, surgery.cp_lrp, {"gamma_linear": 0.25, "gamma_conv": 0.5}),
]
MAGNITUDES = [(abs_lrp, magnitudes.abs_lrp, {"contrastive": contrastive}) for contrastive in (True, False)]


def label(value):
    if isinstance(value, dict):
        return "-".join(f"{name}={x}" for name, x in value.items()) or "default"
    return value.__name__


@pytest.fixture(scope="module")
def picture():
    return Probe(zoo.timm_model().double(), zoo.pictures(zoo.PICTURES["class token"]).double(), TARGETS)


@pytest.fixture(scope="module")
def text():
    return Probe(zoo.bert().double(), zoo.TEXT, TARGETS)


@pytest.mark.parametrize(("method", "reference", "options"), CASES + MAGNITUDES, ids=label)
def test_pictures(method, reference, options, picture):
    close(method(picture, **options), reference(picture.net, picture.inputs, TARGETS, **options), 1e-5)


@pytest.mark.parametrize(("method", "reference", "options"), CASES + MAGNITUDES, ids=label)
def test_texts(method, reference, options, text):
    close(method(text, **options), reference(text.net, text.inputs, TARGETS, **options), 1e-5)


@pytest.mark.parametrize(("method", "reference", "options"), [CASES[0], CASES[2], CASES[6], *MAGNITUDES], ids=label)
def test_attention_written_by_hand(method, reference, options):
    probe = Probe(zoo.by_hand(zoo.timm_model).double(), zoo.pictures(zoo.PICTURES["class token"]).double(), TARGETS)
    close(method(probe, **options), reference(probe.net, probe.inputs, TARGETS, **options), 1e-5)
