"""Shared test setup."""

import pytest
import torch

from gradtoken.models._torchvision import ensure_torchvision

ensure_torchvision()
torch.set_num_threads(1)  # tiny models; pytest-xdist already uses every core


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)
