"""How files and values are spoilt."""

import json
from typing import Any

from hypothesis import strategies as st

EXTREME = [b"\x00" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80\x00\x00\x00", b"\x00\x00\x00\x80"]
WORDS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        [
            "",
            " ",
            "\x00",
            "\x1b[31mred\x1b[0m",
            "[bold]markup[/bold]",
            "[/nothing]",
            "<script>alert(1)</script>",
            "../../etc/passwd",
            "/dev/zero",
            "C:\\con",
            "\u202eabc\u202c",
            "שלום",
            "a\u2028b",
            "line\nbreak",
            "x" * 300,
            "x" * 70_000,
            "9" * 5000,
            "²",
            "٣",
            "nan",
            "inf",
            "1e999",
            "-1",
            "${jndi:ldap://x}",
            "%s%n",
            "'; DROP TABLE",
            "\ud800",
        ]
    ),
)
NUMBERS = st.one_of(
    st.integers(),
    st.sampled_from([0, -1, 2**31, 2**63, 10**30, 10**400]),
    st.floats(),
    st.sampled_from([1e308, 5e-324]),
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, WORDS)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4), max_leaves=8
)


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """A file with bytes changed, lost, doubled or added, or cut short."""
    for _ in range(draw(st.integers(1, 4))):
        content = spoilt(draw, content)
    return content


def spoilt(draw: st.DrawFn, content: bytes) -> bytes:
    """One fault."""
    place = draw(st.integers(0, max(len(content) - 1, 0)))
    kind = draw(st.sampled_from(["flip", "byte", "cut", "lose", "double", "insert", "extreme"]))
    head, tail = content[:place], content[place:]
    if kind == "cut":
        return head
    if kind == "flip":
        return head + bytes(b ^ 1 << draw(st.integers(0, 7)) for b in tail[:1]) + tail[1:]
    if kind == "byte":
        return head + draw(st.binary(min_size=1, max_size=1)) + tail[1:]
    if kind == "lose":
        return head + tail[draw(st.integers(1, 64)) :]
    if kind == "double":
        return head + tail[: draw(st.integers(1, 256))] + tail
    if kind == "extreme":
        return head + draw(st.sampled_from(EXTREME)) + tail[4:]
    return head + draw(st.binary(max_size=16)) + tail


@st.composite
def altered(draw: st.DrawFn, document: Any) -> Any:
    """A JSON document with one value anywhere in it replaced, lost or renamed."""
    if not isinstance(document, dict | list) or not document or draw(st.integers(0, 3)) == 0:
        return draw(JSON)
    keys = sorted(document) if isinstance(document, dict) else range(len(document))
    key = draw(st.sampled_from(list(keys)))
    inner = draw(st.sampled_from(["replace", "lose", "rename"]))
    changed = dict(document) if isinstance(document, dict) else list(document)
    value = changed.pop(key)
    if inner == "replace":
        value = draw(altered(value))
        return changed | {key: value} if isinstance(changed, dict) else [*changed[:key], value, *changed[key:]]
    if inner == "rename" and isinstance(changed, dict):
        return changed | {draw(WORDS): value}
    return changed


def written(document: Any) -> bytes:
    """JSON as other programs write it: with NaN, and halves of pairs."""
    return json.dumps(document).encode("utf-8", errors="surrogatepass")


DEEP = b"[" * 100_000 + b"]" * 100_000
