"""A tiny model, a few pictures, and runs of them that count how often a method is called."""

import numpy as np
import torch
from PIL import Image

from gradtoken.benchmark.plan import Plan, Variant
from gradtoken.benchmark.running import run
from gradtoken.data.sample import DataSet, Sample
from gradtoken.models.model import Model
from gradtoken.models.preprocess import Preprocess
from gradtoken.protocols import perturbation
from gradtoken.protocols.perturbation import Course, Perturbation
from gradtoken.registry import Entry
from tests import zoo

SIZE = (16, 16)
COUNT = 10
PUBLISHED = {protocol.name: protocol for protocol in perturbation.PUBLISHED}
CHEFER = PUBLISHED["perturbation/chefer2021"]
QUICK = Perturbation(
    name="quick",
    paper="",
    summary="",
    asks=("predicted", "label"),
    shares=(0.3, 0.7),
    courses=(Course("positive", True, "lower"),),
)


def model(**options):
    """float64, so that nothing hangs on the last digit."""
    net = zoo.timm_model(**options).double()
    how = Preprocess(SIZE, resize="shortest", mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
    return Model(spread(net, how), "tiny", how, None, "random")


@torch.no_grad()
def spread(net, how):
    """The network with a head whose answers for these pictures are of all classes, and mostly sure."""
    logits = net(torch.stack([how(picture(seed)).pixels for seed in range(40)]).double())
    net.head.weight.mul_(4 / logits.std(dim=0)[:, None])
    net.head.bias.copy_((net.head.bias - logits.mean(dim=0)) * 4 / logits.std(dim=0))
    return net


def picture(seed):
    """Stripes and noise, so that the model does not always give the same answer."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (3, 4, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((23, 18), Image.Resampling.BICUBIC), dtype=np.float64)
    noisy = smooth + rng.normal(0, 20, smooth.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def samples(count=COUNT):
    return [Sample(f"{i}.png", picture(i), (i % zoo.CLASSES,)) for i in range(count)]


def data_of(samples, name="made here"):
    """A data set; a sample that is an error is raised when it is read."""

    def read(i):
        if isinstance(samples[i], Exception):
            raise samples[i]
        return samples[i]

    names = [f"bad {i}" if isinstance(s, Exception) else s.id for i, s in enumerate(samples)]
    return DataSet(name, names, read)


def plan_of(some=None, protocol=QUICK, net=None, methods=("gradtoken",), **sizes):
    some = samples() if some is None else some
    variants = tuple(Variant(one) if isinstance(one, str) else one for one in methods)
    return Plan(protocol, data_of(some), net or model(), variants, **sizes)


def rows_of(folder, number=0):
    return list(folder.all_rows(folder.variants[number]))


def rows(tmp_path, *args, **options):
    """The rows of one method."""
    return rows_of(run(plan_of(*args, **options), tmp_path))


def valued(rows):
    """Values by sample, ask and metric; each stands once."""
    found = {(row.sample, row.ask, row.metric): row.values for row in rows if not row.reason}
    assert len(found) == sum(not row.reason for row in rows)
    return found


def reasons(rows):
    """Reason by sample; each stands once."""
    found = {row.sample: row.reason for row in rows if row.reason}
    assert len(found) == sum(bool(row.reason) for row in rows)
    return found


def same(one, other, tolerance=1e-6):
    one, other = valued(one), valued(other)
    assert one.keys() == other.keys()
    for key, values in one.items():
        np.testing.assert_allclose(values, other[key], rtol=0, atol=tolerance, err_msg=str(key))


def numbers(rows, protocol):
    """What the protocol concludes from all rows, by ask."""
    found = {}
    for (_, ask, metric), values in valued(rows).items():
        found.setdefault(ask, {}).setdefault(metric, []).append(values)
    return {
        ask: {name: float(value) for name, value in protocol.conclude(means_of(metrics)).items()}
        for ask, metrics in found.items()
    }


def means_of(metrics):
    return {name: np.mean(values, axis=0) for name, values in metrics.items()}


def replaced(monkeypatch, call, name="gradtoken", class_aware=True):
    """Make a method another function of the probe. Returns how many samples it was called with, by call."""
    from gradtoken.methods import METHODS

    seen = []

    def counted(probe):
        seen.append(probe.batch)
        return call(probe)

    known = METHODS[name]
    entry = Entry(name, counted, known.paper, known.summary, known.formula, class_aware, "", (), "", {})
    monkeypatch.setitem(METHODS, name, entry)
    return seen
