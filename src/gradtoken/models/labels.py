"""Class names, and the index of a class from what a person types."""

import difflib
import operator
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

from gradtoken.errors import BadModel, BadTarget, UnknownName
from gradtoken.outside import decoded, text_of, whole

if TYPE_CHECKING:
    from gradtoken.models.language import Vocabulary

SYNSET = re.compile(r"[nvar]\d{8}")


@dataclass(frozen=True, repr=False)
class Labels(Sequence[str]):
    """Names of the classes in index order; one name may hold synonyms, "tabby, tabby cat". `synsets`: WordNet ids."""

    names: tuple[str, ...]
    synsets: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        return self.names[index]

    def __repr__(self) -> str:
        return f"Labels({len(self)} names: {', '.join(map(repr, self.names[:3]))}, ...)"

    def find(self, target: SupportsIndex | str) -> int:
        """Index of the class meant: its index, name, one of its synonyms, or its synset; case and _ do not matter."""
        if not isinstance(target, str):
            return in_range(target, len(self))
        key = plain(target)
        for candidates in (self.where(target, exact=True), self.where(key), self.where_synonym(key)):
            if len(candidates) == 1:
                return candidates[0]
            if candidates:
                listed = self.listed(candidates)
                raise UnknownName(f"{target!r} names {len(candidates)} classes: {listed}; give the index")
        if key in self.synsets:
            return self.synsets.index(key)
        number = whole(key)
        if number is not None:
            return in_range(number, len(self))
        raise UnknownName(f"no class is named {target!r}; {self.suggestion(key)}")

    def where(self, name: str, exact: bool = False) -> list[int]:
        return [i for i, own in enumerate(self.names) if (own if exact else plain(own)) == name]

    def where_synonym(self, key: str) -> list[int]:
        return [i for i, own in enumerate(self.names) if key in synonyms(own)]

    def suggestion(self, key: str) -> str:
        """Classes that hold the words, or that the words hold, or failing that, names spelt alike."""
        near = [i for i, own in enumerate(self.names) if key and holds(plain(own), key)]
        near = near or [i for i, own in enumerate(self.names) if any(holds(key, name) for name in synonyms(own))]
        if not near:
            owners = {name: i for i, own in enumerate(self.names) for name in (*synonyms(own), plain(own))}
            near = [owners[name] for name in difflib.get_close_matches(key, owners, n=4, cutoff=0.6)]
        if not near:
            return f"the {len(self)} classes begin {self.listed(range(min(5, len(self))))}"
        return f"did you mean {self.listed(list(dict.fromkeys(near)))}?"

    def listed(self, indices: Sequence[int], most: int = 10) -> str:
        more = f" and {len(indices) - most} more" if len(indices) > most else ""
        return ", ".join(f"{self.names[i]!r} ({i})" for i in indices[:most]) + more

    @classmethod
    def of(cls, source: "Labels | Iterable[str] | Mapping[Any, str] | str | os.PathLike[str]") -> "Labels":
        """From a sequence of names, a mapping index -> name, or a file: JSON of either, or one name a line."""
        if isinstance(source, Labels):
            return source
        if isinstance(source, str | os.PathLike):
            source = read(Path(source))
        if isinstance(source, Mapping):
            source = in_order(source)
        names = tuple(source)
        if not names or not all(isinstance(name, str) for name in names):
            raise BadModel(f"expected class names as text, at least one, got {list(names[:3])!r}")
        heads = [name.split(maxsplit=1) for name in names]
        if all(len(head) == 2 and SYNSET.fullmatch(head[0]) for head in heads):  # "n02123045 tabby, tabby cat"
            return cls(tuple(head[1] for head in heads), tuple(head[0] for head in heads))
        return cls(names)


def find_class(labels: "Labels | Vocabulary | None", target: SupportsIndex | str, count: int) -> int:
    """Index among `count` classes, by name where names are known."""
    if labels is not None:
        return labels.find(target)
    index = whole(target) if isinstance(target, str) else target
    if index is None:
        raise UnknownName(
            f"the names of this model's {count} classes are not known, so {target!r} cannot be found; "
            f"give an index from 0 to {count - 1}, or the names through labels=; captions need a model with a tower "
            "for them, as CLIP"
        )
    return in_range(index, count)


def in_range(target: SupportsIndex, count: int) -> int:
    """The index as an int, if it is one of 0 ... count - 1."""
    if isinstance(target, bool) or not hasattr(target, "__index__"):
        raise BadTarget(f"expected a class index or a class name, got {type(target).__name__} {target!r}")
    index = operator.index(target)
    if not 0 <= index < count:
        raise BadTarget(f"class index {index} is out of range; this model has {count} classes, 0 to {count - 1}")
    return index


def plain(name: str) -> str:
    """Lower case, words parted by single spaces: "Golden_Retriever " and "golden retriever" are one."""
    return " ".join(name.casefold().replace("_", " ").split())


def holds(text: str, words: str) -> bool:
    """Whether whole words are in a text."""
    return re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text) is not None


def synonyms(name: str) -> list[str]:
    return [part for part in map(plain, name.split(",")) if part]


def read(path: Path) -> Iterable[str] | Mapping[Any, str]:
    """Names from a JSON file (list or object) or a text file, one name a line."""
    try:
        text = text_of(path)
        content = decoded(text) if path.suffix.lower() == ".json" else text.rstrip().split("\n")
    except OSError as error:
        raise BadModel(f"the class names {str(path)!r} cannot be read: {error.strerror}; check the file") from error
    except ValueError as error:
        raise BadModel(f"the class names {str(path)!r} are not UTF-8 text or JSON: {error}") from error
    if isinstance(content, list):
        return [line.strip() if isinstance(line, str) else line for line in content]
    if isinstance(content, dict):
        return content
    raise BadModel(f"expected a list or an object of class names in {str(path)!r}, got {type(content).__name__}")


def in_order(names: Mapping[Any, str]) -> tuple[str, ...]:
    """{"0": "cat", "1": "dog"} -> ("cat", "dog")."""
    try:
        by_index = {int(key): name for key, name in names.items()}
    except (ValueError, TypeError, OverflowError) as error:
        raise BadModel(f"expected class names as index -> name, got other keys: {error}") from error
    if sorted(by_index) != list(range(len(names))):
        raise BadModel(f"expected class names for 0 to {len(names) - 1}, got the indices {sorted(by_index)[:10]}")
    return tuple(by_index[i] for i in range(len(names)))
