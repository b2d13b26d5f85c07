"""What is known of a method in words: its options, what it needs of a model, and whether it runs on a model."""

import inspect
import re
from typing import Any, Literal, NamedTuple, get_args, get_origin

import torch

from gradtoken.errors import GradTokenError
from gradtoken.methods import METHODS
from gradtoken.probe import Probe
from gradtoken.progress import track
from gradtoken.registry import Entry

NEEDS = {
    "last": "a last attention over the tokens of the input",
    "stream": "residual connections past the attentions",
    "grid": "pictures",
}  # attribute of a probe -> what a model must have for it
NO_MEMORY = "there is not enough memory for this method"


class Option(NamedTuple):
    """A keyword of a method. choices: all values, where they are names. meaning: what its docstring says, or ""."""

    name: str
    default: Any
    choices: tuple[str, ...]
    meaning: str


def options(entry: Entry) -> list[Option]:
    """The options of a method, in order."""
    parameters = inspect.signature(entry.call).parameters.values()
    keywords = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    text, names = description(entry), [p.name for p in keywords]
    return [Option(p.name, p.default, choices(p.annotation), meaning(text, p.name, names)) for p in keywords]


def choices(annotation: Any) -> tuple[str, ...]:
    """The values of a Literal."""
    return tuple(map(str, get_args(annotation))) if get_origin(annotation) is Literal else ()


def description(entry: Entry) -> str:
    """The docstring, without its indentation."""
    return inspect.cleandoc(entry.call.__doc__ or "")


def prose(entry: Entry) -> list[str]:
    """The paragraphs of the docstring without what they say of single options."""
    text, names = description(entry), [option.name for option in options(entry)]
    for name in names:
        text = told(name, names).sub("", text)
    paragraphs = [re.sub(r"(?:^|(?<=[.;])) [.;](?= |$)", "", " ".join(part.split())) for part in text.split("\n\n")]
    return [paragraph.rstrip(";") for paragraph in paragraphs if paragraph.strip(".; ")]


def meaning(text: str, name: str, names: list[str]) -> str:
    """What follows `name:` or `name=value:` in a docstring, up to the next option or paragraph."""
    found = told(name, names).search(text)
    return " ".join(found[1].split()).rstrip(".") if found else ""


def told(name: str, names: list[str]) -> re.Pattern[str]:
    """What a docstring says of one of its options."""
    others = "|".join(map(re.escape, names))
    begin, end = rf"(?:^|(?<=[.;]\s))`?{name}(?:=(?=\w+:\s)|`?:\s)", rf"(?=\n\n|[.;]\s`?(?:{others})(?:=\w+|`?):\s|\Z)"
    return re.compile(rf"{begin}\s*(.*?){end}", re.S | re.M)


def facts(entry: Entry) -> dict[str, str]:
    """What the registry says of a method; empty entries are left out."""
    found = {
        "formula": entry.formula,
        "class-aware": "yes" if entry.class_aware else "no, the same map for every class",
        "cost": entry.cost,
        "needs": "; ".join(needs(entry)),
        "paper": entry.paper,
        "differs": entry.differs,
    }
    return {name: value for name, value in found.items() if value}


def needs(entry: Entry) -> list[str]:
    """What a model must have for a method; a whole pass (`plain`) is what every model has."""
    return [need(name) for name in entry.needs if name != "plain"]


def need(name: str) -> str:
    """What a model must have for an attribute of a probe; else the first sentence of its docstring."""
    if name in NEEDS:
        return NEEDS[name]
    attribute = inspect.getattr_static(Probe, name, None)
    text = " ".join(inspect.cleandoc(getattr(attribute, "__doc__", None) or name).split())
    return re.split(r"[.:;](?:\s|$)| \(B, ", text)[0]


def obstacle(entry: Entry, probe: Probe) -> str:
    """Why the model of this probe cannot be explained by this method, or "": what the method says when it is tried."""
    try:
        entry.attempt(probe)
    except GradTokenError as error:
        return str(error)
    except (torch.OutOfMemoryError, MemoryError):
        return NO_MEMORY
    except RuntimeError as error:  # of PyTorch: what fails does not run
        return f"{type(error).__name__}: {error}"
    return ""


def obstacles(probe: Probe) -> dict[str, str]:
    """The obstacle of every method, or "", by its name."""
    return {name: obstacle(METHODS[name], probe) for name in track(list(METHODS), "methods")}
