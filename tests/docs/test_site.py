"""The documentation as a site: built strictly, asking nothing of elsewhere, with every page in its navigation."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

import gradtoken
from tests.docs.blocks import ROOT

DOCS = ROOT / "docs"
LLMS = (DOCS / "llms.txt").read_text(encoding="utf-8")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LISTED = re.findall(r"^- \[.+?\]\((.+?)\): .+$", LLMS, re.M)


def test_every_page_is_in_the_navigation_once():
    pages = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    assert not pages - set(LISTED), f"add a line to docs/llms.txt for each of {sorted(pages - set(LISTED))}"
    assert not set(LISTED) - pages, f"docs/llms.txt names pages that do not exist: {sorted(set(LISTED) - pages)}"
    assert [page for page, count in Counter(LISTED).items() if count > 1] == []


def test_llms_txt_is_laid_out_as_its_readers_expect():
    """A title, a quoted summary, prose, then parts that are lists of links with notes."""
    title, summary, prose, *parts = re.split(r"\n\n(?=## |> |[A-Z])", LLMS.strip())
    assert title == "# gradtoken"
    assert all(line.startswith("> ") for line in summary.splitlines())
    assert not re.search(r"^[#>-]", prose, re.M)
    for part in parts:
        heading, empty, *lines = part.splitlines()
        assert heading.startswith("## ")
        assert empty == ""
        assert all(re.fullmatch(r"- \[.+?\]\(.+?\.md\): .+", line) for line in lines), part


@pytest.mark.parametrize("script", ["bibliography_doc", "command_line_doc"])
def test_written_pages_are_up_to_date(script):
    spec = importlib.util.spec_from_file_location(script, ROOT / "scripts" / f"{script}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text(encoding="utf-8") == module.document(), f"run: python scripts/{script}.py"


def test_citation_is_of_this_version():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {gradtoken.__version__}\n" in citation
    assert "doi: 10.1016/j.neunet.2024.106837" in citation


class Requests(HTMLParser):
    """Addresses that a browser asks for by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag == "link" or "src" in values or "srcset" in values or tag == "object":
            names = ("href", "src", "srcset", "data")
            self.found += [values[name] for name in names if values.get(name)]
        self.found += re.findall(r"url\(['\"]?([^'\")]+)", values.get("style") or "")


def asked(page: str) -> list[str]:
    """What of another place a page asks for."""
    reader = Requests()
    reader.feed(page)
    return [address for address in reader.found if re.match(r"(?!data:)[a-z]+:|//", address)]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    for package in ("mkdocs", "material", "mkdocstrings", "mkdocstrings_handlers.python"):
        pytest.importorskip(package, reason="needs pip install 'gradtoken[docs]'")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    built = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def test_the_site_builds_and_asks_nothing_of_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert {page.relative_to(site).as_posix() for page in pages} >= {one.removesuffix("md") + "html" for one in LISTED}
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert asked(text) == [], page
        assert 'class="mermaid"' not in text, "the theme fetches the script for diagrams"
    for style in site.rglob("*.css"):
        assert not re.search(r"(?:@import|url\()\s*['\"]?(?:https?:)?//", style.read_text(encoding="utf-8")), style


def test_pages_lie_beside_themselves_as_markdown(site):
    assert all((site / page).read_bytes() == (DOCS / page).read_bytes() for page in LISTED)
    assert (site / "llms.txt").is_file()


def test_docstrings_are_lists_of_their_parameters(site):
    text = (site / "reference" / "explaining.html").read_text(encoding="utf-8")
    for name in ("picture", "model", "target", "method", "options"):
        assert re.search(
            rf"<li>\s*<p>\s*<strong><code>{name}</code></strong>|<li><strong><code>{name}</code></strong>", text
        )
    assert ":::" not in text
    style = (site / "reference" / "results.html").read_text(encoding="utf-8")
    assert re.search(r"<code>opacity</code></strong>: of the heat over the picture", style)  # a comment of the source


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")
def test_the_site_works_from_the_disk(site):
    """Search included, without a request to anywhere, on a phone's width without scrolling sideways."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs pip install playwright")
    asked_for, said = [], []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 800})
        page.on("request", lambda request: asked_for.append(request.url))
        page.on("pageerror", lambda error: said.append(str(error)))
        for name in ("methods", "how-to/cluster", "index"):
            page.goto((site / f"{name}.html").as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, name
        page.click("label[for=__search].md-header__button")
        page.locator("input.md-search__input").press_sequentially("rollout")
        page.wait_for_selector("text=matching documents", timeout=60_000)
        assert page.locator(".md-search-result__link").first.get_attribute("href").endswith("/methods.html?h=rollout")
        browser.close()
    assert said == []
    assert [address for address in asked_for if not address.startswith(("file:", "data:", "blob:"))] == []


def test_what_a_page_asks_for_is_seen():
    page = "<link rel='stylesheet' href='https://a.b/c.css'><img src='//a.b/c.png'><a href='https://a.b'>d</a>"
    assert asked(page + "<script src='assets/a.js'></script><p style='background: url(http://a.b/c)'>") == [
        "https://a.b/c.css",
        "//a.b/c.png",
        "http://a.b/c",
    ]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_in_the_site_bars_anybody(site, scheme):
    """The rules of axe-core."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs pip install playwright")
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_context(color_scheme=scheme, viewport={"width": 1280, "height": 900}).new_page()
        for name in ("index", "tutorial", "methods", "reference/explaining", "page"):
            page.goto((site / f"{name}.html").as_uri())
            found = axe.Axe().run(page).response["violations"]
            serious = [one for one in found if one["impact"] in ("serious", "critical")]
            assert [(one["id"], [node["html"][:200] for node in one["nodes"]]) for one in serious] == [], name
        browser.close()
