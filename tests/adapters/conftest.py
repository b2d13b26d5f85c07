"""A tiny model and pictures for all adapters."""

import pytest
import torch
from torch import Tensor, nn

from tests import zoo


@pytest.fixture
def net() -> nn.Module:
    return zoo.timm_model()


@pytest.fixture
def pictures() -> Tensor:
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
