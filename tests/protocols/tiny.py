"""A tiny model, pictures with a truth, and a protocol's numbers and rows for them."""

import numpy as np
import torch
from PIL import Image

from gradtoken.benchmark.plan import Plan, Variant
from gradtoken.benchmark.work import measured
from gradtoken.data.sample import DataSet, Sample
from gradtoken.models.model import Model
from gradtoken.models.preprocess import Preprocess
from tests import zoo

SIZE = (16, 16)
METHODS = ("gradtoken", "raw_attention", "input_x_gradient")


def tiny_model(**options):
    """float64, so that nothing hangs on the last digit."""
    return Model(zoo.timm_model(**options).double(), "tiny", Preprocess(SIZE, resize="shortest"), None, "random")


def picture(seed: int, width: int = 20, height: int = 14) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def blob(seed: int, labels=(0, 1), width: int = 20, height: int = 14):
    """Labels (height, width) in large patches, so that they survive resizing."""
    coarse = np.random.default_rng(seed).choice(labels, (4, 5)).astype(np.int16)
    return np.array(Image.fromarray(coarse.astype(np.int32)).resize((width, height), 0), dtype=np.int16)


def data_of(samples: list[Sample]) -> DataSet:
    return DataSet("made here", [sample.id for sample in samples], samples.__getitem__)


def plan_of(protocol, samples, model, method="gradtoken", batch=8):
    return Plan(protocol, data_of(samples), model, (Variant(method),), batch=batch)


def rows(protocol, samples, model, method="gradtoken", batch=8):
    plan = plan_of(protocol, samples, model, method, batch)
    return next(iter(measured(plan, range(len(samples)), plan.variants).values()))


def reasons(protocol, samples, model, method="gradtoken"):
    """Reason by sample."""
    return {row.sample: row.reason for row in rows(protocol, samples, model, method) if row.reason}


def numbers(protocol, samples, model, method="gradtoken", batch=8):
    """A protocol's numbers over all samples, by ask."""
    found = {}
    for row in rows(protocol, samples, model, method, batch):
        if not row.reason:
            found.setdefault(row.ask, {}).setdefault(row.metric, []).append(row.values)
    return {
        ask: concluded(protocol, {name: np.mean(values, axis=0) for name, values in metrics.items()})
        for ask, metrics in found.items()
    }


def concluded(protocol, values):
    """Number by name, in the order and under the names that the protocol announces."""
    found = protocol.conclude(values)
    assert list(found) == [number.name for number in protocol.numbers]
    return {name: float(np.asarray(value).ravel()[0]) for name, value in found.items()}


def same(found, expected):
    """Equal; but an average precision of enlarged maps hangs on which equal pixels rounding tells apart."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        tolerance = 1e-3 if name == "mAP" else 1e-7
        np.testing.assert_allclose(found[name], value, rtol=0, atol=tolerance, err_msg=name)


def set_map(monkeypatch, values):
    """Make `gradtoken` give this map (h, w) for every sample and target."""
    from gradtoken.methods import METHODS
    from gradtoken.registry import Entry

    def call(probe):
        R = torch.as_tensor(values, dtype=probe.scores.dtype)
        return R.reshape(1, 1, -1).expand(*probe.scores.shape, -1)

    known = METHODS["gradtoken"]
    fixed = Entry(known.name, call, known.paper, known.summary, known.formula, True, "", (), "", {})
    monkeypatch.setitem(METHODS, "gradtoken", fixed)
