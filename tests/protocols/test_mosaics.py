"""The grid pointing game, from a user's pictures to numbers, against loops over mosaics, cells and pixels."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import gradtoken
from gradtoken.benchmark.plan import planned
from gradtoken.benchmark.running import run
from gradtoken.data.sample import Sample
from gradtoken.errors import BadData, BadSample
from gradtoken.models.preprocess import Preprocess
from gradtoken.protocols import mosaics
from tests import zoo
from tests.benchmark import tiny
from tests.reference import erasing, metrics
from tests.reference import mosaics as naive

PUBLISHED = {protocol.rows: protocol for protocol in mosaics.PUBLISHED}
COUNT = 90
TWO, THREE = PUBLISHED[2], PUBLISHED[3]
SHARE, FIRST, BLANK = (number.name for number in TWO.numbers)


def pixels(model, picture):
    how = model.preprocess
    return erasing.squashed(picture, how.size, how.mean, how.std)


def samples(model, count=COUNT):
    """Pictures with the label that the model predicts, every third one with the next."""
    found = []
    for i in range(count):
        label = int(erasing.logits(model.net, pixels(model, tiny.picture(i))).argmax())
        label = (label + (i % 3 == 0)) % model.net.num_classes
        found.append(Sample(f"{i}.png", tiny.picture(i), (label,)))
    return found


@pytest.fixture(scope="module")
def model():
    return tiny.model(num_classes=12)


@pytest.fixture(scope="module")
def some(model):
    return samples(model)


def plan_of(model, some, protocol=TWO, method="gradtoken", **sizes):
    return planned(protocol, tiny.data_of(some), model, [method], **sizes)


def parts(plan, some):
    """The pictures of each mosaic, by its name."""
    by_id = {sample.id: sample for sample in some if isinstance(sample, Sample)}
    return {name: [by_id[one] for one in name.split("|")] for name in plan.data.ids if "|" in name}


def expected(model, plan, some, n, method):
    """Share and hit of each mosaic, by its name."""
    size, found = model.preprocess.size, {}
    for name, cells in parts(plan, some).items():
        x = torch.from_numpy(pixels(model, naive.composed([one.input for one in cells], size, n)))[None]
        labels = [one.labels[0] for one in cells]
        R = gradtoken.attribute(model.net, x, [labels], method, allow_blank=True)[0].detach().numpy()
        whole = [metrics.bilinear(one, size) for one in R]
        found[name] = naive.localisation(whole, size, n), naive.hits(whole, size, n)
    return found


def compare(model, some, protocol, method, tmp_path):
    plan = plan_of(model, some, protocol, method)
    rows = tiny.rows_of(run(plan, tmp_path))
    known, got = expected(model, plan, some, protocol.rows, method), tiny.valued(rows)
    assert known
    for name, (share, hit) in known.items():
        assert got[name, "cells", "share"] == pytest.approx([share], abs=1e-9)
        assert got[name, "cells", "hit"] == pytest.approx([hit], abs=1e-9)
    numbers = tiny.numbers(rows, protocol)
    assert list(numbers) == ["cells"]
    assert numbers["cells"][SHARE] == pytest.approx(np.mean([share for share, _ in known.values()]), abs=1e-9)
    assert numbers["cells"][FIRST] == pytest.approx(np.mean([hit for _, hit in known.values()]), abs=1e-9)
    return numbers["cells"]


@pytest.mark.parametrize("n", PUBLISHED)
@pytest.mark.parametrize("method", ["gradtoken", "input_x_gradient", "rollout"])
def test_numbers_are_the_formula(n, method, model, some, tmp_path):
    found = compare(model, some, PUBLISHED[n], method, tmp_path)
    assert 0 < found[SHARE] < 1


def test_a_map_that_is_the_same_for_all_classes_scores_chance(model, some, tmp_path):
    for n, protocol in PUBLISHED.items():
        assert compare(model, some, protocol, "rollout", tmp_path / str(n))[SHARE] == pytest.approx(1 / n**2, abs=1e-9)


@pytest.mark.parametrize(("size", "patch"), [((15, 15), 3), ((16, 24), 4), ((20, 10), 5), ((21, 35), 7)])
@pytest.mark.parametrize("n", [2, 3])
def test_any_size_of_picture(n, size, patch, tmp_path):
    net = zoo.timm_model(img_size=size, patch_size=patch, num_classes=12).double()
    how = Preprocess(size)
    model = replace(tiny.model(), net=tiny.spread(net, how), preprocess=how)
    some = samples(model)
    protocol = PUBLISHED[n]
    plan = plan_of(model, some, protocol)
    compare(model, some, protocol, "gradtoken", tmp_path)
    for i, cells in enumerate(parts(plan, some).values()):
        picture = naive.composed([one.input for one in cells], size, n)
        np.testing.assert_array_equal(np.asarray(plan.data[i].input), np.asarray(picture))


@pytest.mark.parametrize("n", PUBLISHED)
def test_what_is_used(n, model, some):
    plan = plan_of(model, some, PUBLISHED[n])
    groups = parts(plan, some)
    assert groups
    used = [one.id for cells in groups.values() for one in cells]
    assert len(used) == len(set(used))
    sure = {one.id for one in some if naive.is_used(model.net, pixels(model, one.input), one.labels[0])}
    assert set(used) <= sure
    assert 0 < len(sure) < len(some)
    for cells in groups.values():
        assert len({one.labels[0] for one in cells}) == len(cells) == n * n
    rest = [one.labels[0] for one in some if one.id in sure - set(used)]
    assert len(set(rest)) < n * n  # another mosaic could not be made


def test_the_same_pictures_give_the_same_mosaics(model, some):
    assert plan_of(model, some).data.ids == plan_of(model, some).data.ids
    assert plan_of(model, some).data.ids != plan_of(model, some, replace(TWO, seed=1)).data.ids


def test_rounds_repeat_no_mosaic(model, some):
    few = [one for one in some if naive.is_used(model.net, pixels(model, one.input), one.labels[0])]
    labels = sorted({one.labels[0] for one in few})[:4]
    four = [next(one for one in few if one.labels[0] == label) for label in labels]
    ids = plan_of(model, four, replace(TWO, rounds=60)).data.ids
    assert 1 < len(ids) == len(set(ids)) <= 24


def test_rows_do_not_depend_on_sizes(model, some, tmp_path):
    first = tiny.rows_of(run(plan_of(model, some, batch=1, chunk=1, unit=2), tmp_path / "a"))
    tiny.same(first, tiny.rows_of(run(plan_of(model, some), tmp_path / "b")))


def test_bad_samples_stay_and_say_why(model, some, tmp_path):
    broken = [
        *some[:20],
        BadSample("a.png: is no picture"),
        Sample("two", tiny.picture(1), (1, 2)),
        *some[20:],
        Sample("outside", tiny.picture(2), (12,)),
        Sample("none", tiny.picture(2), ()),
        Sample("text", "a cat", (1,)),
    ]
    plan = plan_of(model, broken)
    rows = tiny.rows_of(run(plan, tmp_path))
    found = tiny.reasons(rows)
    assert found.keys() == {"bad 20", "two", "outside", "none", "text"}
    assert "is no picture" in found["bad 20"]
    assert "got 2" in found["two"]
    assert "12 classes" in found["outside"]
    assert {name for name, _, _ in tiny.valued(rows)} == set(plan_of(model, some).data.ids)


def test_blank_maps_are_counted(model, some, monkeypatch, tmp_path):
    tiny.replaced(monkeypatch, lambda probe: -torch.ones(*probe.scores.shape, probe.layout.count).double())
    rows = tiny.rows_of(run(plan_of(model, some), tmp_path))
    assert tiny.numbers(rows, TWO)["cells"] == {SHARE: 0.0, FIRST: 0.0, BLANK: 1.0}


def test_perfect_and_opposite_maps(model, some, monkeypatch, tmp_path):
    cells = torch.arange(4).view(2, 2).repeat_interleave(2, 0).repeat_interleave(2, 1).flatten()

    def right(probe):
        return (cells == torch.arange(4)[:, None]).double().expand(probe.batch, -1, -1)

    tiny.replaced(monkeypatch, right)
    found = tiny.numbers(tiny.rows_of(run(plan_of(model, some), tmp_path / "a")), TWO)["cells"]
    assert found[FIRST] == 1
    assert 0.7 < found[SHARE] < 1  # the enlarged map leaks over the edge
    tiny.replaced(monkeypatch, lambda probe: 1 - right(probe))
    assert tiny.numbers(tiny.rows_of(run(plan_of(model, some), tmp_path / "b")), TWO)["cells"][FIRST] == 0


def test_too_few_sure_pictures_are_refused(model, some):
    with pytest.raises(BadData, match=r"made here: of 3 pictures .* a mosaic needs 4 of different classes"):
        plan_of(model, some[:3])
    alike = [replace(one, id=str(i)) for i, one in enumerate([some[1]] * 9)]
    with pytest.raises(BadData, match="of different classes"):
        plan_of(model, alike)


def test_other_mosaics_are_another_run(model, some):
    prints = [plan_of(model, some, protocol).manifest()["fingerprint"] for protocol in (TWO, THREE)]
    assert prints[0] != prints[1]
    assert plan_of(model, some).manifest()["fingerprint"] == prints[0]
