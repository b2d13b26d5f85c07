"""A dictionary of named functions that refuses duplicates and suggests the nearest name."""

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gradtoken.errors import UnknownName


@dataclass(frozen=True)
class Entry:
    """One registered function and what is known about it."""

    name: str
    call: Callable[..., Any]
    paper: str
    summary: str

    def bind(self, options: Mapping[str, Any]) -> Callable[[Any], Any]:
        """The function of its first argument alone, with its keyword options set; unknown ones are refused."""
        known = [p.name for p in inspect.signature(self.call).parameters.values() if p.kind is p.KEYWORD_ONLY]
        for name in options:
            if name not in known:
                raise UnknownName.among(f"option of {self.name}", name, known)
        return functools.partial(self.call, **options)


class Registry(dict[str, Entry]):
    """Entries by name; `kind` is the word used in messages."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def add(self, *, paper: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Register the decorated function under its own name; its docstring's first line is the summary."""

        def register(call: Callable[..., Any]) -> Callable[..., Any]:
            name = call.__name__
            if name in self:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self[name] = Entry(name, call, paper, (call.__doc__ or "").strip().split("\n")[0])
            return call

        return register

    def __missing__(self, name: str) -> Entry:
        raise UnknownName.among(self.kind, name, self)
