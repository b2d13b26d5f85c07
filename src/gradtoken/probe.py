"""The waist: what a method may know about one forward pass, for any model."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from gradtoken.attention import Attention, reachable, working_dtype
from gradtoken.errors import BadModel, BadTarget, NoAttention
from gradtoken.record import Call, Enough, Recorder
from gradtoken.tokens import Layout, find_grid, locate, marked_pictures

Inputs = Tensor | tuple[Any, ...] | Mapping[str, Any]
Target = int | list[int] | list[list[int]] | Tensor | Callable[[Any], Tensor] | None


@dataclass(frozen=True)
class Learnt:
    """What earlier runs on inputs of the same shapes showed: where the tail starts, and the layout of a picture."""

    start: int
    layout: Layout | None


LEARNT: WeakKeyDictionary[nn.Module, dict[Any, Learnt]] = WeakKeyDictionary()


class Probe:
    """One forward pass of `net`, with the gradient of each target's score by the last attention's query.

    inputs: a tensor, a tuple of arguments or a mapping of keyword arguments, batch first.
    target: class indices of shape (B,) or (B, K), one index for all, None for the predicted class, or a callable from
    the model's output to scores of shape (B,) or (B, K).

    logits (B, classes), or None where a callable target reads another output; scores (B, K) raw, before any softmax;
    `several` says whether targets came as (B, K).
    """

    def __init__(self, net: nn.Module, inputs: Inputs, target: Target = None) -> None:
        self.net, self.inputs = original(net), inputs
        self.picture = picture_of(inputs)
        self.batch = batch_of(inputs)
        with untouched(self.net, inputs):
            learnt = LEARNT.setdefault(self.net, {}).get(signature(inputs))
            self._run(target, learnt.start if learnt else None)
            self.layout = learnt.layout if learnt else None
            if learnt is None:
                self.layout = self._look() if self.picture is not None else None
                LEARNT[self.net][signature(inputs)] = Learnt(self._last_site, self.layout)
        if self.layout is None:
            self.layout = self._sequence()

    def _run(self, target: Target, start: int | None) -> None:
        """Forward, then backward through the tail; without `start` the tail is found on the way."""
        record = Recorder(start)
        try:
            with (
                torch.set_grad_enabled(start is None),
                torch.autograd.graph.saved_tensors_hooks(record.pack, record.unpack),
            ):
                with record:
                    output = call(self.net, self.inputs)
                if start is not None:
                    torch.set_grad_enabled(True)
                self.logits, scores, self.several = read(output, target, self.batch)
                self.scores = scores.detach()
                self._differentiate(record, scores)
        finally:
            record.drop()
        self.grids = record.grids

    def _differentiate(self, record: Recorder, scores: Tensor) -> None:
        if not record.calls:
            raise NoAttention(
                f"{type(self.net).__name__} computed no attention that can be seen: neither "
                "scaled_dot_product_attention, nor nn.MultiheadAttention, nor a softmax over the last axis between two "
                "matrix products; load the model with an sdpa or eager attention implementation"
            )
        last = record.calls[-1]
        self._last_site = last.site
        gradients = [
            torch.autograd.grad(score.sum(), last.q, retain_graph=True, allow_unused=True)[0]
            if score.requires_grad
            else None
            for score in scores.unbind(dim=1)
        ]
        if any(g is None or not g.any() for g in gradients):
            raise NoAttention(
                f"the last of {len(record.calls)} attentions of {type(self.net).__name__} does not reach the explained "
                "score: its query has no gradient; choose an output that depends on it"
            )
        self.calls = [detached(c) for c in record.calls]
        dq = torch.stack([g for g in gradients if g is not None], dim=1)  # (B or B * H, K, ...)
        self._dq = dq * last.q_factor

    # What methods read ----------------------------------------------------------------------------------------------

    @cached_property
    def last(self) -> Attention:
        """The last attention of the model: (B, H, N, M)."""
        attention = aligned(self.calls[-1], self.batch)
        if attention is None:
            raise NoAttention(
                f"the last attention works on {tuple(self.calls[-1].q.shape)}, not on the tokens of {self.batch} inputs: "
                "windows or groups of tokens that cannot be put back on the picture"
            )
        return attention

    @cached_property
    def dq(self) -> Tensor:
        """Gradient of each score by the last query before its scale. (B, K, H, N, D), float32 or float64"""
        K = self._dq.shape[1]
        per_target = [align(g, self.batch) for g in self._dq.unbind(dim=1)]
        dq = torch.stack([g for g in per_target if g is not None], dim=1)
        assert dq.shape[1] == K
        return dq.to(working_dtype(dq))

    @cached_property
    def earlier(self) -> list[Attention]:
        """The attentions before the last one over the same tokens, in order: all of them in a plain ViT."""
        found: list[Attention] = []
        for call_ in reversed(self.calls[:-1]):
            attention = aligned(call_, self.batch)
            if attention is None or not attention.square or not self._same_tokens(attention, found):
                continue
            found.insert(0, attention)
        return found

    def _same_tokens(self, attention: Attention, found: list[Attention]) -> bool:
        N, M, width = attention.shape[2], self.last.shape[3], attention.shape[1] * attention.q.shape[3]
        if found:
            return (N, width) == (found[0].shape[2], found[0].shape[1] * found[0].q.shape[3])
        assert self.layout is not None
        return N in (M, self.layout.count) if self.layout.is_grid else N == M

    @cached_property
    def readers(self) -> Tensor:
        """Query rows of the last attention that the score depends on: the class token, or every pooled token. (B, N)"""
        return (self.dq != 0).any(dim=4).any(dim=2).any(dim=1)

    @cached_property
    def reachable(self) -> Tensor:
        """Tokens that the readers may attend to; padding is False. (B, M)"""
        return reachable(self.last, self.readers)

    # The layout -----------------------------------------------------------------------------------------------------

    def _look(self) -> Layout:
        """Change single patches of the first picture and see which tokens of the first attention change."""
        assert self.picture is not None
        last = self.last
        H, W = self.picture.shape[-2:]
        total = last.shape[3]
        grid = find_grid(total, self.grids, (H, W))
        count = grid[0] * grid[1]
        fitting = [
            c
            for c in map(lambda c: aligned(c, self.batch), self.calls)
            if c and c.square and count <= c.shape[3] <= total
        ]
        if not fitting or fitting[0].shape[2:] != first_shape(self.calls, self.batch):
            return Layout(total - count, count, *grid)  # a later stage: tokens have mixed, nothing to see
        marked = replaced(self.inputs, self.picture, marked_pictures(self.picture[0], grid))
        record = Recorder(start=-1, until=lambda c: True)
        with torch.no_grad(), contextlib.suppress(Enough), record:
            call(self.net, marked)
        seen = aligned(record.calls[-1], 4)
        assert seen is not None
        layout = locate(seen.k, grid)
        return layout if seen.shape[3] == total else Layout(total - count, count, *grid)

    def _sequence(self) -> Layout:
        """Every token; the first one apart where it is the one the head reads, and is no content (a class token)."""
        total = self.last.shape[3]
        only_first = bool(self.readers[:, 0].all() and not self.readers[:, 1:].any()) and self.last.square
        first = 1 if only_first and total > 1 and not self.last.causal else 0
        return Layout(first, total - first)


# Inputs and outputs --------------------------------------------------------------------------------------------------


def tensors(inputs: Inputs) -> list[Tensor]:
    values = inputs.values() if isinstance(inputs, Mapping) else inputs if isinstance(inputs, tuple) else (inputs,)
    return [x for x in values if isinstance(x, Tensor)]


def batch_of(inputs: Inputs) -> int:
    found = tensors(inputs)
    if not found or found[0].ndim == 0:
        raise BadTarget(f"expected inputs with a batch of tensors, got {type(inputs).__name__}")
    return found[0].shape[0]


def picture_of(inputs: Inputs) -> Tensor | None:
    """The batch of pictures among the inputs: the first floating tensor (B, C, H, W)."""
    return next((x for x in tensors(inputs) if x.ndim == 4 and x.is_floating_point()), None)


def signature(inputs: Inputs) -> tuple[Any, ...]:
    return tuple((tuple(x.shape[1:]), x.dtype) for x in tensors(inputs))


def replaced(inputs: Inputs, picture: Tensor, pictures: Tensor) -> Inputs:
    """The same inputs with other pictures; everything else of a batch's size is that of the first sample."""

    def swap(x: Any) -> Any:
        if x is picture:
            return pictures
        if isinstance(x, Tensor) and x.ndim and len(x) == len(picture):
            return x[:1].expand(len(pictures), *x.shape[1:])
        return x

    if isinstance(inputs, Mapping):
        return {name: swap(x) for name, x in inputs.items()}
    return tuple(map(swap, inputs)) if isinstance(inputs, tuple) else pictures


def call(net: nn.Module, inputs: Inputs) -> Any:
    if isinstance(inputs, Mapping):
        return net(**inputs)
    return net(*inputs) if isinstance(inputs, tuple) else net(inputs)


def logits_of(output: Any) -> Tensor:
    """The logits of what a model returned: a tensor, or an object or mapping with `logits`."""
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", output)
    if isinstance(logits, Tensor) and logits.ndim == 2:
        return logits
    shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(output).__name__
    raise BadTarget(
        f"expected logits of shape (batch, classes), got {shape}; give a target that is a callable on the output"
    )


def read(output: Any, target: Target, batch: int) -> tuple[Tensor | None, Tensor, bool]:
    """Logits, the scores to explain (B, K), and whether several per sample were asked."""
    if callable(target):
        scores, logits = target(output), None
        if not isinstance(scores, Tensor) or scores.ndim not in (1, 2) or len(scores) != batch:
            shape = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise BadTarget(f"expected the target to return scores of shape ({batch},) or ({batch}, k), got {shape}")
    else:
        logits = logits_of(output)
        indices = class_indices(target, logits)
        scores = logits.gather(1, indices.reshape(batch, -1))
        scores = scores if indices.ndim == 2 else scores[:, 0]
    if not scores.isfinite().all():
        raise BadModel("the model's output is not finite; look for NaN in its weights or its input")
    several = scores.ndim == 2
    return None if logits is None else logits.detach(), scores if several else scores[:, None], several


def class_indices(target: Any, logits: Tensor) -> Tensor:
    """Checked class indices (B,) or (B, K)."""
    batch, classes = logits.shape
    if target is None:
        return logits.argmax(dim=1)
    try:
        indices = torch.as_tensor(target, device=logits.device)
    except (TypeError, ValueError) as error:
        raise BadTarget(f"expected class indices, got {target!r}: {error}") from None
    if indices.numel() and (indices.is_floating_point() or indices.dtype == torch.bool):
        raise BadTarget(f"expected class indices, got values of type {indices.dtype}")
    if indices.ndim == 0:
        indices = indices.expand(batch)
    if indices.ndim > 2 or len(indices) != batch or indices.numel() == 0:
        raise BadTarget(
            f"expected targets of shape ({batch},) or ({batch}, k) for a batch of {batch}, got {tuple(indices.shape)}"
        )
    if indices.min() < 0 or indices.max() >= classes:
        raise BadTarget(f"expected class indices from 0 to {classes - 1}, got {indices.min()} to {indices.max()}")
    return indices.long()


# Attention calls -----------------------------------------------------------------------------------------------------


def align(x: Tensor, batch: int) -> Tensor | None:
    """(B, H, N, D) from what a model computed: heads may be missing or folded into the batch; else None."""
    if x.ndim == 3 and len(x) % batch == 0:
        return x.unflatten(0, (batch, -1))
    if x.ndim == 4 and len(x) == batch:
        return x
    return None


def aligned(call_: Call, batch: int) -> Attention | None:
    """A recorded call as `Attention`, or None where its tokens are not those of a batch of inputs."""
    q, k = align(call_.q, batch), align(call_.k, batch)
    weights = None if call_.weights is None else align(call_.weights, batch)
    if q is None or k is None or (weights is None) != (call_.weights is None):
        return None
    q, k = q.detach() / call_.q_factor, k / call_.k_factor
    if k.shape[1] != q.shape[1]:  # grouped heads share keys
        k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
    return Attention(q, k, call_.scale or 1.0, call_.mask, call_.causal, weights)


def detached(call_: Call) -> Call:
    return Call(**{**vars(call_), "q": call_.q.detach()})


def first_shape(calls: list[Call], batch: int) -> torch.Size | None:
    attention = aligned(calls[0], batch)
    return None if attention is None else torch.Size(attention.shape[2:])


# Leaving the model as it was -----------------------------------------------------------------------------------------


def original(net: nn.Module) -> nn.Module:
    """The module that was given to torch.compile, or the module itself."""
    inner = getattr(net, "_orig_mod", net)
    return inner if isinstance(inner, nn.Module) else net


@contextlib.contextmanager
def untouched(net: nn.Module, inputs: Inputs) -> Iterator[None]:
    """Evaluation mode, no inference mode, eager execution, and everything put back at the end, also after an error."""
    if any(p.is_inference() for p in net.parameters()):
        raise BadModel("the weights were made in inference mode, which forbids gradients; load the model outside of it")
    training = [(module, module.training) for module in net.modules()]
    devices = {x.device.index or 0 for x in tensors(inputs) if x.device.type == "cuda"}
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.random.fork_rng(devices=list(devices)))
        if "torch._dynamo" in sys.modules:
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        try:
            net.eval()
            yield
        finally:
            for module, flag in training:
                module.training = flag
