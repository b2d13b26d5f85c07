"""What users can call, as lines of text: a change of it shows in a diff.

python -m tests.api > tests/api.txt
"""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import typer

import gradtoken
from gradtoken.adapters.gradcam import GradToken
from gradtoken.adapters.plain import maps, saliency
from gradtoken.adapters.quantus import explain_func
from gradtoken.cli import app
from gradtoken.methods import METHODS

SNAPSHOT = Path(__file__).with_name("api.txt")
ADAPTERS = {"gradcam.GradToken": GradToken, "plain.maps": maps, "plain.saliency": saliency}
ADAPTERS |= {"quantus.explain_func": explain_func}


def lines() -> list[str]:
    """Names, parameters and defaults; annotations are left to the type checker."""
    found = []
    for name in gradtoken.__all__:
        found += of(f"gradtoken.{name}", getattr(gradtoken, name))
    for name, value in ADAPTERS.items():
        found += of(f"gradtoken.adapters.{name}", value)
    found += [f"method {name}{options(entry.call)}" for name, entry in METHODS.items()]
    return [*found, *shell("gradtoken", typer.main.get_command(app))]


def of(name: str, value: Any) -> Iterator[str]:
    """A function; or a class with its public attributes."""
    if inspect.isclass(value):
        yield f"class {name}" + ("" if issubclass(value, BaseException) else parameters(value))
        if not issubclass(value, BaseException):
            for member in sorted(vars(value)):
                if not member.startswith("_"):
                    yield f"{name}.{member}{parameters(getattr(value, member))}"
    elif callable(value):
        yield f"{name}{parameters(value)}"
    else:
        yield name


def parameters(call: Any) -> str:
    """`(picture, model='bundled', *, allow_blank=False)`; nothing for what is not called."""
    if not callable(call):
        return ""
    plain = [
        p.replace(annotation=p.empty, default=p.empty if p.default is p.empty else Default(p.default))
        for p in inspect.signature(call).parameters.values()
    ]
    return str(inspect.Signature(plain))


class Default:
    """A default that is written the same everywhere: objects as their type."""

    def __init__(self, value: Any) -> None:
        simple = value is None or isinstance(value, bool | int | float | str | tuple)
        self.text = repr(value) if simple else "<made anew>" if "FACTORY" in str(type(value)) else "<object>"

    def __repr__(self) -> str:
        return self.text


def options(call: Any) -> str:
    """The keywords of a method."""
    keywords = [p for p in inspect.signature(call).parameters.values() if p.kind is p.KEYWORD_ONLY]
    return "(" + ", ".join(f"{p.name}={p.default!r}" for p in keywords) + ")"


def shell(name: str, command: Any) -> Iterator[str]:
    """A command with its arguments and options, and its subcommands."""
    for parameter in command.params:
        if parameter.name != "help":
            yield f"{name} {said(parameter)}"
    for sub in sorted(getattr(command, "commands", {})):
        yield f"{name} {sub}"
        yield from shell(f"{name} {sub}", command.commands[sub])


def said(parameter: click.Parameter) -> str:
    """`--target -t (repeatable)`."""
    kinds = {
        "required": parameter.required,
        "repeatable": getattr(parameter, "multiple", False) or parameter.nargs == -1,
        "flag": getattr(parameter, "is_flag", False),
    }
    told = ", ".join(kind for kind, holds in kinds.items() if holds)
    names = " ".join([*parameter.opts, *parameter.secondary_opts])
    names = names.upper() if parameter.param_type_name == "argument" else names
    return f"{names} ({told})" if told else names


if __name__ == "__main__":
    print("\n".join(lines()))
