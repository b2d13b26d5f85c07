"""DecompX against the naive reference, every bias present."""

import pytest
import torch

import gradtoken
from tests import zoo
from tests.reference import decomposition

TARGETS = torch.tensor([[0, 3], [1, 4]])
NETS = {
    "class token": zoo.timm_model,
    "layer scale": lambda: zoo.timm_model(init_values=0.1),
    "no query, key and value bias": lambda: zoo.timm_model(qkv_bias=False),
    "one block": lambda: zoo.timm_model(depth=1),
    "BERT": zoo.bert,
    "BERT by hand": lambda: zoo.bert("eager"),
}


def relative_error(name: str, change=None, **reading) -> float:
    net = NETS[name]().double()
    if change is not None:
        change(net)
    inputs = zoo.TEXT if "BERT" in name else zoo.pictures(zoo.PICTURES["class token"]).double()
    expected = decomposition.decompx(net, inputs, TARGETS, **reading)
    ours = gradtoken.attribute(net, inputs, TARGETS, "decompx").flatten(2)[:, :, -expected.shape[2] :]
    assert ours.dtype == expected.dtype == torch.float64
    return float((ours - expected).abs().max() / expected.abs().max())


@pytest.fixture
def exact(monkeypatch):
    """Leave out the published 1e-12 in the denominators, which moves small ones visibly."""
    monkeypatch.setattr(decomposition, "EPS", 0.0)


@pytest.mark.parametrize("name", NETS)
def test_biases_are_shared_out_where_the_published_code_does(name, exact):
    assert relative_error(name, folded=False) < 1e-12
    assert relative_error(name, biases="where_added", folded=False) > 1e-3


@pytest.mark.parametrize("name", NETS)
def test_without_biases_of_attention_it_is_no_matter_where_they_are_shared_out(name):
    def without_them(net):
        for key, parameter in net.named_parameters():
            if key.endswith("bias") and "att" in key and "LayerNorm" not in key:
                torch.nn.init.zeros_(parameter)

    for biases in ("after_residual", "where_added"):
        assert relative_error(name, without_them, biases=biases, folded=False) < 1e-8


@pytest.mark.parametrize("name", NETS)
def test_the_published_epsilon_changes_little(name):
    assert relative_error(name, folded=False) < 1e-8


def test_the_bias_before_a_layer_scale_is_shared_out_before_it():
    def without_it(net):
        for block in net.blocks:
            torch.nn.init.zeros_(block.mlp.fc2.bias)

    assert relative_error("layer scale") > 1e-3
    assert relative_error("layer scale", without_it) < 1e-8
