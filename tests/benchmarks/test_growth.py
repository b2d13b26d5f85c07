"""What the pages of costs are written from: fits, verdicts and peers."""

import copy
import json

import pytest
import torch
from benchmarks.cost import RESULTS
from benchmarks.growth import exponent
from benchmarks.rollouts import transformers_rollout

from benchmarks import growing, large
from gradtoken import attribute


def test_the_exponent_of_a_power_law():
    rows = [{"x": x, "y": 3 * x**1.5} for x in (196, 1024, 16384)]
    assert exponent(rows, "y") == pytest.approx(1.5)


@pytest.fixture
def results():
    return json.loads(RESULTS.read_text())


def test_limits_that_are_not_met_are_said(results):
    assert "**not met**" not in growing.keeping(results)
    worse = copy.deepcopy(results)
    row = worse["keeping"]["rows"][0]
    row["keep"][1] = row["plain"][1] + 2 * row["q and k"]
    rounded = {"rounding": {"rows": [{**worse["rounding"]["rows"][0], "above": 3, "pictures": 4}]}}
    assert "2.00 x the bytes" in growing.keeping(worse)
    assert "**not met**" in growing.keeping(worse)
    assert "3 of 4 | **not met**" in growing.rounding(rounded)


def test_the_page_has_what_was_measured(results):
    assert growing.sections(results) in growing.PAGE.read_text()
    assert large.section(json.loads(large.RESULTS.read_text())) in large.PAGE.read_text()


def test_methods_above_the_limit_are_named_with_a_reason():
    found = large.section({"plain": 10**8, "rows": {"lrp": {"bytes": 5 * 10**9, "stopped": True}}})
    assert f"- `lrp`: {large.WHY['lrp']}." in found


def test_rollout_as_users_of_transformers_write_it():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        image_size=224, patch_size=16, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    net, x = transformers.ViTForImageClassification(config).eval(), torch.randn(1, 3, 224, 224)
    ours = attribute(net, x, 0, "rollout", start=0)
    with transformers_rollout(net) as explain:
        torch.testing.assert_close(explain(x), ours)
