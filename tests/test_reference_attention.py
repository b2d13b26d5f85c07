"""The naive references for the attention and gradient methods: the models they run on, and the identities they obey."""

import pytest
import torch
from torch import Tensor

from tests.reference import models
from tests.zoo import CLASSES, TEXT, bert, timm_model

PIXELS = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
CASES = {
    "class token": (timm_model, PIXELS),
    "no class token": (lambda: timm_model(class_token=False, global_pool="avg"), PIXELS),
    "layer scale": (lambda: timm_model(init_values=0.1), PIXELS),
    "text": (bert, TEXT),
}


@pytest.fixture(params=CASES.values(), ids=CASES, scope="module")
def case(request):
    build, inputs = request.param
    return models.weights(build()), inputs


def own_logits(net, inputs) -> Tensor:
    return net(**inputs).logits if isinstance(inputs, dict) else net(inputs.double())


def test_the_naive_forward_pass_is_the_model(case):
    net, inputs = case
    torch.testing.assert_close(models.forward(net, inputs).logits, own_logits(net, inputs), atol=1e-12, rtol=1e-12)


def test_the_head_makes_logits_of_the_end(case):
    net, inputs = case
    trace = models.forward(net, inputs)
    torch.testing.assert_close(models.head(net, trace.at["end", -1]), trace.logits, atol=0, rtol=0)
    assert trace.at["end", -1] is trace.at["out", 3]


def test_every_named_intermediate_can_be_swapped(case):
    net, inputs = case
    seen = []
    same = models.forward(net, inputs, lambda name, block, t: seen.append((name, block)) or t)
    assert seen == list(same.at)
    for name, block in seen:
        other = models.forward(net, inputs, lambda n, b, t, key=(name, block): t**2 if (n, b) == key else t)
        assert not torch.allclose(other.logits, same.logits), (name, block)


def test_a_float32_model_is_copied_not_touched():
    net = timm_model()
    trace = models.forward(net, PIXELS)
    assert trace.logits.dtype == torch.float64
    assert trace.logits.shape == (2, CLASSES)
    assert next(net.parameters()).dtype == torch.float32
