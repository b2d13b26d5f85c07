"""Blocks of code in markdown: found, run on the bundled model, or, where they need what a test has not, checked."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted(
    page
    for place in (ROOT, *(ROOT / name for name in ("docs", "examples", "src", "benchmarks")))
    for page in (place.glob("*.md") if place == ROOT else place.rglob("*.md"))
)
NEEDS = {
    "hub": "weights that are downloaded",
    "data": "a data set that is got elsewhere",
    "files": "files of the reader's own",
    "GPU": "a GPU",
    "cluster": "a cluster or an object store",
    "install": "changes what is installed, or needs a checkout",
    "browser": "serves until it is stopped",
    "time": "takes minutes",
}
FENCE = re.compile(r"^( *)(`{3,})(.*)$")
NEED = re.compile(r"^<!-- needs: (.*) -->$")


@dataclass(frozen=True)
class Block:
    """needs: why it is not run, from the comment above it, or ""; line: of its first line of code, from 1."""

    page: Path
    line: int
    language: str
    code: str
    needs: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def compiled(self):
        """Python, with the page's own line numbers in errors."""
        return compile("\n" * (self.line - 1) + self.code, str(self.page), "exec")

    @property
    def commands(self) -> list[list[str]]:
        """Lines of shell as words, without comments; a line that ends in a backslash goes on."""
        lines = self.code.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    found, last, start = [], "", None
    lines = page.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        fence = FENCE.match(line)
        if fence and start is None:
            start = (number + 1, fence[1], fence[2], fence[3].strip(), last)
        elif start and line.strip() == start[2]:
            begin, indent, _, language, above = start
            code = "\n".join(text.removeprefix(indent) for text in lines[begin:number])
            need = NEED.match(above)
            found.append(Block(page, begin + 1, language, code, need[1] if need else ""))
            start = None
        if line.strip() and start is None:
            last = line.strip()
    return found


def prose(page: Path) -> str:
    """A page without its blocks."""
    text, inside = [], ""
    for line in page.read_text(encoding="utf-8").splitlines():
        fence = FENCE.match(line)
        if fence and not inside:
            inside = fence[2]
        elif inside:
            inside = "" if line.strip() == inside else inside
        else:
            text.append(line)
    return "\n".join(text)


ALL = [block for page in PAGES for block in blocks(page)]
