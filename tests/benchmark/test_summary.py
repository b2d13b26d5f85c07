"""Numbers, intervals and paired differences, against resampling written out sample by sample."""

import json

import numpy as np
import pytest

from gradtoken.benchmark.columns import column_of
from gradtoken.benchmark.folder import RunFolder
from gradtoken.benchmark.plan import Variant, fingerprint_of
from gradtoken.benchmark.rows import Row, packed
from gradtoken.benchmark.summary import DRAWS, SEED, Resampling, summarised
from gradtoken.errors import BadRun
from gradtoken.protocols.protocol import Number, Protocol
from tests.benchmark import small


class Best(Protocol):
    """The best of two thresholds, each a ratio of sums, as data-set IoU is."""

    numbers = (Number("best", "higher"), Number("mean", "lower"))

    def conclude(self, means):
        ratio = means["intersection"] / means["union"]
        return {"best": ratio.max(axis=-1), "mean": means["value"][..., 0]}

    def curves(self, means):
        return {"curve": ((1, 2), means["intersection"])}


BEST = Best(name="best/of-two", paper="", summary="")
IDS = [f"s{i}" for i in range(7)]


def values(seed, count=7):
    rng = np.random.default_rng(seed)
    inside, union = rng.random((count, 2)), 1 + rng.random((count, 2))
    return {"intersection": inside, "union": union, "value": rng.random((count, 1))}


def naive(values, chosen):
    """The numbers of some samples, one by one; `chosen` may name a sample several times or not at all."""
    sums = {name: [0.0] * v.shape[1] for name, v in values.items()}
    for i in chosen:
        for name, v in values.items():
            sums[name] = [a + b for a, b in zip(sums[name], v[i], strict=True)]
    best = max(a / b for a, b in zip(sums["intersection"], sums["union"], strict=True))
    return {"best": best, "mean": sums["value"][0] / len(chosen)}


def drawn(count):
    rng = np.random.default_rng(SEED)
    return [rng.integers(0, count, size=count).tolist() for _ in range(DRAWS)]


def test_numbers_and_intervals():
    """The best threshold is that of each draw, not that of the whole."""
    v = values(0)
    (line,) = summarised([small.column("a", IDS, v)], BEST)
    all_draws = [naive(v, some) for some in drawn(7)]
    for name, one in line.numbers.items():
        assert one.value == pytest.approx(naive(v, range(7))[name])
        assert (one.low, one.high) == pytest.approx(np.percentile([d[name] for d in all_draws], [2.5, 97.5]))
    assert (line.samples, line.differences) == (7, {})
    assert line.curves["curve"].y == pytest.approx(v["intersection"].mean(axis=0))
    assert (line.curves["curve"].low < line.curves["curve"].y).all()


def test_differences_are_paired_on_common_samples():
    """Two samples of one method are missing, and one of the baseline."""
    base, other = values(1), values(2)
    without = {name: v[1:] for name, v in base.items()}
    partly = {name: v[:5] for name, v in other.items()}
    baseline = small.column("gradtoken", IDS[1:], without, reasons={"s0": "broken"})
    method = small.column("b", IDS[:5], partly, reasons={"s5": "s5: no", "s6": "s6: no"})
    line, own = summarised([method, baseline], BEST, baseline)
    assert (line.common, line.samples, line.failed, dict(line.reasons)) == (4, 5, 2, {"no": 2})
    common = {1, 2, 3, 4}
    found = []
    for some in drawn(7):
        if kept := [i for i in some if i in common]:
            found.append({name: naive(other, kept)[name] - naive(base, kept)[name] for name in ("best", "mean")})
    whole = {name: naive(other, sorted(common))[name] - naive(base, sorted(common))[name] for name in ("best", "mean")}
    for name, one in line.differences.items():
        assert one.value == pytest.approx(whole[name])
        assert (one.low, one.high) == pytest.approx(np.percentile([d[name] for d in found], [2.5, 97.5]))
    assert own.differences == {}


def test_the_same_values_differ_by_nothing():
    v = values(3)
    baseline = small.column("gradtoken", IDS, v)
    one, _ = summarised([small.column("a", IDS, v), baseline], BEST, baseline)
    assert {(d.value, d.low, d.high) for d in one.differences.values()} == {(0.0, 0.0, 0.0)}


def test_the_order_and_the_company_of_methods_change_nothing():
    a, b = small.column("a", IDS, values(4)), small.column("gradtoken", IDS, values(5))
    together = {line.title: line.numbers for line in summarised([a, b], BEST, b)}
    assert together == {line.title: line.numbers for line in summarised([b, a], BEST, b)}
    assert together["a"] == next(iter(summarised([a], BEST))).numbers


def test_a_map_that_is_the_same_for_all_classes_is_compared_with_the_baseline_of_another_ask():
    base = small.column("gradtoken", IDS, values(1), ask="predicted")
    (line,) = summarised([small.column("a", IDS, values(2), ask="label")], BEST, base)
    assert line.common == 7


def test_a_method_without_any_value():
    none = small.column("a", [], {}, reasons=dict.fromkeys(IDS, "left out, for its prediction 3 is not its label 4"))
    base = small.column("gradtoken", IDS, values(1))
    line, _ = summarised([none, base], BEST, base)
    assert (line.samples, line.numbers, line.failed, sum(line.reasons.values())) == (0, {}, 0, 7)


def test_a_number_that_no_sample_has_is_none():
    v = values(1) | {"value": np.full((7, 1), np.nan)}
    (line,) = summarised([small.column("a", IDS, v)], BEST)
    one = line.numbers["mean"]
    assert np.isnan([one.value, one.low, one.high]).all()
    assert line.numbers["best"].low > 0


def test_one_sample():
    (line,) = summarised([small.column("a", ["only"], values(1, count=1))], BEST)
    assert line.numbers["mean"].low == line.numbers["mean"].value == line.numbers["mean"].high


def test_every_draw_has_as_many_samples():
    assert (Resampling.of(IDS).counts.sum(axis=1) == 7).all()


# Reading --------------------------------------------------------------------------------------------------------------


def folder_of(root, units):
    """A run folder with the rows of one method, written by hand; None leaves a unit out."""
    data = {"name": "by hand", "samples": 2 * len(units)}
    settings = {"data": data, "unit": 2, "protocol": {"name": small.PROTOCOL}, "model": {"name": "none"}}
    (root / "rows").mkdir(parents=True)
    (root / "manifest.json").write_text(json.dumps({"fingerprint": fingerprint_of(settings), "settings": settings}))
    folder, variant = RunFolder.open(root), Variant("a")
    for unit, rows in zip(folder.units, units, strict=True):
        if rows is not None:
            folder.keep(unit, {variant.key: packed(rows, folder.facts(unit))})
    return folder, variant


def test_rows_of_two_asks_with_refusals(tmp_path):
    """Samples come in another order in another unit; refused ones say why."""
    first = [Row("b", ask, m, [n, 1.0]) for ask, n in (("predicted", 1.0), ("label", 2.0)) for m in ("x", "y")]
    second = [Row("d", "", "", [], "d: broken"), Row("a", "predicted", "y", [3, 4]), Row("a", "predicted", "x", [5, 6])]
    folder, variant = folder_of(tmp_path, [first, second, None])
    column = column_of(folder, variant)
    assert (column.units, column.reasons, column.failed) == ((2, 3), {"d": "d: broken"}, 1)
    predicted, label = column.measured
    assert (predicted.ask, predicted.ids, label.ids) == ("predicted", ("a", "b"), ("b",))
    assert predicted.values["x"].tolist() == [[5, 6], [1, 1]]
    assert label.values["y"].tolist() == [[2, 1]]
    assert column.ids == {"a", "b", "d"}


def test_damaged_and_foreign_units_count_as_absent(tmp_path):
    folder, variant = folder_of(tmp_path, [[Row("a", "predicted", "x", [1.0])], None, None])
    folder.path(variant, folder.units[1]).write_bytes(b"PAR1 no")
    foreign = packed([Row("c", "predicted", "x", [1.0])], {"fingerprint": "other"})
    folder.path(variant, folder.units[2]).write_bytes(foreign)
    assert (column_of(folder, variant).units, column_of(folder, variant).ids) == ((1, 3), {"a"})


def test_values_of_unequal_length_are_refused(tmp_path):
    folder, variant = folder_of(tmp_path, [[Row("a", "predicted", "x", [1.0]), Row("b", "predicted", "x", [1.0, 2.0])]])
    with pytest.raises(BadRun, match=r"'x' has \[1, 2\] values"):
        column_of(folder, variant)


def test_metrics_of_other_samples_are_refused(tmp_path):
    folder, variant = folder_of(tmp_path, [[Row("a", "predicted", "x", [1.0]), Row("b", "predicted", "y", [1.0])]])
    with pytest.raises(BadRun, match="other samples than the metrics before it"):
        column_of(folder, variant)


def test_nothing_there(tmp_path):
    folder, variant = folder_of(tmp_path, [None])
    assert (column_of(folder, variant).measured, column_of(folder, variant).units) == ((), (0, 1))
