"""Occlusion: Zeiler and Fergus, ECCV 2014; computed by captum."""

from torch import Tensor

from gradtoken.errors import BadTarget, MissingExtra
from gradtoken.methods import METHODS
from gradtoken.passes import at_once
from gradtoken.probe import Probe
from gradtoken.state import untouched

Size = int | tuple[int, int]


@METHODS.add(
    paper="https://arxiv.org/abs/1311.2901",
    formula="R = mean over the windows that hold a pixel of y(x) - y(x with the window covered)",
    cost="2 F + one F for each place of the window: S with a window of one patch",
    needs=("grid",),
    trial=lambda probe: all_covered(probe),
    differs="the paper shows the probability that is left; this is the loss of the logit, as in captum",
)
def occlusion(probe: Probe, *, window: Size | None = None, stride: Size | None = None, baseline: float = 0.0) -> Tensor:
    """How much the score falls when a window is covered.

    Returns (B, K, H, W). Unit: logit, signed; not conserved.

    window: height and width in pixels, one number for both; None for one patch. stride: steps of the window, at most
    its size; None for its size. baseline: what covers it, as the network reads pictures: 0 is mid grey, or the mean
    colour of its training pictures.
    """
    try:
        from captum.attr import Occlusion
    except ImportError:
        raise MissingExtra.of("captum", "captum") from None
    C, H, W = probe.grid.shape[1:]
    patch = (H // (probe.layout.rows or 1), W // (probe.layout.columns or 1))
    h, w = sizes("window", patch if window is None else window, (H, W))
    steps = sizes("stride", stride or (h, w), (h, w))
    with untouched(probe.net, []):
        R: Tensor = Occlusion(lambda pictures: probe.score(inputs=probe.pictured(pictures))).attribute(
            probe.grid.detach().clone(),
            sliding_window_shapes=(C, h, w),
            strides=(C, *steps),
            baselines=baseline,
            perturbations_per_eval=at_once(probe),
        )
    return R.reshape(*probe.scores.shape, C, H, W)[:, :, 0].to(probe.dq)  # the same for all channels


def all_covered(probe: Probe) -> Tensor:
    """With one window, as large as the picture."""
    H, W = probe.grid.shape[2:]
    R: Tensor = occlusion(probe, window=(H, W))
    return R


def sizes(name: str, given: Size, largest: tuple[int, int]) -> tuple[int, int]:
    """Height and width, each from 1 to the largest."""
    height, width = (given, given) if isinstance(given, int) else given
    if not (1 <= height <= largest[0] and 1 <= width <= largest[1]):
        raise BadTarget(f"expected a {name} from 1 x 1 to {largest[0]} x {largest[1]} pixels, got {given!r}")
    return height, width
