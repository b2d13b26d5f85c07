"""Packages that are not always installed."""

import importlib
from typing import Any

from gradtoken.errors import MissingExtra


def need(package: str, extra: str) -> Any:
    """Import an optional package, or say how to install it."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("gradtoken"):
            raise
        raise MissingExtra.of(error.name.split(".")[0], extra) from error
