"""Average drop and its relatives against pictures multiplied one by one."""

import numpy as np
import pytest
import torch

from gradtoken import attribute
from gradtoken.data.sample import Sample
from gradtoken.protocols import PROTOCOLS
from gradtoken.protocols.confidence import mixed, shown
from tests.protocols.tiny import SIZE, numbers, picture, same, tiny_model
from tests.reference import protocols as naive

PROTOCOL = PROTOCOLS["confidence/chattopadhyay2018"]


def probability(net, pixels, cls):
    with torch.no_grad():
        return float(torch.softmax(net(pixels), dim=1)[0, cls])


def one_by_one(model, image, method):
    """The three numbers of one picture, from raw colours in [0, 1]."""
    pixels = naive.read(image, SIZE)
    mean, std = (torch.tensor(v).double()[:, None, None] for v in (model.preprocess.mean, model.preprocess.std))
    colours = pixels[0] * std + mean
    cls = int(model.net(pixels).argmax())
    R = attribute(model.net, pixels, cls, method, allow_blank=True)[0]
    large = torch.nn.functional.interpolate(R[None, None], size=SIZE, mode="bilinear", align_corners=False)[0, 0]
    large = np.maximum(large.numpy(), 0)
    share = torch.from_numpy(large / large.max() if large.max() > 0 else large)
    before, kept, left = (
        probability(model.net, ((colours * part - mean) / std)[None], cls) for part in (1, share, 1 - share)
    )
    return {
        "average drop": max(0, before - kept) / before,
        "increase in confidence": float(kept > before),
        "drop in deletion": (before - left) / before,
    }


@pytest.mark.parametrize("method", ["gradtoken", "raw_attention", "input_x_gradient"])
@pytest.mark.parametrize("batch", [1, 3])
def test_confidence_equals_the_naive_version(method, batch):
    model = tiny_model()
    samples = [Sample(str(i), picture(i), (i,)) for i in range(4)]
    found = [one_by_one(model, sample.input, method) for sample in samples]
    same(numbers(PROTOCOL, samples, model, method, batch)["predicted"], naive.averaged(found))


def test_a_whole_map_shows_the_picture_and_an_empty_one_black():
    pixels, black = torch.randn(2, 3, 4, 4), torch.tensor([-1.0, -2.0, -3.0])
    flat = shown(torch.stack([torch.full((4, 4), 5.0), torch.full((4, 4), -1.0)]))
    found = mixed(pixels, black, flat)
    torch.testing.assert_close(found[0], pixels[0])
    torch.testing.assert_close(found[1], black[:, None, None].expand(3, 4, 4))
