"""A kind of data set: how its folder looks, where it is to be had, and how it is opened."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gradtoken.data.sample import DataSet
from gradtoken.named import Named


@dataclass(frozen=True)
class Kind:
    """where: an address or command. layout: a sketch of the folder. fits: whether a path looks like this kind."""

    name: str
    open: Callable[..., DataSet]
    summary: str
    where: str
    licence: str
    layout: str
    fits: Callable[[Path], bool]


DATASETS: Named[Kind] = Named("kind of data set")
