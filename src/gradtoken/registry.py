"""A dictionary of named functions that refuses duplicates and suggests the nearest name."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from gradtoken.errors import UnknownName


@dataclass(frozen=True)
class Entry:
    """One registered function and what is known about it.

    formula: in one line. class_aware: whether the map depends on the target. cost: forward (F) and backward (B) passes,
    with L blocks, H heads, S tokens and K targets. needs: attributes of the probe that are read first, in this order;
    they refuse a model which lacks them.
    differs: how the paper and its authors' code differ, or how this differs from both; empty where nothing does.
    """

    name: str
    call: Callable[..., Any]
    paper: str
    summary: str
    formula: str
    class_aware: bool
    cost: str
    needs: tuple[str, ...]
    differs: str

    def bind(self, options: Mapping[str, Any]) -> Callable[[Any], Any]:
        """The function of its first argument alone, with its keyword options set; unknown ones are refused."""
        known = [p.name for p in inspect.signature(self.call).parameters.values() if p.kind is p.KEYWORD_ONLY]
        for name in options:
            if name not in known:
                raise UnknownName.among(f"option of {self.name}", name, known)

        @torch.inference_mode(False)
        def run(subject: Any) -> Any:
            for need in self.needs:
                getattr(subject, need)
            return self.call(subject, **options)

        return run


class Registry(dict[str, Entry]):
    """Entries in the order of their names; `kind` is the word used in messages."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def add(
        self,
        *,
        paper: str,
        formula: str,
        cost: str,
        class_aware: bool = True,
        needs: tuple[str, ...] = (),
        differs: str = "",
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Register the decorated function under its own name; its docstring's first line is the summary."""

        def register(call: Callable[..., Any]) -> Callable[..., Any]:
            name = call.__name__
            if name in self:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            summary = (call.__doc__ or "").strip().split("\n")[0]
            self[name] = Entry(name, call, paper, summary, formula, class_aware, cost, needs, differs)
            for known in sorted(self):
                self[known] = self.pop(known)
            return call

        return register

    def __missing__(self, name: str) -> Entry:
        raise UnknownName.among(self.kind, name, self)
