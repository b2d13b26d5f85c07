"""Commands of the documentation: `gradtoken` run in this process, or its options and names checked without running."""

import re
import tomllib
from pathlib import Path
from shlex import split as split

import typer
from typer.testing import CliRunner

from gradtoken.batch import parse_options
from gradtoken.cli import app
from gradtoken.defaults import METHOD
from gradtoken.explaining import options_of
from gradtoken.methods import METHODS
from gradtoken.protocols import PROTOCOLS
from tests.docs.blocks import ROOT

COMMAND = typer.main.get_command(app)
PLACEHOLDER = re.compile(r"[A-Z_]+|\.\.\.")


def run(words: list[str]) -> str:
    """What `gradtoken ...`, or `cat FILE | gradtoken ...`, prints; it has to end well."""
    fed = None
    if words[0] == "cat" and words[2] == "|":
        fed, words = Path(words[1]).read_bytes(), words[3:]
    assert words[0] == "gradtoken", f"a block with {words[0]!r} needs a reason above it: <!-- needs: ... -->"
    result = CliRunner().invoke(app, words[1:], input=fed)
    assert result.exit_code == 0, f"{' '.join(words)}: {result.output}"
    return result.output


def check(words: list[str]) -> None:
    """That a command exists, with these options, methods, protocols, files, targets or extras."""
    if "gradtoken" in words:  # also behind srun, torchrun, cat FILE |
        gradtoken(words[words.index("gradtoken") + 1 :])
    elif words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.M), words
    elif words[:2] == ["pip", "install"]:
        pip(words[2:])
    elif words[0] == "python":
        python(words[1:])
    else:
        raise AssertionError(f"nothing is known of {words[0]!r}")


def gradtoken(words: list[str]) -> None:
    """Parse with the shell's own parser, then look up the names among the values."""
    command, context = COMMAND, None
    words = [word for word in words if word != "..."]
    while hasattr(command, "commands"):
        context = command.make_context(command.name, words[:1], parent=context, resilient_parsing=True)
        _, command, _ = command.resolve_command(context, words[:1])
        words = words[1:]
    found = command.make_context(command.name, words, parent=context).params
    methods = [name for name in known(found.get("method") or []) if METHODS[name]]
    if found.get("set_"):
        options_of(methods or [METHOD], parse_options(found["set_"]))
    for name in known(found.get("protocols") or found.get("protocol") or []):
        assert PROTOCOLS[name]


def mention(words: list[str]) -> None:
    """In a sentence: that a command and its options exist, whatever is left out."""
    command = COMMAND
    for word in words:
        if hasattr(command, "commands"):
            assert word in command.commands, f"no command {word!r}; known: {', '.join(command.commands)}"
            command = command.commands[word]
        elif word.startswith("--"):
            options = [name for param in command.params for name in (*param.opts, *param.secondary_opts)]
            assert word.split("=")[0] in options, f"{command.name} has no {word}"


def known(names: list[str] | str) -> list[str]:
    """Without placeholders."""
    return [name for name in ([names] if isinstance(names, str) else names) if not PLACEHOLDER.fullmatch(name)]


def pip(words: list[str]) -> None:
    """Extras of this package exist."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for word in words:
        for names in re.findall(r"^(?:\.|gradtoken)\[(.+)\]$", word):
            assert set(names.split(",")) <= set(extras), word


def python(words: list[str]) -> None:
    """A script or module of the repository exists, and names each option."""
    path = ROOT / (f"{words[1].replace('.', '/')}.py" if words[0] == "-m" else words[0])
    assert path.exists(), path
    text = path.read_text()
    for word in words[1:]:
        if word.startswith("--"):
            assert f'"{word}"' in text or f"{word[2:].replace('-', '_')}:" in text, f"{path} has no {word}"
