"""Which methods run on which kind of model: elsewhere a refusal is skipped, here it is the result."""

import pytest
import torch

from gradtoken import attribute
from gradtoken.errors import GradTokenError, NoGrid
from gradtoken.manual import obstacle
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
def test_what_is_announced_as_an_obstacle_is_one(name):
    subject = zoo.PICTURES[name]
    net, x = subject.build(), zoo.pictures(subject, 1)
    probe = Probe(net, x, torch.tensor([1]))
    for method, entry in METHODS.items():
        if obstacle(entry, probe):
            with pytest.raises(GradTokenError):
                attribute(net, x, 1, method, allow_blank=True)
