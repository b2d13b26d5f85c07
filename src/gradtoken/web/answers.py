"""What the page is told after an action."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """Parts of the page as HTML; None leaves a part as it is."""

    message: str | None = ""
    picture: str | None = None
    classes: str | None = None
    maps: str | None = None
    code: str | None = None
    variants: str | None = None
    erasing: str | None = None
    file: dict[str, str] | None = None
