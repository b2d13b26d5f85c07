"""Functions by name, with what is known about them, and their options checked."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from numbers import Integral, Real
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import torch

from gradtoken.errors import BadTarget, GradTokenError, UnknownName
from gradtoken.named import Named

Trial = Mapping[str, Any] | Callable[[Any], Any]


@dataclass(frozen=True)
class Entry:
    """One registered function and what is known about it.

    formula: in one line. class_aware: whether the map depends on the target. cost: forward (F) and backward (B) passes,
    with L blocks, H heads, S tokens and K targets. needs: attributes of the probe that are read first, in this order;
    they refuse a model which lacks them.
    trial: a cheap call that is refused where the method is, or options that make the method cheap.
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
    trial: Trial

    def bind(self, options: Mapping[str, Any]) -> Callable[[Any], Any]:
        """The function of its first argument alone, with its keyword options set; those that do not fit are refused."""
        check_options(self.call, self.name, options, BadTarget)

        @torch.inference_mode(False)
        def run(subject: Any) -> Any:
            for need in self.needs:
                getattr(subject, need)
            return self.call(subject, **options)

        return run

    def attempt(self, subject: Any) -> None:
        """Run the trial. Raises what the method would."""
        if callable(self.trial):
            replace(self, call=self.trial).bind({})(subject)
        else:
            self.bind(self.trial)(subject)


class Registry(Named[Entry]):
    """Functions of one kind."""

    def add(
        self,
        *,
        paper: str,
        formula: str,
        cost: str,
        class_aware: bool = True,
        needs: tuple[str, ...] = (),
        trial: Trial | None = None,
        differs: str = "",
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Register the decorated function under its own name; its docstring's first line is the summary."""

        def register(call: Callable[..., Any]) -> Callable[..., Any]:
            name, summary = call.__name__, (call.__doc__ or "").strip().split("\n")[0]
            self.enter(Entry(name, call, paper, summary, formula, class_aware, cost, needs, differs, trial or {}))
            return call

        return register


def check_options(call: Callable[..., Any], title: str, options: Mapping[str, Any], bad: type[GradTokenError]) -> None:
    """Refuse options that a function does not have as keywords, and, with `bad`, values of another type."""
    parameters = inspect.signature(call).parameters.values()
    known = {p.name: p.annotation for p in parameters if p.kind is p.KEYWORD_ONLY}
    for name, value in options.items():
        if name not in known:
            raise UnknownName.among(f"option of {title}", name, known)
        if not fits(value, known[name]):
            raise bad(f"expected {name} of {title} as {told(known[name])}, got {value!r}")


def fits(value: Any, kind: Any) -> bool:
    """Whether a value is of an annotated kind; a function tells itself which words and which range it knows."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(fits(value, part) for part in parts)
    if origin is Literal:
        return isinstance(value, str | int | float)
    if origin is tuple and ... not in parts:
        return isinstance(value, tuple | list) and len(value) == len(parts) and all(map(fits, value, parts))
    if kind in (int, float):
        return isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool) and value == value
    return kind in (Any, inspect.Parameter.empty) or isinstance(value, origin or kind)


def told(kind: Any) -> str:
    """`int or 'all'`."""
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(map(told, get_args(kind)))
    if get_origin(kind) is Literal:
        return " or ".join(map(repr, get_args(kind)))
    if kind is type(None):
        return "None"
    return str(kind) if get_args(kind) or kind is Any else str(kind.__name__)
