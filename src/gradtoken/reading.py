"""One text through a model and back to its words, in windows where it is longer than the model reads."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradtoken.attribution import check_maps, to_maps
from gradtoken.choosing import Choice
from gradtoken.errors import BadText, GradTokenError
from gradtoken.inputs import call, tensors
from gradtoken.models.answers import Seen
from gradtoken.models.model import Model
from gradtoken.models.text import Windows
from gradtoken.pieces import MEANINGS, Grouping, check_merge
from gradtoken.probe import Probe
from gradtoken.progress import track
from gradtoken.registry import check_options
from gradtoken.state import untouched

TOGETHER = 8  # windows that one pass reads

Run = Callable[[Probe], Tensor]
Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a text is read and shown.

    merge: what a word has of its pieces: the `max` (of largest magnitude, with its sign), their `sum`, which keeps the
    total of methods that share out the score, their `mean`, or `pieces`, which are shown for themselves. special: keep
    the special tokens. windows: read a text that is longer than the model reads in parts that share this many tokens;
    None: its first part alone.
    """

    merge: str = "max"
    special: bool = False
    windows: int | None = None

    def __post_init__(self) -> None:
        check_merge(self.merge)
        check_options(keywords, "the reading of a text", vars(self), GradTokenError)

    @classmethod
    def among(cls, options: Mapping[str, Any]) -> tuple["Reading | None", dict[str, Any]]:
        """What of the options is on reading, None for nothing, and the others."""
        own = {field.name for field in fields(cls)}
        found = {name: value for name, value in options.items() if name in own}
        return cls(**found) if found else None, {n: v for n, v in options.items() if n not in own}


def keywords(*, merge: str, special: bool, windows: int | None) -> None:
    """The types of a reading's options."""


@dataclass(frozen=True, eq=False)
class Read:
    """A text as a model reads it, and what is asked of it. seen: a picture in it."""

    text: str
    model: Model
    windows: Windows
    choice: Choice
    reading: Reading
    seen: Seen | None = None

    @classmethod
    def of(cls, text: str, model: Model, targets: Sequence[Any], reading: Reading) -> "Read":
        """The tokens of a text. Raises BadText where there are none but special ones."""
        windows = model.for_texts.windows(text, reading.windows)
        if not windows.content:
            raise BadText(f"{model.name} finds no token in {text[:40]!r}; expected at least one word that it knows")
        found = cls(text, model, windows, Choice(model, targets), reading)
        if len(windows.parts) > 1:
            found.choice.over(found.outputs())
        return found

    def batches(self) -> Iterator[tuple[range, dict[str, Tensor]]]:
        """Numbers of the parts, some at a time, and what the network is called with."""
        count = len(self.windows.parts)
        steps = [range(i, min(i + TOGETHER, count)) for i in range(0, count, TOGETHER)]
        for numbers in track(steps, "windows") if len(steps) > 1 else steps:
            yield numbers, self.on_device([self.windows.parts[i].inputs for i in numbers])

    def on_device(self, texts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """What the network is called with for several texts."""
        device = next(self.model.net.parameters()).device
        return {name: x.to(device) for name, x in self.model.for_texts.padded(texts).items()}

    def outputs(self) -> Iterator[Any]:
        """What the network says of the parts."""
        for _, inputs in self.batches():
            with untouched(self.model.net, tensors(inputs)), torch.no_grad():
                yield call(self.model.net, inputs)

    def relevance(self, methods: Mapping[str, Run]) -> dict[str, Array]:
        """Of each token for each target, by method; the mean over the parts that read it. (K, tokens)"""
        found: dict[str, Array] = {}
        times = np.zeros(len(self.windows.tokens))
        for numbers, inputs in self.batches():
            probe = Probe(self.model.net, inputs, self.choice, self.model.memory)
            maps = {name: to_maps(probe, run(probe)).cpu().double().numpy() for name, run in methods.items()}
            for row, i in enumerate(numbers):
                places = list(self.windows.numbers[i])
                times[places] += 1
                for name, R in maps.items():
                    total = found.setdefault(name, np.zeros((R.shape[1], len(times))))
                    total[:, places] += R[row, :, : len(places)]
        return {name: R / times for name, R in found.items()}

    def words(self, R: Array, method: str, allow_blank: bool) -> list[dict[str, Any]]:
        """Words and their relevance for each target. (K, tokens)"""
        windows = self.windows
        own = [i for i in range(len(windows.tokens)) if i not in {*windows.pictured}]
        tokens = [windows.tokens[i] for i in own]
        grouping = Grouping.of(self.text, tokens, self.reading.merge, self.reading.special)
        found = [grouping.explained(row[own]) for row in R]
        shown = R if windows.pictured else np.stack([values for _, values in found])
        check_maps(torch.from_numpy(shown)[None], method, allow_blank)
        return [{"words": words, "relevance": values} for words, values in found]

    @property
    def note(self) -> str:
        """How much was read and how, and what a word's value is."""
        w, parts = self.windows, len(self.windows.parts)
        notes = [self.model.note, MEANINGS[self.reading.merge]]
        if parts > 1:
            notes.append(
                f"read in {parts} windows that share {self.reading.windows} tokens; all values are their means"
            )
        elif w.content < w.total:
            notes.append(self.model.for_texts.unread(w.content, w.total))
        return "; ".join(filter(None, notes))
