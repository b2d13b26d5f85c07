"""The page on Movie Reviews, from runs of a tiny model: each number against the values it is made of."""

import csv

import numpy as np
import pytest

from benchmarks import movies
from gradtoken.benchmark.plan import planned
from gradtoken.benchmark.report import Report
from gradtoken.benchmark.running import run
from gradtoken.protocols import PROTOCOLS
from tests import texts

METHODS = ("gradtoken", "raw_attention", "input_x_gradient", "random", "occlusion")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root, samples, model = tmp_path_factory.mktemp("runs"), texts.documents(), texts.text_model()
    for name in ("movies/eraser", "faithfulness/eraser"):
        run(planned(PROTOCOLS[name], texts.data_of(samples), model, METHODS), root / name.split("/")[0])
    return root


@pytest.fixture(scope="module")
def written(runs, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    (out / "page.md").write_text("before\n<!-- measured -->\nold\n<!-- end of measured -->\nafter\n")
    arguments = ["--rationales", runs / "movies", "--faithfulness", runs / "faithfulness", "--page", out / "page.md"]
    movies.main(list(map(str, [*arguments, "--csv", out / "movies.csv", "--figure", out / "movies.png"])))
    return out


def values(runs, method):
    """F1 of each text, (texts, ks)"""
    report = Report.of(runs / "movies")
    variant = next(one for one in report.folder.variants if one.method == method)
    (measured,) = movies.column_of(report.folder, variant).measured
    return measured.values["f1"]


def test_the_table_has_each_k_with_paired_differences(runs, written):
    with (written / "movies.csv").open() as file:
        rows = {(row["protocol"], row["method"], row["number"]): row for row in csv.DictReader(file)}
    ks = PROTOCOLS["movies/eraser"].ks
    for k in range(10, 81, 10):
        one, base = (values(runs, name)[:, ks.index(k)] for name in ("raw_attention", "gradtoken"))
        row = rows["movies/eraser", "raw_attention", f"token-F1 at k = {k}"]
        assert float(row["value"]) == pytest.approx(one.mean())
        assert float(row["difference"]) == pytest.approx((one - base).mean())
        assert float(row["difference_low"]) <= float(row["difference"]) <= float(row["difference_high"])
        assert row["texts"] == row["texts_of_both"] == "6"
    assert rows["movies/eraser", "gradtoken", "AUPRC"]["difference"] == ""
    assert rows["faithfulness/eraser", "random", "sufficiency"]["better"] == "lower"
    assert ("movies/eraser", "occlusion", "AUPRC") not in rows


def test_the_page_tells_the_same_and_keeps_what_stands_around(written):
    page = (written / "page.md").read_text()
    assert page.startswith("before\n<!-- measured -->\n")
    assert page.endswith("<!-- end of measured -->\nafter\n")
    assert "\nold\n" not in page
    assert page.count("Refused, for they need pictures: `occlusion`.") == 2
    assert page.count("| `gradtoken` | 6 |") == 2
    assert (written / "movies.png").read_bytes()[1:4] == b"PNG"


def test_the_ordering_says_only_what_the_intervals_say(runs):
    report = Report.of(runs / "movies")
    lines = movies.lines_of(report)
    told = [row.split(" | ") for row in movies.ordering(lines).splitlines()[2:]]
    assert [row[0].strip("| ") for row in told] == [str(k) for k in range(10, 81, 10)]
    for k, (_, above, open_, below) in zip(range(10, 81, 10), told, strict=True):
        found = [line.differences[movies.at(k)] for line in lines if line.differences]
        assert above.count("`") == 2 * sum(one.low > 0 for one in found)
        assert open_.count("`") == 2 * sum(one.low <= 0 <= one.high for one in found)
        assert int(below.strip(" |")) == sum(one.high < 0 for one in found)
    assert np.isfinite([one.value for line in lines for one in line.differences.values()]).all()
