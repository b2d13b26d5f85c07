"""Command lines of any options and values: an exit code and a message, never a traceback, nothing written elsewhere."""

import os
from pathlib import Path

import click
import pytest
from hypothesis import strategies as st
from typer.main import get_command
from typer.testing import CliRunner

from gradtoken.cli import app
from gradtoken.models.bundled import FOLDER
from tests.asking import ask, examples
from tests.benchmark import small
from tests.fuzz.damage import WORDS
from tests.fuzz.outcomes import TALLY, limited

CODES = {0: "read", 1: "refused", 2: "refused", 3: "refused"}
COSTLY = {"serve", "demo", "benchmark demo", "benchmark reproduce"}  # which wait, or measure for minutes
FIXED = ("--model", "--engine", "--device", "--address", "--workers", "--weights")  # of other machines, or downloads
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def commands(group: click.Command, path: str = "") -> dict[str, click.Command]:
    """All commands by the words that call them."""
    inner = getattr(group, "commands", None)
    if not inner:
        return {path.strip(): group}
    return {name: one for word, sub in inner.items() for name, one in commands(sub, f"{path} {word}").items()}


COMMANDS = {name: one for name, one in commands(get_command(app)).items() if name not in COSTLY}
USUAL = ["cat.jpg", "data", "out.png", "out.json", "cat", "0", "1", "2", "-1", "1.5", "all", "gradtoken", "random"]
USUAL += ["rollout,gradtoken", "depth=2", "heads=mean", "propagation=none", "x=y", "a.b=c", "run", ".", "data/0.png"]
USUAL += ["out", "jet", "abpc/agcam2024", "csv", "split=x", "1/2", "png", "10**9", "0.5", "{name}.png", "*.png", "--"]
VALUES = st.one_of(st.sampled_from(USUAL), WORDS.filter(lambda word: "\x00" not in word and "\ud800" not in word))


@st.composite
def lines(draw: st.DrawFn, name: str) -> list[str]:
    """A command with some of its options, and some that are not its own."""
    found = [option.opts[-1] for option in COMMANDS[name].params if option.opts[-1] not in FIXED]
    line = name.split()
    for option in draw(st.lists(st.sampled_from([*found, "--nonsense"]), max_size=5)):
        line += [option] * option.startswith("-") + [draw(VALUES)] * draw(st.integers(0, 3) | st.just(1))
    return line


def entries(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*")}


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder to work in, with a folder beside it that is not its business."""
    here = tmp_path / "here"
    small.pictures(here / "data", 2)
    (here / "cat.jpg").write_bytes((FOLDER / "pictures" / "cat.jpg").read_bytes())
    monkeypatch.chdir(here)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return here


@examples(6, 60)
@pytest.mark.parametrize("name", COMMANDS)
def test_any_command_line(name, count, place):
    before = entries(place.parent) - entries(place)

    def run(line: list[str]) -> None:
        TALLY["command lines", "tried"] += 1
        with limited(120):
            result = CliRunner().invoke(app, line, env={"COLUMNS": "100"})
        fault = result.exception is not None and not isinstance(result.exception, SystemExit)
        TALLY["command lines", "crashed" if fault else CODES.get(result.exit_code, "crashed")] += 1
        assert not fault, (line, result.exception)
        assert result.exit_code in CODES, line
        assert result.exit_code == 0 or result.output.strip(), f"no word about {line}"
        assert "Traceback" not in result.output
        assert "\x1b[31mred" not in result.output
        assert entries(place.parent) - entries(place) == before, line
        os.chdir(place)

    ask(count, run, lines(name))
