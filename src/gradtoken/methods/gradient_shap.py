"""Gradient SHAP, or expected gradients: Lundberg and Lee, NeurIPS 2017; Erion et al., 2019."""

import torch
from torch import Generator, Tensor

from gradtoken.along import explained, fitted, summed
from gradtoken.errors import BadTarget, expect_between
from gradtoken.methods import METHODS
from gradtoken.passes import micro_batches
from gradtoken.probe import Probe
from gradtoken.seeds import seeded
from gradtoken.state import untouched


@METHODS.add(
    paper="https://arxiv.org/abs/1906.10670",
    formula="R = sum over channels of mean_i d_i * dy/dx at x0_i + a_i d_i, d_i = x + noise e_i - x0_i, a_i ~ U(0, 1)",
    cost="1 F + samples (F + K B)",
    trial={"samples": 1},
    differs="written out here, and equal to captum's for the same draws. captum draws one a_i for each sample of the "
    "batch, from the global states of NumPy and PyTorch; here all samples and targets share what the generator "
    "gives, so that neither changes another's map",
)
def gradient_shap(
    probe: Probe,
    *,
    samples: int = 50,
    noise: float = 0.0,
    baselines: float | Tensor = 0.0,
    generator: Generator | None = None,
) -> Tensor:
    """Integrated gradients at random points of the way, from random baselines to the input with noise.

    Returns (B, K, H, W), for a text (B, K, S). Unit: logit, signed; the expected sum over all pixels or tokens is the
    mean of y(x + e) - y(x0). Padding is exactly 0.

    samples: how many points are drawn. noise: standard deviation of e, in the units that the network reads. baselines:
    a number, or tensors (n, C, H, W) or (n, N, C), of which each sample draws one; as in `integrated_gradients`.
    generator: of the points, the noise and the baselines; by default a new one with seed 0.
    """
    if samples < 1:
        raise BadTarget(f"expected at least 1 sample, got {samples}")
    expect_between("noise", noise, 0)
    source = seeded(generator)
    with untouched(probe.net, []):
        x, scores = explained(probe)
        references = of_one_size(baselines, x)
        total = x.new_zeros(*probe.scores.shape, *x.shape[1:])
        for numbers in micro_batches(probe, samples, graph=True):
            draws = [drawn(references, noise, source) for _ in numbers]
            a, e, x0 = (torch.stack(parts)[:, None] for parts in zip(*draws, strict=True))  # (n, 1, ...)
            d = x + e - x0  # (n, B, ...)
            z = (x0 + a * d).flatten(0, 1).requires_grad_()
            with torch.enable_grad():
                y = scores(z).sum(dim=0)
            gradients = (torch.autograd.grad(one, z, retain_graph=True)[0].reshape(d.shape) for one in y)
            total = total + torch.stack([(d * g).sum(dim=0) for g in gradients], dim=1)
    return summed(probe, total / samples)


def of_one_size(baselines: float | Tensor, x: Tensor) -> Tensor:
    """The baselines to draw from, (n, ...) as one sample of x."""
    several = isinstance(baselines, Tensor) and baselines.ndim == x.ndim
    parts = baselines if isinstance(baselines, Tensor) and several else [baselines]
    return torch.stack([fitted(part, x[0]) for part in parts])


def drawn(references: Tensor, noise: float, source: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """A place on the way a, noise e and a baseline x0, drawn for one sample after the other."""
    shape, device = references.shape[1:], source.device
    a = torch.rand((1,) * len(shape), generator=source, device=device, dtype=torch.float64)
    e = torch.zeros(shape, device=device, dtype=torch.float64)
    if noise:
        e = noise * torch.randn(shape, generator=source, device=device, dtype=torch.float64)
    number = torch.randint(len(references), (), generator=source, device=device) if len(references) > 1 else 0
    return a.to(references), e.to(references), references[int(number)]
