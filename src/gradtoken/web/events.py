"""Actions as what gradio calls: the values of components in, those of others out.

The actions are imported when the first one is asked for: gradio is up before PyTorch is.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import fields
from typing import Any

import gradio as gr

from gradtoken.progress import showing
from gradtoken.web.answers import Answer
from gradtoken.web.visits import Desk

ANSWERS = tuple(field.name for field in fields(Answer))
PROGRESS = gr.Progress()


def valued(desk: Desk, name: str) -> Callable[..., list[Any]]:
    """The action of this name: progress, the visitor's key, and its own values in; the parts of the page out."""

    def run(progress: gr.Progress = PROGRESS, *values: Any) -> list[Any]:
        from gradtoken.web import actions

        key, visit = desk.visit(values[0])
        with reporting(progress):
            return parts(key, getattr(actions, name)(desk, visit, *values[1:]))

    return run


def pressed(desk: Desk) -> Callable[..., list[Any]]:
    """Whatever button was pressed; what it is for is data of the event."""

    def run(event: gr.EventData, progress: gr.Progress = PROGRESS, *values: Any) -> list[Any]:
        from gradtoken.web import actions

        key, visit = desk.visit(values[0])
        data = event._data if isinstance(event._data, dict) else {}
        with reporting(progress):
            return parts(key, actions.press(desk, visit, data, *values[1:]))

    return run


def method_names() -> Any:
    """All methods, for the component that offers them."""
    from gradtoken.methods import METHODS

    return gr.update(choices=list(METHODS))


def parts(key: str, answer: Answer) -> list[Any]:
    """The values of all outputs; a part that stays is skipped."""
    found = [getattr(answer, name) for name in ANSWERS]
    return [key, *(gr.skip() if value is None else value for value in found)]


def reporting(progress: Any) -> AbstractContextManager[None]:
    """Show the progress of long computations on the page."""

    def show(steps: Sequence[Any], what: str) -> Iterator[Any]:
        for i, step in enumerate(steps):
            if len(steps) > 1:
                progress((i, len(steps)), desc=getattr(step, "name", what))
            yield step

    return showing(show)
