"""What the tests share: numbers, and a backward pass under a preset."""

import torch

from gradtoken.lrp import Rules


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pulled(preset, f, *x, R=None):
    """f(*x) under a preset, and what comes back to each x for R at the result."""
    x = [e.detach().clone().requires_grad_() for e in x]
    with Rules(preset):
        y = f(*x)
    R = numbers(*y.shape, seed=9) if R is None else R
    return y.detach(), torch.autograd.grad(y, x, R, materialize_grads=True)


def close(a, b, tolerance=1e-9):
    assert a.shape == b.shape
    assert (a - b).abs().max() <= tolerance * max(1e-30, b.abs().max())
