"""Every metric is registered with its facts, and treats samples apart."""

import pytest

from gradtoken.metrics import METRICS
from gradtoken.metrics.entry import metric


@pytest.mark.parametrize("name", METRICS)
def test_facts(name):
    entry = METRICS[name]
    assert entry.paper.startswith("https://")
    assert entry.better in ("higher", "lower", "")
    assert entry.summary


def test_names_are_unique():
    def iou():
        """Another."""

    with pytest.raises(ValueError, match="metric 'iou' is registered twice"):
        metric(paper="https://example.org", better="")(iou)
