"""The list of all protocols and metrics, from their registries.

    python scripts/protocols_doc.py

writes docs/protocols.md.
"""

import inspect
from pathlib import Path
from typing import Any

from gradtoken.benchmark.written import table
from gradtoken.metrics import METRICS
from gradtoken.protocols import PROTOCOLS
from gradtoken.protocols.protocol import Protocol

PAGE = Path(__file__).parent.parent / "docs" / "protocols.md"
HEAD = """# Protocols and metrics

Written by `python scripts/protocols_doc.py` from the registries; change the protocols, not this page.

A protocol fixes everything that changes a number, has a version, and is printed with every number it made:
`gradtoken benchmark run PROTOCOL --data PATH`, see [Benchmarks](benchmark.md). Its settings cannot be changed; in
Python, `dataclasses.replace(PROTOCOLS[name], ...)` makes another one, and reports say in what it differs.

Published numbers of different papers were made by different protocols even where they stand in one table: compare only
numbers under the same name. What the settings mean stands below, family by family; 'a fact' is a number that is
neither good nor bad.
"""
BETTER = {"higher": "higher is better", "lower": "lower is better", "": "a fact"}
KNOWN = {"name", "paper", "summary", "version"}


def document() -> str:
    """The page."""
    rows = [[f"`{m.name}`", m.summary, BETTER[m.better] if m.better else "", m.paper] for m in METRICS.values()]
    metrics = table(["metric", "what", "", "source"], rows)
    about = (
        "Pure functions of tensors, one value or curve for each sample: `gradtoken.metrics.METRICS[name].call(...)`."
    )
    sections = map(section, PROTOCOLS.values())
    families = [Protocol, *dict.fromkeys(map(type, PROTOCOLS.values()))]
    parts = [HEAD.rstrip(), *sections, "## What the settings mean", *map(meaning, families)]
    return "\n\n".join([*parts, "## Metrics", about, metrics]) + "\n"


def meaning(family: type[Protocol]) -> str:
    """What a family of protocols says of its settings."""
    return f"### {'Of all protocols' if family is Protocol else family.__name__}\n\n{inspect.getdoc(family)}"


def section(protocol: Protocol) -> str:
    """One protocol: its numbers and its settings."""
    numbers = "; ".join(f"{n.name} ({BETTER[n.better]})" for n in protocol.numbers)
    values = {name: getattr(protocol, name, value) for name, value in protocol.describe().items()}
    settings = [[f"`{name}`", told(value)] for name, value in values.items() if name not in KNOWN]
    facts = f"{protocol.summary[0].upper()}{protocol.summary[1:]}. Version {protocol.version}, {protocol.paper}."
    about = f"Numbers: {numbers}.\n\nPublished ones are of: {protocol.pictures}."
    return f"## {protocol.name}\n\n{facts}\n\n{about}\n\n{table(['setting', 'value'], settings)}"


def told(value: Any) -> str:
    """A setting in words."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict):
        return ", ".join(f"{name}: {told(one)}" for name, one in value.items()) or "none"
    if isinstance(value, list | tuple):
        shown = [told(one) for one in value]
        return "; ".join(shown if len(shown) <= 30 else [*shown[:3], f"... ({len(shown)} in all)", shown[-1]]) or "none"
    return str(value)


if __name__ == "__main__":
    PAGE.write_text(document(), encoding="utf-8")
