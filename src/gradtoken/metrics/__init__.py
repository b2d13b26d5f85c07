"""Every metric, by name. A metric is a pure function of tensors: one value or curve per sample, batch first."""

from gradtoken.metrics import (
    confidence,
    curves,
    localisation,
    maps,
    mosaic,
    sanity,
    segmentation,
    thresholds,
    words,
)
from gradtoken.metrics.entry import METRICS

__all__ = [
    "METRICS",
    "confidence",
    "curves",
    "localisation",
    "maps",
    "mosaic",
    "sanity",
    "segmentation",
    "thresholds",
    "words",
]
