"""What makes the imports of the page quick: they are most of the time until it is there."""

import gc
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def unswept() -> Iterator[None]:
    """Nobody looks for garbage meanwhile, nor later among what was made: an import makes much and drops nothing."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Hide packages from those that can do without, as pandas can without pyarrow, a quarter of gradio's time.

    One that is imported already stays.
    """
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextmanager
def no_stubs() -> Iterator[None]:
    """Keep gradio from writing a .pyi file beside each of its sources when it is imported, which takes a third of that.

    It leaves out classes whose file is not known.
    """
    find = inspect.getfile

    def hidden(thing: Any) -> str:
        if isinstance(thing, type) and thing.__module__.startswith("gradio."):
            raise OSError(f"{thing} of gradio needs no stub")
        return find(thing)

    inspect.getfile = hidden  # type: ignore[assignment]
    try:
        yield
    finally:
        inspect.getfile = find
