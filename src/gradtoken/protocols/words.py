"""How the model's answer changes when the words that speak most for it are erased, or they alone are kept."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gradtoken.data.sample import DataSet, Sample
from gradtoken.errors import BadSample
from gradtoken.metrics.confidence import ERASER, comprehensiveness, sufficiency
from gradtoken.metrics.words import touching, word_scores
from gradtoken.models.model import Model
from gradtoken.models.text import Encode, Encoded
from gradtoken.protocols.protocol import Array, Ask, Batch, Means, Number, Protocol, View, asked, by_ask


@dataclass(frozen=True, eq=False)
class Reading:
    """Words of a text, how they were encoded, and what encodes."""

    words: tuple[str, ...]
    encoded: Encoded
    encode: Encode

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """First and end character of each token, 0 and 0 for special ones."""
        return tuple(span or (0, 0) for span in self.encoded.spans)

    def without(self, gone: Tensor) -> dict[str, Tensor]:
        """What the model is called with when the tokens of some words are left out. gone: (W,), bool."""
        left = ~touching(self.spans, self.words)[:, gone].any(dim=1)
        return {name: x[left] for name, x in self.encoded.inputs.items()}


@dataclass(frozen=True, kw_only=True)
class WordErasing(Protocol):
    """The words that the model read are ranked by their highest token, negative scores included, equal ones in order.

    shares: of these words, rounded up, are left out, or kept alone, the highest first; the rest closes up, and special
    tokens stay. What follows is the probability of the class that was predicted for the whole text, as ERASER has it.
    """

    shares: tuple[float, ...]

    def samples(self, data: DataSet, model: Model) -> DataSet:
        model.for_texts  # noqa: B018  which refuses a model of pictures
        return data

    def view(self, sample: Sample, model: Model) -> View:
        if not isinstance(sample.input, str):
            raise BadSample(f"{sample.id}: expected a text, got a picture; {self.name} is for texts")
        words = tuple(sample.input.split())
        encoded = model.for_texts(" ".join(words))
        if not any(encoded.spans):
            raise BadSample(f"{sample.id}: left out, for the text has no words")
        return View(sample.id, encoded.inputs, sample.labels, Reading(words, encoded, model.for_texts))

    def targets(self, view: View, logits: Tensor) -> tuple[int, ...]:
        return asked(self, view, logits)

    def measure(self, batch: Batch, maps: Tensor, asks: Sequence[Ask]) -> dict[Ask, dict[str, Tensor]]:
        def one(k: int) -> dict[str, Tensor]:
            orders = [order_of(R, view.truth) for R, view in zip(maps[:, k].cpu(), batch.views, strict=True)]
            before = self.probabilities(batch, batch.logits, k)
            erased, kept = (self.after(batch, orders, k, alone) for alone in (False, True))
            return {
                "comprehensiveness": comprehensiveness(before, erased)[:, None],
                "sufficiency": sufficiency(before, kept)[:, None],
                "erased": before[:, None] - erased,
                "kept": before[:, None] - kept,
            }

        return by_ask(batch, asks, one)

    def after(self, batch: Batch, orders: Sequence[Tensor], k: int, alone: bool) -> Tensor:
        """Probabilities once the first words of an order are gone, or all others are. (B, shares)"""
        found = []
        for share in self.shares:
            texts = [
                view.truth.without(~first if alone else first)
                for view, first in ((v, first_of(o, share, v.truth)) for v, o in zip(batch.views, orders, strict=True))
            ]
            padded = batch.views[0].truth.encode.padded(texts)
            logits = batch.predict({name: x.to(batch.logits.device) for name, x in padded.items()})
            found.append(self.probabilities(batch, logits, k))
        return torch.stack(found, dim=1)

    def probabilities(self, batch: Batch, logits: Tensor, k: int) -> Tensor:
        """Of each text's explained class, (B,)"""
        classes = torch.tensor([targets[k] for targets in batch.targets], device=logits.device)
        return batch.probability(logits, classes)

    @property
    def numbers(self) -> tuple[Number, ...]:
        return (Number("comprehensiveness", "higher"), Number("sufficiency", "lower"))

    def conclude(self, means: Means) -> dict[str, Array]:
        return {number.name: means[number.name][..., 0] for number in self.numbers}

    def curves(self, means: Means) -> dict[str, tuple[Sequence[float], Array]]:
        return {"fall of the probability, erased": (self.shares, means["erased"]), "kept": (self.shares, means["kept"])}


def order_of(R: Tensor, reading: Reading) -> Tensor:
    """Numbers of the words that were read, the most relevant first. R: (N,) of tokens, which may be padded"""
    scores = word_scores(R[: len(reading.spans)], reading.spans, reading.words, signed=True)
    read = int((~scores.isnan()).sum())
    return scores.nan_to_num(-torch.inf).argsort(descending=True, stable=True)[:read]


def first_of(order: Tensor, share: float, reading: Reading) -> Tensor:
    """The first words of an order, at least one. (W,), bool"""
    count = math.ceil(share * len(order) - 1e-9)
    return torch.zeros(len(reading.words), dtype=torch.bool).index_fill(0, order[:count], True)


PUBLISHED = (
    WordErasing(
        name="faithfulness/eraser",
        paper=ERASER,
        summary="fall of the predicted class's probability without the most relevant words, and with them alone",
        pictures="ERASER's data sets, by models and methods other than these",
        shares=(0.01, 0.05, 0.1, 0.2, 0.5),
    ),
)
