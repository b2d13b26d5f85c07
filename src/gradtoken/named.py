"""A dictionary in the order of its names that refuses duplicates and suggests the nearest name."""

from typing import Generic, Protocol, TypeVar

from gradtoken.errors import UnknownName


class HasName(Protocol):
    """Whatever can be listed."""

    @property
    def name(self) -> str: ...


E = TypeVar("E", bound=HasName)


class Named(dict[str, E], Generic[E]):
    """`kind` is the word used in messages."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def enter(self, entry: E) -> None:
        """Add an entry under its name."""
        if entry.name in self:
            raise ValueError(f"{self.kind} {entry.name!r} is registered twice")
        self[entry.name] = entry
        for known in sorted(self):
            self[known] = self.pop(known)

    def __missing__(self, name: str) -> E:
        raise UnknownName.among(self.kind, name, self)
