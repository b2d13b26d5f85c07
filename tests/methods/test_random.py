"""The random baseline: reproducible, the same for every target, nothing on padding."""

import torch

from gradtoken.methods.random import random
from gradtoken.probe import Probe
from tests import zoo


def probe(batch=3):
    subject = zoo.PICTURES["class token"]
    return Probe(subject.build(), zoo.pictures(subject, batch), torch.tensor([[0, 1], [2, 3], [4, 0]])[:batch])


def test_is_uniform_and_the_same_for_every_target():
    R = random(probe())
    assert R.shape == (3, 2, 16)
    assert 0 <= R.min() < 0.2
    assert 0.8 < R.max() < 1
    assert torch.equal(R[:, 0], R[:, 1])


def test_without_a_generator_nothing_changes():
    assert torch.equal(random(probe(3))[:1], random(probe(1)))
    assert torch.equal(random(probe(3))[0], random(probe(3))[2])


def test_a_generator_is_drawn_from_once_for_all_samples():
    together = random(probe(3), generator=torch.Generator().manual_seed(7))
    alone = random(probe(1), generator=torch.Generator().manual_seed(7))
    assert torch.equal(together, alone.expand(3, -1, -1))
    assert not torch.equal(alone, random(probe(1)))


def test_padding_is_zero():
    R = random(Probe(zoo.bert(), zoo.TEXT, 0))
    assert (R[1, 0, 3:] == 0).all()
    assert (R[0] > 0).all()
