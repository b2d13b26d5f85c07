"""The papers behind methods, metrics and protocols, from the registries.

    python scripts/bibliography_doc.py

writes docs/bibliography.md. Authors, title and place of each address are in scripts/papers.json.
"""

import json
from pathlib import Path

from gradtoken.methods import METHODS
from gradtoken.metrics import METRICS
from gradtoken.protocols import PROTOCOLS

PAGE = Path(__file__).parent.parent / "docs" / "bibliography.md"
PAPERS = Path(__file__).parent / "papers.json"
HEAD = """# Bibliography

Written by `python scripts/bibliography_doc.py` from the registries. A method, metric or protocol stands beside the
paper that proposed it or whose definition it follows; what differs from the paper is told under the
[method](methods.md). For citing this package, see [How to cite](cite.md).
"""


def document() -> str:
    """The page, by first author."""
    papers = json.loads(PAPERS.read_text(encoding="utf-8"))
    cited = {entry.paper for registry in (METHODS, METRICS, PROTOCOLS) for entry in registry.values()}
    if cited != set(papers):
        raise SystemExit(
            f"{PAPERS}: not described {sorted(cited - set(papers))}, cited by nothing {set(papers) - cited}"
        )
    rows = [row(url, *papers[url]) for url in sorted(cited, key=lambda url: (papers[url][0].lower(), url))]
    return "\n".join([HEAD, *rows]) + "\n"


def row(url: str, authors: str, title: str, place: str) -> str:
    """One paper and what cites it."""
    used = {
        "methods": [f"[`{name}`](methods.md#{name})" for name, entry in METHODS.items() if entry.paper == url],
        "metrics": [f"`{name}`" for name, entry in METRICS.items() if entry.paper == url],
        "protocols": [f"`{name}`" for name, entry in PROTOCOLS.items() if entry.paper == url],
    }
    said = "; ".join(f"{kind} {', '.join(names)}" for kind, names in used.items() if names)
    return f"- {authors}: [{title}]({url}). {place}. In {said}."


if __name__ == "__main__":
    PAGE.write_text(document(), encoding="utf-8")
    print(f"{document().count(chr(10) + '- ')} papers -> {PAGE}")
