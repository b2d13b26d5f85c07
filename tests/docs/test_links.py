"""Links of all markdown pages lead to files and headings that exist."""

import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.docs.blocks import PAGES, ROOT, prose

LINK = re.compile(r"\]\(([^()\s]*(?:\([^()\s]*\)[^()\s]*)*)\)")
SPAN = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)", re.S)
ELSEWHERE = re.compile(r"[a-z]+:|//")


@cache
def anchors(page: Path) -> frozenset[str]:
    """Of the headings of a page, as both the repository's view and the site make them."""
    found: list[str] = []
    for title in re.findall(r"^#+ (.+)$", prose(page), re.M):
        words = re.sub(r"!?\[([^]]*)\]\([^)]*\)", r"\1", title)
        found.append(re.sub(r"[^\w\- ]", "", words.lower()).strip().replace(" ", "-"))
    return frozenset(found)


def broken(page: Path, text: str) -> list[str]:
    """Links of a page that lead nowhere."""
    bad = []
    for link in LINK.findall(SPAN.sub("", text)):
        place, _, anchor = link.partition("#")
        if ELSEWHERE.match(link):
            continue
        target = (page.parent / unquote(place)).resolve() if place else page
        headed = not anchor or (target.suffix == ".md" and target.is_file() and anchor in anchors(target))
        if not target.exists() or not headed or ROOT not in target.parents:
            bad.append(link)
    return bad


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    assert not broken(page, prose(page))


def test_a_broken_link_is_found():
    page = ROOT / "docs" / "benchmark.md"
    text = (
        "[a](method.md) [b](#how-to-read-a-report) [c](gone.md) [d](method.md#gone) `[e](gone.md)` [f](https://a.b/c)"
    )
    assert broken(page, text + " ![g](figures/gone.png) [h](../../gone)") == [
        "gone.md",
        "method.md#gone",
        "figures/gone.png",
        "../../gone",
    ]


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
