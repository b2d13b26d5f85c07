"""Arrays in, arrays out; pipelines and timm models as models."""

import numpy as np
import pytest
import torch
from torch import nn

import gradtoken
from gradtoken.adapters.plain import Logits, maps, saliency
from gradtoken.errors import BadTarget
from tests import zoo


def test_arrays(net, pictures):
    found = saliency(net, pictures.numpy().astype(np.float64), [1, 3], heads="mean")
    own = gradtoken.attribute(net, pictures, [1, 3], heads="mean")
    expected = torch.nn.functional.interpolate(own[:, None], (16, 16), mode="bilinear")[:, 0]
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(saliency(net, pictures, np.int64(2), heads="mean").shape, (2, 16, 16))
    np.testing.assert_allclose(saliency(net.forward, pictures, [1, 3], heads="mean"), found, atol=1e-6)
    scored = saliency(net, pictures, lambda y: y[:, 1] - y[:, 3], heads="mean")
    other = saliency(net, pictures, 1, heads="mean") - saliency(net, pictures, 3, heads="mean")
    np.testing.assert_allclose(scored, other, atol=1e-5)


def test_arrays_laid_out_in_any_way(net, pictures):
    flipped = pictures.numpy()[:, :, ::-1]
    expected = saliency(net, np.ascontiguousarray(flipped), 1, heads="mean")
    np.testing.assert_array_equal(saliency(net, flipped, 1, heads="mean"), expected)


def test_half_precision_and_tokens():
    net = zoo.timm_model().bfloat16()
    x = np.random.default_rng(0).normal(size=(1, 3, 16, 16))
    assert saliency(net, x, 1, heads="mean").dtype == np.float32
    found = saliency(zoo.bert(), zoo.TEXT["input_ids"].numpy(), 2, heads="mean")
    assert found.shape == (2, 6)


@pytest.mark.parametrize("name", zoo.PICTURES)
def test_every_layout_is_enlarged_to_its_picture(name):
    subject = zoo.PICTURES[name]
    x = zoo.pictures(subject)
    net = subject.build()
    found = maps(net, x, 1, "raw_attention")
    assert found.shape == (2, *subject.size)
    own = gradtoken.attribute(net, x, 1, "raw_attention")
    rows, columns = (large // small for large, small in zip(found.shape[1:], own.shape[1:], strict=True))
    corner = found[:, : rows // 2, : columns // 2]
    torch.testing.assert_close(corner, own[:, :1, :1].expand_as(corner))


def test_logits_alone(pictures):
    net = zoo.transformers_vit()
    torch.testing.assert_close(Logits(net)(pictures), net(pictures).logits)
    torch.testing.assert_close(
        gradtoken.attribute(Logits(net), pictures, 1, heads="mean"), gradtoken.attribute(net, pictures, 1, heads="mean")
    )


def test_what_is_no_network_is_refused(pictures):
    with pytest.raises(BadTarget, match="expected a network or a function of its inputs, got list"):
        saliency([nn.Linear(1, 1)], pictures)
