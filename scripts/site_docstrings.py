"""Docstrings of this package as markdown: `name: meaning` of parameters and fields as a list, formulas as they are."""

import re
from typing import Any

import griffe


class HouseStyle(griffe.Extension):
    """Rewrites the docstrings of modules, functions and classes."""

    def on_module(self, *, mod: griffe.Module, **_: Any) -> None:
        rewrite(mod, [])

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        rewrite(func, [parameter.name for parameter in func.parameters])

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        fields = [name for name, member in cls.members.items() if member.is_attribute]
        rewrite(cls, fields + [parameter.name for parameter in cls.parameters])
        if cls.docstring and (comments := "\n".join(filter(None, (comment(cls, name) for name in fields)))):
            cls.docstring.value += f"\n\n{comments}"


def comment(cls: griffe.Class, name: str) -> str:
    """`- name: what stands behind its line`, or ""."""
    line = cls.lines_collection[cls.filepath][cls.members[name].lineno - 1]
    _, mark, meaning = line.partition("  # ")
    return f"- **`{name}`**: {escaped(meaning.strip())}" if mark and "type: ignore" not in meaning else ""


def rewrite(thing: griffe.Object, names: list[str]) -> None:
    """Set the docstring as markdown."""
    if thing.docstring:
        thing.docstring.value = markdown(thing.docstring.value, names)


def markdown(text: str, names: list[str]) -> str:
    """`a: x. b: y.` becomes a list where a and b are among the names."""
    return "\n\n".join(paragraph(part, names) for part in text.split("\n\n"))


def paragraph(text: str, names: list[str]) -> str:
    """One paragraph; what is indented stays code, and a tree becomes it."""
    if "\n├── " in text:
        return f"```text\n{text}\n```"
    if text.startswith("    "):
        return text
    one = "|".join(map(re.escape, sorted(names, key=len, reverse=True))) or "(?!)"
    parts = re.split(rf"(?:^|(?<=[.;]\s))((?:{one})(?:, (?:{one}))*): ", " ".join(text.split()))
    lead, named = parts[0], zip(parts[1::2], parts[2::2], strict=True)
    items = [f"- **`{name}`**: {escaped(meaning.strip())}" for name, meaning in named]
    return "\n\n".join(filter(None, [escaped(lead.strip()), "\n".join(items)]))


def escaped(text: str) -> str:
    """Stars, angles and bars as they are, but within backticks, where they are already."""
    pieces = text.split("`")
    pieces[::2] = [re.sub(r"([*<>_\[\]])", r"\\\1", piece) for piece in pieces[::2]]
    return "`".join(pieces)
