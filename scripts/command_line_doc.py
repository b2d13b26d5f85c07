"""Every command of the shell with its options, from the commands themselves.

    python scripts/command_line_doc.py

writes docs/reference/command-line.md.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from gradtoken.cli import app

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "command-line.md"
HEAD = """# Command line

Written by `python scripts/command_line_doc.py` from the commands; `gradtoken COMMAND --help` prints the same. Exit
codes: 0 all done, 1 nothing done, 2 wrong usage, 3 some of several failed, 130 stopped by Ctrl-C."""


def document() -> str:
    """The page."""
    return (
        "\n\n".join([HEAD, *(section(name, one) for name, one in commands("gradtoken", typer.main.get_command(app)))])
        + "\n"
    )


def commands(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Commands with their full names, groups opened."""
    if not hasattr(command, "commands"):
        yield name, command
    for sub, inner in getattr(command, "commands", {}).items():
        yield from commands(f"{name} {sub}", inner)


def section(name: str, command: Any) -> str:
    """Usage, what it does, and the table of its options."""
    parameters = [one for one in command.params if not one.hidden and one.name != "help"] if command.params else []
    arguments = [usage(one) for one in parameters if one.param_type_name == "argument"]
    options = [one for one in parameters if one.param_type_name == "option"]
    parts = [
        f"## {name}",
        cell(command.help or ""),
        f"```text\n{' '.join([name, *arguments, '[OPTIONS]' * bool(options)]).strip()}\n```",
    ]
    rows = [row(usage(one), one) for one in parameters if one.param_type_name == "argument" and one.help]
    rows += [row(", ".join([*one.opts, *one.secondary_opts]), one) for one in options]
    return "\n\n".join([*parts, "\n".join(["| | default | |", "|---|---|---|", *rows])] if rows else parts)


def usage(argument: Any) -> str:
    """`[PICTURES]...`."""
    shown = (argument.metavar or argument.name).upper().strip("[].")
    return (shown if argument.required else f"[{shown}]") + ("..." if argument.nargs == -1 else "")


def row(shown: str, parameter: Any) -> str:
    """One line of the table."""
    default = parameter.default
    empty = default is None or default is False or callable(default) or default == []
    words = ", ".join(default) if isinstance(default, list) else default
    said = "" if empty or default is ... else f"`{words}`"
    return f"| `{shown}` | {said} | {cell(parameter.help or '')} |"


def cell(text: str) -> str:
    """Text that fits in a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(document(), encoding="utf-8")
    print(f"{document().count(chr(10) + '## ')} commands -> {PAGE}")
