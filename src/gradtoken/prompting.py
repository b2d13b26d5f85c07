"""Which passes over a text the targets need: one for a classifier; for a language model one for each continuation."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gradtoken.models.labels import Labels
from gradtoken.models.language import written
from gradtoken.models.model import Model
from gradtoken.models.prompt import Prompts
from gradtoken.reading import Read, Reading

Answering = tuple[Read, list[int]]  # and which of the targets it answers
OTHER = "anything else"


def reads_of(text: str, model: Model, targets: Sequence[Any], reading: Reading) -> list[Answering]:
    """Targets of one token share a pass; each longer continuation has its own, as it is read behind the prompt."""
    prompts = model.preprocess
    if not isinstance(prompts, Prompts):
        return [(Read.of(text, model, targets, reading), [*range(len(targets))])]
    together: dict[str, list[tuple[int, Any]]] = {}  # targets of one token, by prompt
    found: list[Answering] = []
    for number, target in enumerate(targets):
        prompt, ids = prompts.followed(text, target) if isinstance(target, str) else (text, [target])
        if len(ids) > 1:
            found.append((Read.of(prompt, continued(model, prompts, ids), [0], reading), [number]))
        else:
            together.setdefault(prompt, []).append((number, ids[0]))
    for prompt, asked in together.items():
        found.append((Read.of(prompt, model, [target for _, target in asked], reading), [n for n, _ in asked]))
    return found


def continued(model: Model, prompts: Prompts, ids: Sequence[int]) -> Model:
    """The model with two classes: this continuation, whose logit is its log-probability, and anything else."""
    name = written(prompts.tokenizer, ids)
    told = f"the score is the log-probability of {len(ids)} tokens, of which all but the last are read too, uncoloured"
    note = "; ".join(filter(None, (model.note, told)))
    return replace(model, preprocess=prompts.before(ids), labels=Labels((name, OTHER)), note=note)
