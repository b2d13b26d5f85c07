"""Do the words that speak most for a label lie among those that people marked as its reason?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gradtoken.data.sample import DataSet, Rationale, Sample
from gradtoken.errors import BadModel, BadSample
from gradtoken.metrics import words as metrics
from gradtoken.models.load import count_of
from gradtoken.models.model import Model
from gradtoken.protocols.protocol import Array, Ask, Batch, Means, Number, Protocol, View, asked, by_ask

Spans = tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class Marked:
    """Words of a text and which are marked, (W,); for each token its first and end character, 0 and 0 for none."""

    words: tuple[str, ...]
    marked: Tensor
    spans: Spans


@dataclass(frozen=True, kw_only=True)
class Rationales(Protocol):
    """A word has the highest relevance of its tokens, clamped at 0, and the k highest are compared with the marked.

    ks: for each of these k, F1 as in metrics.words.token_f1. averaged: those whose mean is reported.

    Means over texts. Words beyond what the model reads are never chosen, but count as missed; special tokens count for
    nothing. A text without words, or without a marked one, is left out.
    """

    asks: tuple[Ask, ...] = ("label",)
    ks: tuple[int, ...]
    averaged: tuple[int, ...]

    def samples(self, data: DataSet, model: Model) -> DataSet:
        model.for_texts  # noqa: B018  which refuses a model of pictures
        expect_classes(data, model, self.name)
        return data

    def view(self, sample: Sample, model: Model) -> View:
        truth = rationale_of(sample)
        encoded = model.for_texts(" ".join(truth.words))
        spans = tuple(span or (0, 0) for span in encoded.spans)
        return View(
            sample.id, encoded.inputs, sample.labels, Marked(truth.words, torch.from_numpy(truth.marked), spans)
        )

    def targets(self, view: View, logits: Tensor) -> tuple[int, ...]:
        return asked(self, view, logits)

    def measure(self, batch: Batch, maps: Tensor, asks: Sequence[Ask]) -> dict[Ask, dict[str, Tensor]]:
        truths: list[Marked] = [view.truth for view in batch.views]

        def one(k: int) -> dict[str, Tensor]:
            rows = zip(maps[:, k].cpu(), truths, strict=True)
            return self.values([metrics.word_scores(R[: len(t.spans)], t.spans, t.words) for R, t in rows], truths)

        return by_ask(batch, asks, one)

    def values(self, scores: Sequence[Tensor], truths: Sequence[Marked]) -> dict[str, Tensor]:
        """F1, (B, ks); auprc, (B, 1); how many words there are, and how many were not read, all and marked, (B, 2)."""
        marked, unread = [t.marked for t in truths], [score.isnan() for score in scores]
        return {
            "f1": torch.stack([metrics.token_f1(scores, marked, k) for k in self.ks], dim=1),
            "auprc": metrics.auprc(scores, marked)[:, None],
            "words": torch.tensor([[len(m), int(m.sum())] for m in marked]),
            "unread": torch.tensor([[int(u.sum()), int((u & m).sum())] for u, m in zip(unread, marked, strict=True)]),
        }

    @property
    def f1(self) -> str:
        """`token-F1, mean of k = 10 ... 80`."""
        return f"token-F1, mean of k = {self.averaged[0]} ... {self.averaged[-1]}"

    @property
    def numbers(self) -> tuple[Number, ...]:
        return (Number(self.f1, "higher"), Number("AUPRC", "higher"), Number("marked words not read", ""))

    def conclude(self, means: Means) -> dict[str, Array]:
        return {
            self.f1: means["f1"][..., [self.ks.index(k) for k in self.averaged]].mean(axis=-1),
            "AUPRC": means["auprc"][..., 0],
            "marked words not read": np.asarray(means["unread"][..., 1] / means["words"][..., 1]),
        }

    def curves(self, means: Means) -> dict[str, tuple[Sequence[float], Array]]:
        return {"token-F1": (self.ks, means["f1"])}


def rationale_of(sample: Sample) -> Rationale:
    """The words of a text and which of them are marked. Raises BadSample where that cannot be measured."""
    if not isinstance(sample.truth, Rationale) or not isinstance(sample.input, str):
        raise BadSample(f"{sample.id}: expected a text with marked words, got {type(sample.truth).__name__}")
    if not sample.truth.words:
        raise BadSample(f"{sample.id}: left out, for the text has no words")
    if not sample.truth.marked.any():
        raise BadSample(f"{sample.id}: left out, for no word is marked")
    return sample.truth


def expect_classes(data: DataSet, model: Model, name: str) -> None:
    """Refuse a model with other classes, or, as far as their names tell, in another order."""
    count = count_of(model)
    if count not in (None, len(data.classes)):
        raise BadModel(f"{name} explains the {len(data.classes)} classes of {data.name}, and {model.name} has {count}")
    names = [label.casefold() for label in model.labels or ()]
    for i, own in enumerate(data.classes):
        at = [j for j, label in enumerate(names) if label.startswith(own.casefold())]
        if at and i not in at:
            raise BadModel(f"{model.name} has class {own} as number {at[0]}; {name} expects {', '.join(data.classes)}")


TENS = tuple(range(10, 81, 10))

PUBLISHED = (
    Rationales(
        name="movies/eraser",
        paper=metrics.ERASER,
        summary="F1 of the k words that speak most for the label against those that people marked, k = 5 ... 80",
        pictures="the 199 reviews of test",
        ks=tuple(range(5, 81, 5)),
        averaged=TENS,
        options={"rollout": {"start": 0}, "transattrib": {"normalise": True}},
    ),
)
