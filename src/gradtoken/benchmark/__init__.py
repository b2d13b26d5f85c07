"""Experiments: `planned` says what is computed, `run` computes it into a folder, `Report.of` reads the folder."""

from gradtoken.benchmark.plan import planned as planned
from gradtoken.benchmark.report import Report as Report
from gradtoken.benchmark.running import run as run
