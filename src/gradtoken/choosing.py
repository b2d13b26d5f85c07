"""What is explained: classes or other scores, settled by the first output that is seen."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gradtoken.errors import BadModel, BadTarget
from gradtoken.models.labels import find_class
from gradtoken.models.model import Model
from gradtoken.scores import Contrast, SimilarTo
from gradtoken.targets import logits_of

Class = int | str | None
Score = Callable[[Any], Tensor]
Asked = Class | Score | Contrast | SimilarTo


class Choice:
    """Targets as a callable on the model's output that remembers what it saw first: logits, and indices of classes.

    Methods that run the model again, on many inputs at once, ask for the same classes.
    """

    def __init__(self, model: Model, targets: Sequence[Any]) -> None:
        self.model, self.targets = model, [t.of(model) if isinstance(t, Contrast | SimilarTo) else t for t in targets]
        self.independent = model.independent
        self.logits: Tensor | None = None
        self.scores: list[float] = []
        self.indices: list[int | None] = []
        self.reads_logits = not any(map(callable, self.targets))

    def __call__(self, output: Any) -> Tensor:
        """Scores of the targets, at first for one input, later for n. (n, K)"""
        if self.scores:
            return self.read(output)
        self.settle(None if all(map(callable, self.targets)) else logits_of(output)[0])
        scores = self.read(output)
        if len(scores) != 1:
            raise BadTarget(f"expected the target to return one score, a tensor of shape (1,), got {len(scores)}")
        self.scores = scores[0].tolist()
        return scores

    def over(self, outputs: Iterable[Any]) -> None:
        """Settle on the mean over several inputs, which are parts of one. outputs: of some of them each."""
        rows = [Seen.of(output, self.targets) for output in outputs]
        logits = torch.cat([row.logits for row in rows]) if rows[0].logits is not None else None
        self.settle(None if logits is None else logits.mean(dim=0))
        called = [torch.cat(columns)[:, 0] for columns in zip(*(row.called for row in rows), strict=True)]
        own = [called.pop(0) if i is None else logits[:, i] for i in self.indices]  # type: ignore[index]
        self.scores = torch.stack(own).cpu().double().mean(dim=1).tolist()

    def settle(self, logits: Tensor | None) -> None:
        """Fix the classes by these logits, or by none where every target is a callable. (classes,)"""
        if logits is not None:
            self.logits = logits.detach().cpu().double()  # on the processor, as Apple's GPUs have no float64
            if not self.logits.softmax(0).isfinite().all():
                raise BadModel("the model's output is not finite; look for NaN in its weights or its input")
        self.indices = [None if callable(t) else self.index(t) for t in self.targets]

    def read(self, output: Any) -> Tensor:
        """One column for each target. (n, K)"""
        columns = [
            column(t, output) if i is None else logits_of(output)[:, i : i + 1]
            for t, i in zip(self.targets, self.indices, strict=True)
        ]
        if len({len(scores) for scores in columns}) > 1:
            raise BadTarget("expected each target to return one score for each input, a tensor of shape (inputs,)")
        return torch.cat(columns, dim=1)

    def index(self, target: Class) -> int:
        """Class index of a name, an index, or None for the prediction."""
        assert self.logits is not None
        return int(self.logits.argmax()) if target is None else find_class(self.model.labels, target, len(self.logits))

    @property
    def probabilities(self) -> Tensor | None:
        """Of the classes, where there are several or each has its own. (classes,)"""
        if self.logits is None or (len(self.logits) == 1 and not self.independent):
            return None
        return self.model.probabilities(self.logits)

    def facts(self, k: int) -> dict[str, Any]:
        """What an explanation says of target k."""
        index = self.indices[k]
        p = self.probabilities
        probability = None if index is None or p is None else float(p[index])
        name = getattr(self.targets[k], "__name__", "score") if index is None else self.name(index)
        return {"target": index, "name": name, "logit": self.scores[k], "probability": probability}

    def named(self) -> list[tuple[int | None, str]]:
        """Class index, None for another score, and name of each target."""
        return [(index, "" if index is None else self.name(index)) for index in self.indices]

    def name(self, index: int) -> str:
        """Label of a class, or its number."""
        if self.model.labels is None:
            return f"class {index}"
        if index >= len(self.model.labels):
            count = "" if self.logits is None else f"{len(self.logits)} outputs and "
            raise BadModel(
                f"{self.model.name} has {count}{len(self.model.labels)} labels; give one label for each output"
            )
        return self.model.labels[index]

    def predicted(self) -> tuple[tuple[str, float], ...]:
        """The five most probable classes."""
        p = self.probabilities
        if p is None:
            return ()
        return tuple((self.name(int(i)), float(p[i])) for i in p.argsort(descending=True)[:5])


class Seen(NamedTuple):
    """What is kept of an output for n inputs: logits (n, classes), and the scores of callable targets, (n, 1) each."""

    logits: Any
    called: list[Tensor]

    @classmethod
    def of(cls, output: Any, targets: Sequence[Any]) -> "Seen":
        logits = None if all(map(callable, targets)) else logits_of(output).detach()
        return cls(logits, [column(t, output).detach() for t in targets if callable(t)])


def column(target: Score, output: Any) -> Tensor:
    """The scores that a callable target makes of the output for n inputs. (n, 1)"""
    score = target(output)
    if not isinstance(score, Tensor) or not score.numel() or score.numel() != (len(score) if score.ndim else 1):
        shape = tuple(score.shape) if isinstance(score, Tensor) else type(score).__name__
        raise BadTarget(f"expected the target to return one score, a tensor of shape (1,), got {shape}")
    return score.reshape(-1, 1)
