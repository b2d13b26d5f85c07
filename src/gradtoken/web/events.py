"""Actions as what gradio calls: the values of components in, those of others out.

The actions are imported when the first one is asked for: gradio is up before PyTorch is.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import fields
from typing import Any

import gradio as gr

from gradtoken.defaults import METHOD
from gradtoken.progress import showing
from gradtoken.web.answers import Answer
from gradtoken.web.visits import Desk

ANSWERS = tuple(field.name for field in fields(Answer))
PROGRESS = gr.Progress()


def valued(desk: Desk, name: str, answers: Sequence[str] = ANSWERS) -> Callable[..., list[Any]]:
    """The action of this name: progress, the visitor's key, and its own values in; the parts of the page out."""

    def run(progress: gr.Progress = PROGRESS, *values: Any) -> list[Any]:
        key, visit = desk.visit(values[0])
        with reporting(progress):
            return parts(key, action(name)(desk, visit, *values[1:]), answers)

    return run


def pressed(desk: Desk, name: str = "press", answers: Sequence[str] = ANSWERS) -> Callable[..., list[Any]]:
    """The same for an action of buttons; what was pressed is data of the event, and comes first."""

    def run(event: gr.EventData, progress: gr.Progress = PROGRESS, *values: Any) -> list[Any]:
        key, visit = desk.visit(values[0])
        data = event._data if isinstance(event._data, dict) else {}
        with reporting(progress):
            return parts(key, action(name)(desk, visit, data, *values[1:]), answers)

    return run


def action(name: str) -> Callable[..., Answer]:
    """An action on pictures, or on texts."""
    from gradtoken.web import actions, passages

    found: Callable[..., Answer] = getattr(passages if name.endswith("_text") else actions, name)
    return found


def method_names() -> list[Any]:
    """All methods, for the two components that offer them; first those that typing their whole name must find."""
    from gradtoken.methods import METHODS

    within = [name for name in METHODS if any(name in other for other in METHODS if other != name)]
    return [gr.update(choices=list(dict.fromkeys([METHOD, *within, *METHODS])))] * 2


def parts(key: str, answer: Answer, answers: Sequence[str] = ANSWERS) -> list[Any]:
    """The values of the outputs; a part that stays is skipped."""
    found = [getattr(answer, name) for name in answers]
    return [key, *(gr.skip() if value is None else value for value in found)]


def reporting(progress: Any) -> AbstractContextManager[None]:
    """Show the progress of long computations on the page."""

    def show(steps: Sequence[Any], what: str) -> Iterator[Any]:
        for i, step in enumerate(steps):
            if len(steps) > 1:
                progress((i, len(steps)), desc=getattr(step, "name", what))
            yield step

    return showing(show)
