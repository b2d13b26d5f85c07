"""What a probe holds on to, and what it lets go."""

import gc
import weakref

import pytest
import torch
from torch import Tensor

from gradtoken.models.vit import VisionTransformer
from gradtoken.probe import Probe
from gradtoken.record import Recorder


@pytest.fixture
def vit() -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer(classes=5, size=16, patch=4, width=16, depth=3, heads=2, hidden=32)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("call", ["first", "later"])
def test_nothing_survives_a_probe(vit, x, call, monkeypatch):
    recorders = []
    make = Recorder.__init__

    def watched(self, *args, **kwargs):
        make(self, *args, **kwargs)
        recorders.append(weakref.ref(self))

    if call == "later":
        Probe(vit, x, 0)
    monkeypatch.setattr(Recorder, "__init__", watched)
    probe = Probe(vit, x, 0)
    tensors = [weakref.ref(c.q) for c in probe.calls]
    del probe
    gc.collect()
    assert recorders
    assert not [ref for ref in (*recorders, *tensors) if ref() is not None]


def test_queries_and_keys_do_not_keep_values_alive(vit, x):
    for attention in (*(probe := Probe(vit, x, 0)).earlier, probe.last):
        for kept in (attention.q, attention.k):
            assert kept.untyped_storage().nbytes() == kept.numel() * kept.element_size()
