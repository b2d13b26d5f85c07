"""What the shell can ask beyond a class: one rather than another, likeness to a picture, the words of a caption."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from gradtoken.errors import BadTarget

Against = Annotated[
    list[str] | None, typer.Option("--against", help="Explain --target rather than this; one for all, or one for each.")
]
Similar = Annotated[
    list[str] | None, typer.Option("--similar-to", help="A picture: explain the cosine of its features with theirs.")
]
Prompt = Annotated[
    str | None, typer.Option("--prompt", help="For a model that answers about pictures: the text before its answer.")
]
OfWords = Annotated[bool, typer.Option("--words", help="Explain the words of the captions instead of the picture.")]


def wanted(target: list[str] | None, against: list[str] | None, similar: list[str] | None) -> list[Any] | None:
    """The targets that were given; None for the prediction."""
    from gradtoken.scores import contrast, similarity_to

    targets, others = target or [], against or []
    if (others and len(others) not in (1, len(targets))) or (others and not targets):
        raise BadTarget(
            f"expected one --against for all or one for each --target, got {len(others)} for {len(targets)}"
        )
    pairs = zip(targets, others * len(targets) if len(others) == 1 else others, strict=True) if others else ()
    asked: list[Any] = [contrast(*pair) for pair in pairs] or [*targets]
    return asked + [similarity_to(picture) for picture in similar or []] or None


def sources(files: Sequence[Any]) -> list[tuple[str, Any]]:
    """Files with their names."""
    return [("stdin" if isinstance(file, bytes) else str(file), file) for file in files]
