"""The list of all methods, from the registry.

    python scripts/methods_doc.py

writes docs/methods.md.
"""

from pathlib import Path

from gradtoken import manual
from gradtoken.methods import METHODS
from gradtoken.registry import Entry

PAGE = Path(__file__).parent.parent / "docs" / "methods.md"
HEAD = """# Methods

Written by `python scripts/methods_doc.py` from the registry; change the methods, not this page. `gradtoken methods`
prints the same list, `gradtoken methods NAME` one of them, and `gradtoken methods --model NAME` tries which of them run
on a model (`gradtoken.manual.obstacles(probe)` in Python). Letters are those of the [glossary](glossary.md). Cost:
forward passes F, the prediction included, and backward passes B, for L blocks, H heads, S tokens and K targets; a short
pass is through the last block, or through the head, alone. What they cost in seconds and bytes: [Costs](costs.md).

Beside the methods, as they give no map of an input:

- `gradtoken.maximising.maximise_activation(net, block, feature)`: a picture that one feature of an MLP answers to;
- `gradtoken.methods.class_embedding_projection.class_identifiability(net, inputs, target)`: how highly the head ranks
  the class at each token of each block;
- `gradtoken.methods.generic_attention.self_attended` and `cross_attended`: the rules for two modalities, on matrices;
- `with gradtoken.lrp.propagate.Rules(preset): y = net(x)`: any model under the relevance rules of
  `gradtoken.lrp.presets`. An operation that has no rule is refused by name; `Rules({**LIBRA, op: rule})` adds one,
  where `rule(op, *args, **kwargs)` returns the result with the backward pass that is wanted.
"""


def document() -> str:
    """The page."""
    rows = [
        "| method | formula | class-aware | cost | needs | paper |",
        "|---|---|---|---|---|---|",
        *map(row, METHODS.values()),
    ]
    return "\n".join([HEAD, *rows, *map(section, METHODS.values())]) + "\n"


def row(entry: Entry) -> str:
    """One line of the table."""
    cells = [
        f"[`{entry.name}`](#{entry.name})",
        f"`{entry.formula}`",
        "yes" if entry.class_aware else "no",
        entry.cost,
        ", ".join(manual.needs(entry)),
        f"[{short(entry.paper)}]({entry.paper})",
    ]
    return f"| {' | '.join(map(cell, cells))} |"


def section(entry: Entry) -> str:
    """What else is known of one method."""
    parts = [f"\n## {entry.name}", *manual.prose(entry)]
    if entry.differs:
        parts.append(f"Differs: {' '.join(entry.differs.split())}")
    options = "\n".join(map(option_row, manual.options(entry)))
    if options:
        parts.append("| option | default | |\n|---|---|---|\n" + options)
    return "\n\n".join(parts)


def option_row(option: manual.Option) -> str:
    """One line of the table of options."""
    told = [", ".join(f"`{choice}`" for choice in option.choices)] if option.choices else []
    told += [option.meaning] if option.meaning else []
    return f"| `{option.name}` | `{option.default}` | {cell('; '.join(told))} |"


def short(paper: str) -> str:
    """`arXiv 2012.09838` of an address."""
    number = paper.rstrip("/").rsplit("/", 1)[-1]
    return f"arXiv {number}" if "arxiv.org" in paper else "DOI" if "doi.org" in paper else "paper"


def cell(text: str) -> str:
    """Text that fits in a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(document(), encoding="utf-8")
    print(f"{len(METHODS)} methods -> {PAGE}")
