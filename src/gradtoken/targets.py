"""What is explained: class indices or a callable, and the scores they select from a model's output."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gradtoken.errors import BadModel, BadTarget

Target = int | list[int] | list[list[int]] | Tensor | Callable[[Any], Tensor] | None


class Independent(list[list[int]]):
    """Class indices (B, K) whose probabilities are sigmoids."""

    independent = True


class Scores(NamedTuple):
    """values (B, K) before any softmax; logits (B, classes) where class indices were asked; several: K was given."""

    values: Tensor
    logits: Tensor | None
    several: bool


def read(output: Any, target: Target, batch: int) -> Scores:
    """The scores that a target selects. Raises BadTarget where it does not fit, BadModel where they are not finite."""
    if callable(target):
        scores, logits = real(called(target, output, batch)), None
    else:
        logits = real(logits_of(output))
        indices = class_indices(target, logits)
        scores = logits.gather(1, indices.reshape(len(logits), -1)).reshape(indices.shape)
    if not scores.isfinite().all():
        raise BadModel("the model's output is not finite; look for NaN in its weights or its input")
    several = scores.ndim == 2
    return Scores(scores if several else scores[:, None], None if logits is None else logits.detach(), several)


def real(scores: Tensor) -> Tensor:
    """Scores that have an order and a gradient. Raises BadTarget for complex ones."""
    if scores.is_complex():
        raise BadTarget(f"expected real scores, got {scores.dtype}; give a target that makes real ones of the output")
    return scores


class Chosen:
    """The targets as the first output fixed them, read from any later output of `copies` repeats of the batch."""

    def __init__(self, target: Target, first: Scores) -> None:
        self.target, self.several, self.batch = target, first.several, len(first.values)
        self.indices = indices_of(target, first)

    def scores(self, output: Any, copies: int = 1) -> Tensor:
        """(copies * B, K), before any softmax."""
        if self.indices is not None:
            return logits_of(output).gather(1, self.indices.repeat(copies, 1))
        assert callable(self.target)
        scores = called(self.target, output, copies * self.batch)
        return scores if self.several else scores[:, None]

    def probabilities(self, output: Any, copies: int = 1) -> Tensor:
        """(copies * B, K), after the softmax over all classes, or a sigmoid where the target says `independent`."""
        logits = logits_of(output)
        if getattr(self.target, "independent", False):
            return logits.sigmoid().gather(1, self.known.repeat(copies, 1))
        if logits.shape[1] == 1:
            raise BadTarget(
                "the model gives one number for each input, whose softmax is always 1; ask for two classes or captions"
            )
        return logits.softmax(dim=1).gather(1, self.known.repeat(copies, 1))

    @property
    def known(self) -> Tensor:
        """Class indices (B, K)."""
        if self.indices is None:
            raise BadTarget("this method reads class probabilities; expected classes as targets, got a callable")
        return self.indices


def indices_of(target: Target, first: Scores) -> Tensor | None:
    """Class indices (B, K), or None where a callable reads something else. A callable may say its `indices` (K)."""
    if not callable(target):
        assert first.logits is not None
        return class_indices(target, first.logits).reshape(len(first.logits), -1)
    found = getattr(target, "indices", None)
    if found is None or any(i is None for i in found):
        return None
    return torch.as_tensor(found, device=first.values.device).expand(len(first.values), -1)


def called(target: Callable[[Any], Tensor], output: Any, batch: int) -> Tensor:
    """Scores (B,) or (B, K) that a callable target makes of the model's output."""
    scores = target(output)
    if not isinstance(scores, Tensor) or scores.ndim not in (1, 2) or len(scores) != batch or not scores.numel():
        shape = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise BadTarget(f"expected the target to return scores of shape ({batch},) or ({batch}, k), got {shape}")
    return scores


def logits_of(output: Any) -> Tensor:
    """The logits of what a model returned: a tensor, or an object or mapping with `logits`. (B, classes)"""
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", output)
    if isinstance(logits, Tensor) and logits.ndim == 2 and logits.shape[1]:
        return logits
    shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(output).__name__
    raise BadTarget(
        f"expected logits of shape (batch, classes), got {shape}; give a target that is a callable on the output"
    )


def class_indices(target: Any, logits: Tensor) -> Tensor:
    """Checked class indices (B,) or (B, K)."""
    batch, classes = logits.shape
    if target is None:
        return logits.argmax(dim=1)
    try:
        indices = torch.as_tensor(target, device=logits.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise BadTarget(f"expected class indices, got {target!r}: {error}") from None
    if indices.numel() and (indices.is_floating_point() or indices.is_complex() or indices.dtype == torch.bool):
        raise BadTarget(f"expected class indices, got values of type {indices.dtype}")
    indices = indices.long()
    if indices.ndim == 0:
        indices = indices.expand(batch)
    if indices.ndim > 2 or len(indices) != batch or indices.numel() == 0:
        raise BadTarget(
            f"expected targets of shape ({batch},) or ({batch}, k) for a batch of {batch}, got {tuple(indices.shape)}"
        )
    if indices.min() < 0 or indices.max() >= classes:
        raise BadTarget(f"expected class indices from 0 to {classes - 1}, got {indices.min()} to {indices.max()}")
    return indices
