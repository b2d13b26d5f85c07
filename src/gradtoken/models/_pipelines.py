"""Pipelines of transformers, explained as they are."""

from collections.abc import Callable
from typing import Any

from gradtoken.errors import BadModel
from gradtoken.models._heads import is_independent, note_of
from gradtoken.models._transformers import names_of, of_questions, of_towers, wrapped
from gradtoken.models.clip import is_two_towers
from gradtoken.models.hub import ANSWERS
from gradtoken.models.model import How, Model, Pipeline
from gradtoken.models.prompt import Prompts
from gradtoken.models.recipes import from_transformers
from gradtoken.models.sound import Listen
from gradtoken.models.text import encode_of, length_of

CAPTIONS, QUESTIONS = "zero-shot-image-classification", "image-text-to-text"


def from_pipeline(pipe: Pipeline) -> Model:
    """A pipeline that classifies: the network that it holds, where it is, and its own preparation."""
    net: Any = pipe.model
    held: Any = pipe
    name = net.config.name_or_path or type(net).__name__
    preparations: dict[str, Callable[[], How]] = {
        "image-classification": lambda: from_transformers(held.image_processor.to_dict()),
        "text-classification": lambda: encode_of(net, held.tokenizer, name),
        "audio-classification": lambda: Listen.of(net, held.feature_extractor),
        "text-generation": lambda: Prompts.by(held.tokenizer, length_of(net, held.tokenizer, name)),
    }
    source = f"the pipeline for {pipe.task} passed in"
    if pipe.task == CAPTIONS and is_two_towers(net):
        return of_towers(net, name, source, held.tokenizer, from_transformers(held.image_processor.to_dict()))
    if pipe.task == QUESTIONS and type(net).__name__ in ANSWERS:
        return of_questions(
            net, name, source, held.tokenizer, from_transformers(held.processor.image_processor.to_dict())
        )
    if pipe.task not in preparations:
        raise BadModel(
            f"a pipeline for {pipe.task}; expected one for {' or '.join((*preparations, CAPTIONS, QUESTIONS))}"
        )
    how, independent = preparations[pipe.task](), is_independent(net.config)
    labels, note = names_of(net.config, how), note_of(net.config)
    return Model(wrapped(net, how), name, how, labels, source, note, independent)
