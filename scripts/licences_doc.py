"""The licences of what gradtoken is installed with, from the packages' own metadata.

    python scripts/licences_doc.py

writes the table in docs/licences.md, for what is installed here.
"""

import importlib.metadata
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "licences.md"
MARKS = ("<!-- dependencies begin -->", "<!-- dependencies end -->")
TOOLS = ("dev", "ecosystem")  # of those who work on it, or with other packages


def direct() -> dict[str, str]:
    """Package -> the extra that asks for it first, "" for what is always installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = sorted(project["optional-dependencies"].items(), key=lambda item: item[0] in TOOLS)
    found: dict[str, str] = {}
    for extra, requirements in [("", project["dependencies"]), *extras]:
        for requirement in map(Requirement, requirements):
            if requirement.name != project["name"]:
                found.setdefault(normal(requirement.name), extra)
    return found


def closure(names: list[str]) -> Iterator[str]:
    """What these packages need, themselves first, as far as it is installed."""
    seen: set[str] = set()
    queue = [normal(name) for name in names]
    while queue:
        name = queue.pop(0)
        if name in seen or not installed(name):
            continue
        seen.add(name)
        yield name
        needed = map(Requirement, importlib.metadata.requires(name) or ())
        queue += [normal(r.name) for r in needed if r.marker is None or r.marker.evaluate({"extra": ""})]


def installed(name: str) -> bool:
    return any(True for _ in importlib.metadata.Distribution.discover(name=name))


def normal(name: str) -> str:
    """`PyYAML` -> `pyyaml`."""
    return re.sub(r"[-_.]+", "-", name).lower()


def licence(name: str) -> str:
    """As a package states it: the expression, else the classifiers, else the first line of the free text."""
    metadata = importlib.metadata.metadata(name)
    marks = [c.rpartition(" :: ")[2] for c in metadata.get_all("Classifier") or () if c.startswith("License ::")]
    marks = [mark.removeprefix("OSI Approved").strip() for mark in marks if mark != "OSI Approved"]
    free = (metadata.get("License") or "").strip().split("\n")[0][:60]
    return metadata.get("License-Expression") or ", ".join(marks) or free or "not stated"


def table() -> str:
    """Direct dependencies by extra, then what they bring along."""
    of = direct()
    runtime = [name for name, extra in of.items() if extra not in TOOLS]
    rows = [f"| {name} | {of[name] or 'always'} | {version(name)} | {told(name)} |" for name in of]
    brought = [name for name in closure(runtime) if name not in of and name != "gradtoken"]
    rows += [f"| {name} | brought along | {version(name)} | {told(name)} |" for name in sorted(brought)]
    head = ["| package | extra | version | licence as stated |", "| --- | --- | --- | --- |"]
    return "\n".join([*head, *rows])


def version(name: str) -> str:
    return importlib.metadata.version(name) if installed(name) else "not installed here"


def told(name: str) -> str:
    return licence(name) if installed(name) else ""


def document(page: str) -> str:
    """The page with the table between its marks."""
    before, _, rest = page.partition(MARKS[0])
    return f"{before}{MARKS[0]}\n{table()}\n{MARKS[1]}{rest.partition(MARKS[1])[2]}"


if __name__ == "__main__":
    PAGE.write_text(document(PAGE.read_text("utf-8")), "utf-8")
