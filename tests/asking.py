"""Properties asked of drawn values: few and the same ones in every run, many where the slow tests run."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy

CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
PHASES = [Phase.generate, Phase.shrink]


def examples(few: int, many: int) -> Any:
    """Parametrises a test with how many values it asks of: `few` in any run, `many` under the slow marker."""
    return pytest.mark.parametrize("count", [few, pytest.param(many, marks=pytest.mark.slow)])


def ask(count: int, property: Callable[..., None], *drawn: SearchStrategy[Any]) -> None:
    """Call the property with `count` drawn values, the same ones in every run; the smallest that fails is shown."""
    how = {"derandomize": True, "deadline": None, "database": None, "suppress_health_check": CHECKS, "phases": PHASES}
    settings(max_examples=count, **how)(given(*drawn)(property))()
