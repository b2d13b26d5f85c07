"""Explanations of texts, by words; and of a picture in a text, by its patches too."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from gradtoken import doubts
from gradtoken.choosing import Choice
from gradtoken.draw.words import percent
from gradtoken.methods import METHODS
from gradtoken.models.answers import about
from gradtoken.models.model import Model
from gradtoken.models.pictures import open_picture
from gradtoken.models.texts import open_text
from gradtoken.prompting import Answering, reads_of
from gradtoken.provenance import provenance
from gradtoken.reading import Array, Read, Reading
from gradtoken.result import Explanation

Options = Mapping[str, dict[str, Any]]


def reads_about(picture: Any, prompt: Any, model: Model, targets: Sequence[Any], reading: Reading) -> list[Answering]:
    """A prompt with a picture in it, as `reads_of`."""
    text = model.for_prompts.marked(open_text(prompt))
    language, seen = about(model, open_picture(picture))
    found = reads_of(text, language, targets, reading)
    return [(replace(read, seen=seen), numbers) for read, numbers in found]


def of_text(
    reads: Sequence[Answering], chosen: Options, methods: Sequence[str], allow_blank: bool, source: str
) -> list[Explanation]:
    """Methods outside, targets inside; where a picture is in the text, its maps, and then the words in this order."""
    found: dict[tuple[str, int], list[Explanation]] = {}
    for read, numbers in reads:
        relevance = read.relevance({name: METHODS[name].bind(chosen[name]) for name in methods})
        shared = provenance(read.model) | {"picture": None, "box": None, "source": source, "note": read.note}
        shared |= {"preprocessing": prepared(read)}
        for name in methods:
            rows = read.words(relevance[name], name, allow_blank)
            said = doubts.of_words(rows, read.choice.named(), METHODS[name].class_aware)
            maps = of_patches(read, relevance[name], METHODS[name].class_aware)
            for k, (words, why) in enumerate(zip(rows, said, strict=True)):
                own = stated(read.choice, k, name, chosen[name]) | shared | {"warnings": why} | words
                beside = [own | {"words": None} | maps[k]] if maps else []
                found[name, numbers[k]] = [Explanation(**one) for one in (*beside, own)]
    order = [found[name, k] for name in methods for k in range(len(found) // len({*methods}))]
    return [one for column in zip(*order, strict=True) for one in column]


def of_patches(read: Read, R: Array, class_aware: bool) -> list[dict[str, Any]]:
    """The maps of the picture that a text holds, if any, as fields of explanations. (K, tokens)"""
    seen = read.seen
    if seen is None:
        return []
    maps = R[:, list(read.windows.pictured)][:, seen.patches].reshape(-1, seen.rows, seen.columns)
    said = doubts.of_maps(torch.from_numpy(maps).float(), read.choice.named(), class_aware)
    notes = ["; ".join(filter(None, (read.model.note, share(read, k, row)))) for k, row in enumerate(R)]
    shown = {"picture": seen.picture, "box": seen.box}
    rows = zip(maps, said, notes, strict=True)
    return [shown | {"relevance": m, "warnings": why, "note": note} for m, why, note in rows]


def share(read: Read, k: int, R: Array) -> str:
    """How much of the relevance for target k is on the picture. (tokens,)"""
    own = abs(R[list(read.windows.pictured)]).sum() / (abs(R).sum() or 1.0)
    return (
        f"for {read.choice.facts(k)['name']!r} {percent(float(own))} of all magnitude is on the tokens of the picture"
    )


def prepared(read: Read) -> dict[str, Any]:
    """How the text became tokens, and a picture in it numbers."""
    text = read.model.preprocess.describe()
    return text if read.seen is None else {"picture": read.seen.preprocessing, "text": text}


def stated(choice: Choice, k: int, method: str, options: dict[str, Any]) -> dict[str, Any]:
    """What an explanation says of target k and of its method, after a pass."""
    aware = METHODS[method].class_aware
    own = {"method": method, "options": options, "class_aware": aware, "predicted": choice.predicted()}
    return own | choice.facts(k)
