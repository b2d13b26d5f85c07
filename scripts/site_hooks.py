"""What the site does beyond mkdocs.

Its navigation is docs/llms.txt (https://llmstxt.org), and the pages lie beside themselves as markdown, where llms.txt
names them; links to files of the repository lead to copies; above a block stands what it needs.
"""

import posixpath
import re
import shutil
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
OUTWARD = re.compile(r"(?<=\]\()((?:\.\./)+[^)#\s]+)")
NEEDS = re.compile(r"<!-- needs: (.+?) -->\n+```(\w+)\n")
ENTRY = re.compile(r"^- \[(.+?)\]\((.+?)\): .+$", re.M)
HERE_ONLY = re.compile(r"(?:^.+\n)+<!-- not on the site -->\n", re.M)  # a paragraph for readers of the repository
ROW = re.compile(r"^\|.*\|$", re.M)
SPAN = re.compile(r"`[^`\n]+`")
KEPT = "repository"  # folder of the site for what lies outside docs/


def navigation(text: str) -> list[dict[str, Any]]:
    """Parts and pages of llms.txt; the pages of its first part stand alone."""
    parts = re.split(r"^## ", text, flags=re.M)[1:]
    found = [(part.splitlines()[0], [{m[1]: m[2]} for m in ENTRY.finditer(part)]) for part in parts]
    return [*found[0][1], *({title: pages} for title, pages in found[1:])]


def on_config(config: Any) -> Any:
    """Navigate by llms.txt."""
    config.nav = navigation((Path(config.docs_dir) / "llms.txt").read_text(encoding="utf-8"))
    return config


def on_files(files: Files, config: Any) -> Files:
    """Take files of the repository that pages link to into the site; a folder with a list of its files."""
    pages = list(files.documentation_pages())
    outside = {place(page.src_uri, link) for page in pages for link in OUTWARD.findall(page.content_string)} - {""}
    for path in sorted(outside):
        inside = sorted(one.name for one in (ROOT / path).iterdir() if one.is_file()) if (ROOT / path).is_dir() else []
        for one in {f"{path}/{name}" for name in inside} - outside if inside else {path}:
            files.append(File.generated(config, f"{KEPT}/{kept_name(one)}", abs_src_path=str(ROOT / one)))
        if inside:
            lines = "".join(f'<li><a href="{kept_name(name)}">{name}</a></li>' for name in inside)
            page = f"<!doctype html><title>{path}</title><h1>{path}</h1><ul>{lines}</ul>"
            files.append(File.generated(config, f"{KEPT}/{kept_name(path)}", content=page))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead links out of docs/ to the copies, and write above a block what it needs."""
    here = posixpath.dirname(page.file.src_uri)

    def inward(match: re.Match[str]) -> str:
        outside = place(page.file.src_uri, match[1])
        return posixpath.relpath(f"{KEPT}/{kept_name(outside)}", here or ".") if outside else match[1]

    if "/" not in page.file.src_uri and page.parent is None:
        page.meta["hide"] = ["navigation"]  # which would be this page alone
    markdown = ROW.sub(lambda row: cells(row[0]), markdown)
    return NEEDS.sub(r'```\2 title="needs: \1"\n', OUTWARD.sub(inward, HERE_ONLY.sub("", markdown)))


def on_post_page(output: str, **_: Any) -> str:
    """Name the search for those who hear the page."""
    unnamed = 'data-md-component="search" role="dialog"'
    return output.replace(unnamed, f'{unnamed} aria-label="search"')


def cells(row: str) -> str:
    """A line of a table: bars in code separate nothing here, and sizes stay on one line."""
    row = SPAN.sub(lambda span: span[0].replace(r"\|", "|"), row)
    return re.sub(r"(?<=\d) x (?=\d)", "\N{NO-BREAK SPACE}x\N{NO-BREAK SPACE}", row)


def on_post_build(config: Any) -> None:
    """Put the pages beside themselves as markdown, where llms.txt names them."""
    docs = Path(config.docs_dir)
    for page in docs.rglob("*.md"):
        shutil.copyfile(page, Path(config.site_dir) / page.relative_to(docs))


def place(page: str, link: str) -> str:
    """The path of a linked file from the root of the repository, or "" where the link stays within docs/."""
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link))
    return "" if path.startswith("docs/") else path


def kept_name(path: str) -> str:
    """Text that a browser would offer to save is shown; a folder is the list of its files."""
    if (ROOT / path).is_dir():
        return f"{path}/index.html"
    return f"{path}.txt" if PurePosixPath(path).suffix in (".py", ".md", ".csv", ".toml", ".cff", "") else path
