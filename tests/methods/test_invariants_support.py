"""Which methods run on which kind of model: elsewhere a refusal is skipped, here it is the result."""

import dataclasses
import re
import sys

import pytest
import torch
from torch import nn

from gradtoken import attribute
from gradtoken.errors import GradTokenError, NoGrid
from gradtoken.manual import obstacle, obstacles
from gradtoken.methods import METHODS
from gradtoken.probe import Probe
from tests import zoo

CHEAP = {
    "beyond_intuition": {"steps": 2},
    "gradient_shap": {"samples": 2},
    "integrated_gradients": {"steps": 2},
    "self_attention_attribution": {"steps": 2},
    "tis": {"masks": 4},
    "transition_attention_maps": {"steps": 2},
}
OF_PICTURES = {"occlusion", "reciprocam", "tis", "vit_cx"}


@pytest.fixture(scope="module", params=["class token", "no prefix, mean", "torchvision", "transformers"])
def picture(request):
    subject = zoo.PICTURES[request.param]
    return subject.build(), zoo.pictures(subject, 1)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs_on_every_plain_vision_transformer(method, picture):
    net, x = picture
    assert obstacle(METHODS[method], Probe(net, x)) == ""
    assert attribute(net, x, 1, method, allow_blank=True, **CHEAP.get(method, {})).isfinite().all()


@pytest.mark.parametrize("method", METHODS)
def test_every_method_but_those_of_pictures_runs_on_bert(method):
    net = zoo.bert()
    if method in OF_PICTURES:
        assert "erases or mixes parts of a picture" in obstacle(METHODS[method], Probe(net, zoo.TEXT))
        with pytest.raises(NoGrid, match="erases or mixes parts of a picture"):
            attribute(net, zoo.TEXT, 1, method)
        return
    R = attribute(net, zoo.TEXT, 1, method, allow_blank=True, **CHEAP.get(method, {}))
    assert R.isfinite().all()
    assert (R[1, 4:] == 0).all()


@pytest.mark.parametrize("name", zoo.PICTURES)
def test_what_is_announced_is_what_happens(name):
    subject = zoo.PICTURES[name]
    agree(subject.build(), zoo.pictures(subject, 1))


def agree(net, x):
    announced = obstacles(Probe(net, x, torch.tensor([1])))
    assert list(announced) == list(METHODS)
    for method, reason in announced.items():
        request = {"method": method, "allow_blank": True, **CHEAP.get(method, {})}
        if not reason:
            attribute(net, x, 1, **request)
            continue
        with pytest.raises(GradTokenError, match=f"^{re.escape(reason)}$"):
            attribute(net, x, 1, **request)


class Erf(nn.Module):
    """An activation that has no rule."""

    def forward(self, x):
        return x * torch.erf(x)


def test_operations_without_a_rule_are_announced():
    net = zoo.timm_model(act_layer=Erf)
    agree(net, zoo.pictures(zoo.PICTURES["class token"], 1))
    refused = {name for name, reason in obstacles(Probe(net, torch.randn(1, 3, 16, 16))).items() if "erf" in reason}
    assert refused == {"abs_lrp", "attn_lrp", "cp_lrp", "decompx", "libra", "lrp", "partial_lrp", "transattrib"}


@pytest.mark.parametrize(
    ("package", "methods"),
    [("captum", {"integrated_gradients", "occlusion"}), ("scipy", {"tis", "vit_cx"})],
)
def test_missing_extras_are_announced(package, methods, monkeypatch):
    known = [name for name in sys.modules if name.split(".")[0] == package]
    for name in {package, *known}:
        monkeypatch.setitem(sys.modules, name, None)
    found = obstacles(Probe(zoo.timm_model(), torch.randn(1, 3, 16, 16)))
    line = f"{package} is not installed; run: pip install 'gradtoken[{package}]'"
    assert {name for name, reason in found.items() if reason == line} == methods
    assert {name for name, reason in found.items() if reason} == methods


def test_what_fails_does_not_run():
    def fail(error):
        def call(probe):
            raise error

        return obstacle(dataclasses.replace(METHODS["rollout"], call=call), Probe(zoo.bert(), zoo.TEXT))

    assert fail(torch.OutOfMemoryError("x")) == fail(MemoryError()) == "there is not enough memory for this method"
    assert fail(RuntimeError("shapes")) == "RuntimeError: shapes"
