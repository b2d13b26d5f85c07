"""A picture that a feature answers to: activation maximisation, Ghiasi et al., arXiv 2212.06727."""

import contextlib
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn

from gradtoken.anatomy import PROJECTIONS, BlockFinder
from gradtoken.attention import working_dtype
from gradtoken.errors import BadModel, BadTarget
from gradtoken.inputs import apply
from gradtoken.operations import Op
from gradtoken.passes import number_of
from gradtoken.probe import Probe
from gradtoken.progress import track
from gradtoken.record import Enough
from gradtoken.run import tokens_in
from gradtoken.seeds import seeded
from gradtoken.state import untouched
from gradtoken.tape import Tape

BATCH, RATE, BETAS, WEIGHT = 8, 0.1, (0.5, 0.99), 0.0005  # pictures, Adam, weight of the total variation
NOISE, SHIFT = 0.5, 32  # of the first step; pixels


class Maximised(NamedTuple):
    """picture (3, H, W) in [0, 1]; losses (steps), what was minimised: -(mean activation) + weight * variation."""

    picture: Tensor
    losses: Tensor


def maximise_activation(
    net: nn.Module,
    block: int,
    feature: int,
    *,
    size: int | tuple[int, int] = 224,
    steps: int = 400,
    tv: float = 1.0,
    as_coded: bool = True,
    generator: Generator | None = None,
) -> Maximised:
    """Optimise a picture so that one feature of a block's MLP is active in every patch.

    argmin over x in [0, 1] of -mean(GELU(fc1(z))[:, :, f]) + 0.0005 tv TV(a(x)), the mean over the patches of 8
    augmented pictures a(x), in `steps` steps of Adam. The feature is what the last projection of the block reads: of a
    gated MLP the product. No picture is explained: the result shows what the feature stands for in general.

    net reads pictures (B, 3, H, W); they are not normalised, as the augmentation shifts and scales the colours by more.
    block: from 0, or from the end if negative. feature: from 0 to the width of the MLP, mostly 4 C. size: height and
    width of the picture. generator: of the start and of all augmentations.

    as_coded: as the published pictures were made: the authors' code divides the mean by 8 once more, so that the
    variation weighs 8 times as much, and its noise is one number for each channel instead of one for each pixel.
    """
    if steps < 1:
        raise BadTarget(f"expected at least 1 step, got {steps}")
    source, picture = start_from(net, size, generator)
    with untouched(net, [picture]):
        neurons = Neurons(net, picture[None], block, feature)
        picture = picture.clone().requires_grad_()
        optimiser = torch.optim.Adam([picture], lr=RATE, betas=BETAS)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        losses = []
        with torch.enable_grad():
            for step in track(range(steps), "steps"):
                pictures = augmented(picture, 1 - step / steps, as_coded, source)
                active = neurons.mean(pictures) / (BATCH if as_coded else 1)
                loss = WEIGHT * tv * total_variation(pictures) - active
                (picture.grad,) = torch.autograd.grad(loss, picture)
                optimiser.step()
                schedule.step()
                picture.data.clamp_(0, 1)
                losses.append(loss.detach())
    return Maximised(picture.detach(), torch.stack(losses))


def start_from(net: nn.Module, size: int | tuple[int, int], generator: Generator | None) -> tuple[Generator, Tensor]:
    """The source of random numbers, and a picture of U(0, 1) where the model is, in float32 or float64."""
    H, W = (size, size) if isinstance(size, int) else size
    source = seeded(generator)
    weight = weight_of(net)
    picture = torch.rand(3, H, W, generator=source, device=source.device)
    return source, picture.to(weight.device, working_dtype(weight))


def weight_of(net: nn.Module) -> Tensor:
    """A weight, which says where the model is and how it counts."""
    return next((p for p in net.parameters() if p.is_floating_point()), torch.empty(0))


def augmented(x: Tensor, left: float, as_coded: bool, source: Generator) -> Tensor:
    """8 pictures: colours (x - mu) / sd with mu ~ U(-1, 1) and log sd ~ U(-1, 1), noise, one circular shift.

    left: share of the steps that are left, times which the noise is 0.5. (3, H, W) -> (8, 3, H, W)
    """
    one = (BATCH, 3, 1, 1)

    def uniform() -> Tensor:
        return (2 * torch.rand(one, generator=source, device=source.device) - 1).to(x)

    mu, log_sd = uniform(), uniform()
    e = torch.randn(one if as_coded else (BATCH, *x.shape), generator=source, device=source.device).to(x)
    shift = torch.randint(-SHIFT, SHIFT + 1, (2,), generator=source, device=source.device).tolist()
    return ((x - mu) / log_sd.exp() + NOISE * left * e).roll(shift, dims=(2, 3))


def total_variation(x: Tensor) -> Tensor:
    """Mean over pictures and channels of the L2 norm of differences to the neighbour, summed over four directions."""
    right, down = x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]
    falling, rising = x[..., 1:, 1:] - x[..., :-1, :-1], x[..., :-1, 1:] - x[..., 1:, :-1]
    norms = [d.flatten(2).norm(dim=2).mean() for d in (right, down, falling, rising)]
    return torch.stack(norms).sum()


# The feature, found by the operations of the model -------------------------------------------------------------------


class ProjectionFinder(BlockFinder):
    """Notes which tensor each projection reads: by the number of its result."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: dict[int, int] = {}

    def made(self, op: Op, number: int | None, out: Tensor, args: Any) -> None:
        super().made(op, number, out, args)
        if op in PROJECTIONS and number is not None and out in self.origins:
            self.reads[number] = self.origins[out]


class Neurons:
    """One feature of one block's MLP."""

    def __init__(self, net: nn.Module, picture: Tensor, block: int, feature: int) -> None:
        self.dtype = weight_of(net).dtype
        self.probe = Probe(net, picture.to(self.dtype))
        stream = self.probe.stream
        if not -len(stream) <= block < len(stream):
            raise BadTarget(f"expected a block from 0 to {len(stream) - 1}, got {block}")
        self.block, self.feature = stream[block], feature
        self.number = self.find(picture)
        width = self.values(picture).shape[2]
        if not 0 <= feature < width:
            raise BadTarget(f"expected a feature from 0 to {width - 1}, got {feature}")

    def find(self, picture: Tensor) -> int:
        """The number of what the last projection of the block reads, after another projection of the same MLP."""
        finder, picture = ProjectionFinder(), picture.to(self.dtype)
        finder.numbers[picture] = -1
        with torch.no_grad(), Tape(set(), finder=finder, limit=self.probe.limit):
            apply(self.probe.net, picture)
        middle, end = (number_of(self.probe, (name, self.block)) for name in ("middle", "out"))
        reads = [read for number, read in sorted(finder.reads.items()) if middle < number <= end]
        if len(reads) < 2:
            raise BadModel(
                f"block {self.block} of {type(self.probe.net).__name__} has {len(reads)} projections after its "
                "attention; expected an MLP, of two at least, whose features can be maximised"
            )
        return reads[-1]

    def values(self, pictures: Tensor) -> Tensor:
        """All features of the patches; the model is run no further. (m, 3, H, W) -> (m, S, 4 C)"""
        found, inputs = list[Tensor](), pictures.to(self.dtype, copy=True)  # a model may write to them

        def take(x: Tensor) -> Tensor:
            found.append(x)
            raise Enough

        tape = Tape({self.number}, edits={self.number: take}, limit=self.probe.limit)
        with contextlib.suppress(Enough), tape:
            apply(self.probe.net, inputs)
        count = self.probe.attention[self.block].shape[2]
        view = tokens_in(found[0].shape, len(pictures), count, "middle" in self.probe.anatomy.tokens_first)
        if view is None or count < self.probe.layout.count:
            raise BadModel(f"expected features ({len(pictures)}, {count}, 4 C), got {tuple(found[0].shape)}")
        return self.probe.layout.content(view.read(found[0]).mT, count).mT

    def mean(self, pictures: Tensor) -> Tensor:
        """Mean of the feature over patches and pictures, ()."""
        return self.values(pictures)[:, :, self.feature].mean(dtype=pictures.dtype)
