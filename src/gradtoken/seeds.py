"""Where randomness comes from: a generator that the caller gives, or one with a seed of its own."""

import torch
from torch import Generator


def seeded(generator: Generator | None) -> Generator:
    """The generator, or a new one with seed 0, so that what is drawn by default is always the same."""
    return torch.Generator().manual_seed(0) if generator is None else generator
