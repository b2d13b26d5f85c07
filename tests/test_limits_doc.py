"""The page on limits speaks of the methods and limits that there are."""

import re
from pathlib import Path

from gradtoken import checking, doubts
from gradtoken.methods import METHODS

PAGE = (Path(__file__).parent.parent / "docs" / "limits.md").read_text("utf-8")


def section(title: str) -> str:
    return PAGE.split(f"## {title}\n")[1].split("\n## ")[0]


def test_every_method_is_of_one_kind():
    rows = [
        line.split(" | ")[1] for line in section("What each kind of method cannot show").splitlines() if "`" in line
    ]
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row) if name in METHODS]
    assert sorted(named) == sorted(METHODS)


def test_methods_that_know_no_class_are_those_of_the_registry():
    first = section("When maps mislead").split("**The map shows")[0]
    listed = re.findall(r"`(\w+)`", first.split("never ask for the class:")[1].split(".")[0])
    assert listed == [name for name, entry in METHODS.items() if not entry.class_aware]


def test_limits_are_those_of_the_code():
    said = dict(re.findall(r"^\| ([^|]+?) \|.*\| ([\d.]+) \|$", section("Warnings"), re.M))
    assert said == {
        "nearly the same for ...": f"{doubts.ALIKE:g}",
        "one patch holds ...": f"{doubts.ONE:g}",
        "rounding alone changes it": f"{doubts.ROUNDED:g}",
    }
    assert f"a map of {doubts.MANY} patches or more" in section("Warnings")
    rows = re.findall(r"^\| (\w+) \|.*?\| ([\d.]+) or (more|less) \|", section("`gradtoken explain --check`"), re.M)
    assert rows == [(c.name, f"{c.limit:g}", "more" if c.higher else "less") for c in checking.CHECKS]
