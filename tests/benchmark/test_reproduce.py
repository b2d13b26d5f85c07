"""The paper's numbers beside ours."""

import pytest

from gradtoken.benchmark.published import FIGURES, TABLES
from gradtoken.benchmark.report import Report
from gradtoken.benchmark.reproduce import beside, exhibits, requests
from gradtoken.benchmark.request import Request
from gradtoken.benchmark.running import run
from gradtoken.errors import BadTarget, UnknownName
from gradtoken.methods import METHODS
from gradtoken.models.load import load
from gradtoken.protocols import PROTOCOLS
from tests.benchmark import small

ALL = [*TABLES.values(), *FIGURES.values()]


@pytest.mark.parametrize("exhibit", ALL, ids=lambda exhibit: exhibit.name)
def test_rows_name_methods_and_options_that_exist(exhibit):
    for known in exhibit.rows:
        method, *options = known.title.split()
        METHODS[method].bind({name: int(v) if v.isdigit() else v for name, v in (o.split("=") for o in options)})
        assert known.values.keys() <= {quantity.title for quantity in exhibit.quantities}
        assert all(0 < value < 100 for value in known.values.values())


@pytest.mark.parametrize("exhibit", ALL, ids=lambda exhibit: exhibit.name)
def test_quantities_are_numbers_of_their_protocols(exhibit):
    for quantity in exhibit.quantities:
        if quantity.protocol not in PROTOCOLS:
            pytest.skip(f"{quantity.protocol} is not registered")
        names = [number.name for number in PROTOCOLS[quantity.protocol].numbers]
        assert any(name.split(",")[0] == quantity.number or not quantity.number for name in names)
        assert not quantity.ask or quantity.ask in PROTOCOLS[quantity.protocol].asks


def test_numbers_as_printed():
    rows = {known.name: known for known in TABLES["1"].rows}
    assert rows["GradToken"].values["ImageNet-Segmentation mIoU"] == 68.24
    assert "quoted from Chefer" in rows["Rollout"].rule
    assert "best of" in rows["AGCAM"].rule
    assert "positive, label known" not in {known.name: known for known in TABLES["2"].rows}["Rollout"].values


def test_without_runs():
    text = beside(TABLES["1"], [])
    assert "| GradToken (gradtoken) | 68.24 | best of {0 ... 0.9} | not run |" in text
    assert "ours: imagenet-segmentation/gradtoken2025" in text


def test_beside_a_run(tmp_path):
    data = small.pictures(tmp_path / "data", count=2, broken=False)
    request = Request("perturbation/chefer2021", data, methods=("gradtoken", "rollout"))
    protocol, samples = request.checked()
    folder = run(request.plan(protocol, samples, load("bundled"), 12), tmp_path / "run")
    text = beside(TABLES["2"], [Report.of(folder.root)])
    known = text.split("### positive, label known")[1].split("###")[0]
    assert "| ours [1]: positive | ours [1]: positive, trapezoid | ours [1]: positive, mean of steps |" in known
    assert "n 2" in next(line for line in known.splitlines() if line.startswith("| GradToken"))
    assert known.count("not run") == 3 * 7
    assert "| Rollout (rollout) | - | - | - | - | - |" in known  # its map is the same for every class
    assert "[1] perturbation/chefer2021 (version 1); model bundled" in text
    assert "Without a number" not in text
    other = beside(TABLES["1"], [Report.of(folder.root)])
    assert "Without a number for this: [1] perturbation/chefer2021." in other


def test_what_is_asked_for():
    assert exhibits(["2"], ["11"]) == [TABLES["2"], FIGURES["11"]]
    with pytest.raises(UnknownName, match="no table with numbers '5'"):
        exhibits(["5"], [])
    with pytest.raises(BadTarget, match="name a table"):
        exhibits([], [])


def test_runs_that_fill_an_exhibit(tmp_path):
    data = small.pictures(tmp_path, count=2, broken=False)
    one, two = requests([TABLES["1"], FIGURES["11"]], Request("", data, limit=4, batch=2))
    assert (one.protocol, one.grid, "vit_cx" in one.methods) == ("imagenet-segmentation/gradtoken2025", None, True)
    assert (two.grid, two.names, two.limit) == ("depth", ["gradtoken"], 4)
