"""The full call: tensors in, relevance out."""

from typing import Any

import torch
from torch import Tensor, nn

from gradtoken.errors import BadRelevance, BadTarget
from gradtoken.folded import Clips
from gradtoken.inputs import Inputs
from gradtoken.keeping import Memory
from gradtoken.methods import METHODS
from gradtoken.probe import Probe
from gradtoken.targets import Target


def attribute(
    net: nn.Module,
    inputs: Inputs,
    target: Target = None,
    method: str = "gradtoken",
    *,
    allow_blank: bool = False,
    memory: Memory = "keep",
    **options: Any,
) -> Tensor:
    """How much each token, or pixel, of each input speaks for a class. Raw and unscaled.

    net: any module whose attention PyTorch can see; it is run in evaluation mode and left exactly as it was.
    inputs: a tensor, a tuple of arguments or a mapping of keyword arguments, batch first.
    target: class indices (B,) or (B, k), one index for all, None for the predicted class, or a callable from the
    model's output to scores (B,) or (B, k). All targets share one forward pass.
    memory: of the queries and keys before the last block, `keep` them, as they are or in `bfloat16` or `float16`; or
    `recompute` them, block by block in one more forward pass. See docs/how-to/memory.md.
    options: the method's own, see `METHODS`.

    Returns (B, rows, columns) for pictures, (B, H, W) for methods on the pixels that the network reads, (B, tokens) for
    token sequences, (B, moments, rows, columns) for films (B, frames, C, H, W); with k after B for (B, k) targets.
    Raises BadRelevance for a map that is not finite or, unless `allow_blank`, zero everywhere.
    """
    if not isinstance(method, str):
        raise BadTarget(f"expected the name of one method, got {method!r}; gradtoken.compare takes several")
    run = METHODS[method].bind(options)
    clips = Clips.of(net, inputs)
    net, inputs = (net, inputs) if clips is None else (clips.net, clips.pictures)
    probe = Probe(net, inputs, target, memory)
    relevance = run(probe)
    check_maps(relevance, method, allow_blank)
    maps = to_maps(probe, relevance)
    return maps if clips is None else maps.reshape(*maps.shape[:-2], clips.moments, -1, maps.shape[-1])


def to_maps(probe: Probe, relevance: Tensor) -> Tensor:
    """Relevance of content tokens (B, K, S) or of pixels (B, K, H, W) in the shape that `attribute` returns."""
    layout = probe.layout
    check_shape(probe, relevance)
    if relevance.ndim == 3:
        if not layout.is_grid:
            total = probe.last.shape[3]
            relevance = torch.nn.functional.pad(relevance, (layout.first, total - layout.first - layout.count))
        relevance = layout.to_map(relevance)
    return relevance if probe.several else relevance[:, 0]


def check_shape(probe: Probe, relevance: Tensor) -> None:
    """Refuse what is neither a value for each token nor one for each pixel; see docs/add-a-method.md."""
    tokens = (*probe.scores.shape, probe.layout.count)
    known = {tokens} if probe.picture is None else {tokens, (*probe.scores.shape, *probe.picture.shape[-2:])}
    if tuple(relevance.shape) not in known:
        expected = " or ".join(map(str, sorted(known, key=len)))
        raise BadRelevance(f"expected a method to return relevance of shape {expected}, got {tuple(relevance.shape)}")


def check_maps(relevance: Tensor, method: str, allow_blank: bool) -> None:
    """Refuse what cannot be shown. (B, K, S) or (B, K, H, W)"""
    bad = (~relevance.isfinite()).flatten(2).any(dim=2)
    if bad.any():
        raise BadRelevance(f"{method} gave values that are not finite for (sample, target) {bad.nonzero().tolist()}")
    blank = (relevance == 0).flatten(2).all(dim=2)
    if blank.any() and not allow_blank:
        raise BadRelevance(
            f"{method} found no token that speaks for (sample, target) {blank.nonzero().tolist()}: every value is "
            "zero, as where negative ones are clipped; ask for signed values (heads='mean' of gradtoken), or pass "
            "allow_blank=True to keep zero maps"
        )
