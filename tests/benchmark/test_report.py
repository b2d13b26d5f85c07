"""A report of a real tiny run: nothing is left out, and every form says the same."""

import csv
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch

from gradtoken.benchmark import html, written
from gradtoken.benchmark.columns import column_of
from gradtoken.benchmark.pictures import shown
from gradtoken.benchmark.plan import fingerprint_of, planned
from gradtoken.benchmark.report import Report
from gradtoken.benchmark.running import run
from gradtoken.data.opening import open_data
from gradtoken.errors import BadModel, BadRun, UnknownName
from gradtoken.models.load import load
from gradtoken.protocols import PROTOCOLS
from tests import texts as documents
from tests.benchmark import small


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return small.pictures(tmp_path_factory.mktemp("data") / "noise")


@pytest.fixture(scope="module")
def folder(data, tmp_path_factory):
    return small.made(data, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def report(folder):
    return Report.of(folder.root)


def test_lines_are_ranked_and_failures_counted(report):
    values = [line.numbers["abpc"].value for line in report.lines]
    assert values == sorted(values, reverse=True)
    assert {line.title for line in report.lines} == {"gradtoken", "random", "raw_attention"}
    assert all(line.samples == 5 for line in report.lines)
    (refusal,) = report.refusals
    assert (refusal.count, report.failed) == (3, 3)
    assert set(refusal.methods) == {"gradtoken", "random", "raw_attention"}
    assert report.measured


def test_a_report_of_some_samples(folder, report):
    every = column_of(folder, folder.variants[0]).measured[0]
    some = Report.of(folder.root, samples=set(every.ids[:2]))
    (line,) = [line for line in some.lines if line.title == folder.variants[0].title]
    means = {name: value[:2].mean(axis=0) for name, value in every.values.items()}
    assert line.samples == 2
    assert line.numbers["abpc"].value == pytest.approx(float(report.protocol.conclude(means)["abpc"]))
    assert line.failed == 0
    with pytest.raises(BadRun, match="no results"):
        Report.of(folder.root, samples={"another"})


def test_markdown(report):
    text = written.markdown(report)
    assert text.startswith(f"# {small.PROTOCOL} (version 1)\n")
    assert "small demonstration model" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len({line.replace("\\|", "").count("|") for line in rows[:5]}) == 1
    assert "| gradtoken | label | 5 | " in text
    assert "abpc - gradtoken" in text
    assert text.count("**") >= 6
    assert "## Without values" in text


def test_csv_agrees_with_the_lines(report):
    rows = list(csv.DictReader(io.StringIO(written.as_csv(report))))
    assert len(rows) == 3 * 3
    for row in rows:
        line = next(line for line in report.lines if line.title == row["method"])
        one = line.numbers[row["number"]]
        assert [float(row[end]) for end in ("value", "low", "high")] == [one.value, one.low, one.high]
        assert (row["protocol"], row["version"], row["measured"], row["refused"]) == (small.PROTOCOL, "1", "5", "1")
        assert (row["difference"] == "") == (row["method"] == "gradtoken")


class Tags(HTMLParser):
    """Refuses tags that are not closed, and collects addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.addresses, self.ids = [], [], []

    def handle_starttag(self, tag, attrs):
        self.addresses += [v for k, v in attrs if k in ("src", "href", "xlink:href")]
        self.ids += [v for k, v in attrs if k == "id"]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parsed(text):
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    return tags


def test_page_fetches_nothing_and_is_whole(report):
    text = html.page(report)
    tags = parsed(text)
    assert all(address.startswith(("data:", "#")) for address in tags.addresses)
    assert "<b>&|" not in text
    assert text.count("data-line=") == 3
    assert text.count("<svg") == 2
    for i in range(3):  # every method has its line in each drawing
        assert sum(one.startswith("line-") and one.endswith(f"-{i}") for one in tags.ids) == 2
    assert len(text) < 150_000


def test_page_with_pictures(report, data):
    plan = planned(report.protocol, open_data(data), load("bundled"), ["gradtoken"])
    found = list(shown(report, plan, ["gradtoken"]))
    assert [one.caption.split(",")[0] for one in found] == ["worst"] * 3 + ["best"] * 2
    captions = [float(re.search(r"(\W?[\d.]+):", one.caption)[1].replace("\N{MINUS SIGN}", "-")) for one in found]
    assert captions[:3] == sorted(captions[:3])
    assert captions[3:] == sorted(captions[3:], reverse=True)
    assert max(captions[:3]) <= min(captions[3:])
    text = html.page(report, found)
    assert parsed(text).addresses.count(found[0].uri) == 1
    with pytest.raises(UnknownName, match="no method with numbers in this run 'rollout'"):
        list(shown(report, plan, ["rollout"]))


def test_pictures_of_another_run_are_refused(report, data):
    plan = planned(PROTOCOLS[small.PROTOCOL], open_data(data), load("bundled"), ["gradtoken"], unit=64)
    with pytest.raises(BadRun, match="was run with other data, another model or other settings"):
        list(shown(report, plan))


def test_pictures_show_the_maps_that_were_measured(tmp_path, monkeypatch):
    """Of a method that draws numbers, and of files whose names are no text, in a folder whose name is none either."""
    data = small.pictures(tmp_path / "\udcff|\n# b", count=2, broken=False)
    (data / "0.png").rename(data / "0\udcff.png")
    (data / "labels.csv").unlink()
    model, protocol = load("bundled"), PROTOCOLS["insertion-deletion/tam2021"]
    protocol = replace(protocol, shares=(0.0, 0.5, 1.0))
    plan, seen = planned(protocol, open_data(data), model, ["random"]), []
    monkeypatch.setattr("gradtoken.benchmark.work.check_maps", lambda R, *_, **__: seen.append(R))
    report = Report.of(run(plan, tmp_path / "run").root)
    measured = list(seen)
    text = html.page(report, list(shown(report, plan))) + written.markdown(report) + written.as_csv(report)
    text.encode()
    assert "\n# b" not in text
    assert "(0\\udcff.png)" in text
    again = seen[len(measured) :]
    assert len(again) == len(measured) == 2
    assert all(any(torch.equal(R, known) for known in measured) for R in again)


@pytest.mark.parametrize("name", ['=HYPERLINK("http://x")', " @SUM(1)", "+1", "-1"])
def test_no_name_is_a_formula_of_a_spreadsheet(report, name):
    settings = report.settings | {"model": report.settings["model"] | {"name": name}}
    folder = replace(report.folder, manifest=report.folder.manifest | {"settings": settings})
    rows = list(csv.DictReader(io.StringIO(written.as_csv(replace(report, folder=folder)))))
    assert {row["model"] for row in rows} == {f"'{name}"}
    assert {row["data"][0] for row in rows} == {report.settings["data"]["name"][0]}


def test_texts_have_no_pictures(report):
    eraser, reviews = PROTOCOLS["movies/eraser"], documents.data_of(documents.documents())
    plan = planned(eraser, reviews, documents.text_model(), ["gradtoken"])
    with pytest.raises(BadModel, match="expected a model of pictures"):
        list(shown(report, plan))


@pytest.mark.parametrize(
    ("value", "said"), [(-0.0001, "0.0"), (-0.001, "\N{MINUS SIGN}0.1"), (0.0, "0.0"), (float("nan"), "-")]
)
def test_no_minus_zero(value, said):
    assert written.percent(value) == said


def test_a_changed_protocol_is_named_with_its_change(data, tmp_path):
    protocol = replace(PROTOCOLS[small.PROTOCOL], shares=(0.0, 0.5, 1.0))
    run(planned(protocol, open_data(data), load("bundled"), ["random"]), tmp_path)
    report = Report.of(tmp_path)
    assert report.protocol.shares == (0.0, 0.5, 1.0)
    assert "(version 1, shares=[0.0, 0.5, 1.0] instead of [0.0, 0.1," in written.title(report)


def test_a_protocol_of_another_version_is_refused(folder, tmp_path):
    manifest = json.loads(json.dumps(folder.manifest))
    manifest["settings"]["protocol"]["version"] = 0
    manifest["fingerprint"] = fingerprint_of(manifest["settings"])
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BadRun, match="another version of abpc/agcam2024, which differs in version"):
        Report.of(tmp_path)


def test_a_run_without_a_setting_that_its_protocol_has_now_is_refused(folder, tmp_path):
    manifest = json.loads(json.dumps(folder.manifest))
    del manifest["settings"]["protocol"]["areas"]
    manifest["fingerprint"] = fingerprint_of(manifest["settings"])
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BadRun, match="which differs in areas"):
        Report.of(tmp_path)


def test_a_run_that_has_not_begun(folder, tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps(folder.manifest))
    with pytest.raises(BadRun, match="holds no results yet"):
        Report.of(tmp_path)


def test_a_part_of_a_run_says_so(data, tmp_path):
    folder = small.made(data, tmp_path, ["random", "gradtoken"], unit=2)
    variant = next(v for v in folder.variants if v.title == "random")
    folder.path(variant, folder.units[1]).unlink()
    text = written.markdown(Report.of(tmp_path))
    assert "**Not finished**, units done: random (2 of 3)" in text
    assert "different numbers of samples" in text
