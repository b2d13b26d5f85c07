"""The pictures that ship with the package."""

import torch

import gradtoken
from gradtoken.data.bundled import open_bundled


def test_the_bundled_model_is_right_about_every_bundled_picture():
    model, data = gradtoken.load("bundled"), open_bundled()
    assert len(data) == 5
    for sample in data:
        with torch.no_grad():
            p = model.net(model.preprocess(sample.input).pixels[None]).softmax(dim=1)[0]
        assert (int(p.argmax()),) == sample.labels
        assert p.max() > 0.9
