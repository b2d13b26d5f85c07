"""Shared test setup."""

import contextlib

import pytest
import torch

from gradtoken.models._torchvision import ensure_torchvision

ensure_torchvision()
torch.set_num_threads(1)  # tiny models; pytest-xdist already uses every core
with contextlib.suppress(ImportError):
    import hypothesis

    hypothesis.settings.register_profile("same", derandomize=True, database=None)  # values in every run
    hypothesis.settings.load_profile("same")


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)
