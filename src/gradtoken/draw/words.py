"""Text for figures: labels and file names come from outside, fonts and XML take only some characters."""

import textwrap
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradtoken.comparison import Row
    from gradtoken.result import Explanation

SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
MINUS, TIMES = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"


def printable(text: str) -> str:
    """One line without control characters, which fonts and SVG cannot show."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c.isspace() else "�" for c in text)


def fit(text: str, inches: float, points: float, lines: int = 1, letter: float = 0.6) -> list[str]:
    """Lines of this width at this font size, the last one cut with an ellipsis. letter: its mean width in ems."""
    text = printable(text)
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text) + 0.6 * sum(c in "MW" for c in text)
    width = letter * points / 72 * (1 + wide / max(len(text), 1))  # of a mean letter, in inches
    letters = max(8, int(inches / width))
    wrapped = textwrap.wrap(text, letters, max_lines=lines, placeholder="…")
    if wrapped[-1:] == ["…"]:  # a word that is longer than a line
        wrapped[-1] = textwrap.wrap(text, letters)[len(wrapped) - 1][: letters - 1] + "…"
    return wrapped or [""]


def base_name(source: str) -> str:
    """The file's name without its folders, of either system."""
    return source.replace("\\", "/").rsplit("/", 1)[-1]


def broken(name: str, inches: float, points: float, lines: int, letter: float) -> list[str]:
    """As `fit`, for names of code: lines may also end at an underscore."""
    return [line.replace("_ ", "_") for line in fit(name.replace("_", "_ "), inches, points, lines, letter)]


def number(value: float, digits: int = 3) -> str:
    """`0.0123`, `−4.5`, `1.2×10⁻⁵`."""
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 1e5:
        return f"{float(f'{value:.{digits}g}'):g}".replace("-", MINUS)
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{float(mantissa):g}{TIMES}10{str(int(exponent)).translate(SUPERSCRIPT)}".replace("-", MINUS)


def percent(probability: float) -> str:
    """`93 %`, `0.4 %`; never a rounded 0 or 100."""
    if 0 < probability < 0.001:
        return "< 0.1 %"
    if 0.999 < probability < 1:
        return "> 99.9 %"
    return f"{100 * probability:.3g} %" if probability < 0.1 else f"{100 * probability:.1f} %"


def share(value: float) -> str:
    """`20 %`, `0.5 %`: a setting as it was given."""
    return f"{100 * value:.4g} %"


def score(one: "Explanation | Row") -> str:
    """`probability 93.1 %, logit 9.12`."""
    if one.target is None:
        return f"score {number(one.logit)}"
    sure = [] if one.probability is None else [f"probability {percent(one.probability)}"]
    return ", ".join([*sure, f"logit {number(one.logit)}"])


AGNOSTIC = "same for every class"


def doubts(one: "Explanation") -> list[str]:
    """What is to be said against the map, each once."""
    return list(dict.fromkeys([*([] if one.class_aware else [AGNOSTIC]), *one.warnings]))


def method(one: "Explanation") -> str:
    """`gradtoken heads=mean`."""
    return " ".join([one.method, *(f"{name}={value}" for name, value in one.options.items())])


def first_name(label: str) -> str:
    """`tabby` of `tabby, tabby cat`."""
    return label.split(",")[0]
