"""The shell's way with texts: on the screen in colours, and as files where they are asked for."""

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from gradtoken.commands.shared import complain, leave, out, say
from gradtoken.errors import BadTarget, GradTokenError

Texts = Annotated[list[str] | None, typer.Option("--text", help="A text to explain; repeatable.")]
Merge = Annotated[str | None, typer.Option(help="What a word has of its pieces: max (default), sum, mean, pieces.")]
Special = Annotated[bool, typer.Option("--special", help="Show special tokens too.")]
Windows = Annotated[
    int | None, typer.Option(help="Read long texts in windows that share this many tokens; default: cut off.")
]
Named = tuple[str, Any]  # a text and what a message calls it


def some(files: list[str] | None, text: list[str] | None, check: bool, elsewhere: bool) -> list[str]:
    """The files that were given; wrong usage where there is neither a file nor a text, or no picture to check."""
    from gradtoken.models.texts import SUFFIX

    if not files and not text:
        raise typer.BadParameter("give pictures or .txt files, or a text with --text")
    if check and (text or elsewhere or any(file.lower().endswith(SUFFIX) for file in files or [])):
        raise typer.BadParameter("--check is of pictures that are drawn now: no texts, --words, --prompt or --resume")
    return files or []


def reading_of(merge: str | None, special: bool, windows: int | None) -> dict[str, Any]:
    """What was said of how texts are read."""
    from gradtoken.reading import Reading

    given: dict[str, Any] = {"merge": merge, "special": special or None, "windows": windows}
    found = {name: value for name, value in given.items() if value is not None}
    Reading(**found)
    return found


def named(text: Sequence[str], files: Sequence[str], resume: bool, prompt: str | None = None) -> list[Named]:
    """Texts as given, and those in files and patterns that end in .txt; none where these are no texts."""
    from gradtoken.models.texts import SUFFIX

    if prompt is not None and (text or resume):
        raise BadTarget("--prompt is the text beside pictures that are drawn now; leave out --text and --resume")
    if not text and not any(file.lower().endswith(SUFFIX) for file in files):
        return []
    if resume:
        raise BadTarget("--resume keeps maps of pictures; leave it out for texts")
    found: list[Named] = [(f"text-{i}" if len(text) > 1 else "text", one) for i, one in enumerate(text, 1)]
    for file in files:
        matches = [file] if Path(file).exists() or not glob.has_magic(file) else sorted(glob.glob(file, recursive=True))
        found += [(path, Path(path)) for path in matches or [file]]
    return found


def explain_texts(
    texts: Sequence[Named], model: Any, request: dict[str, Any], place: tuple[Path | None, str | None], style: Any
) -> None:
    """Show each text in colours, and write its file where a place or a form is given; bad ones do not stop the rest."""
    from gradtoken.batch import Destination, bars
    from gradtoken.explaining import explain

    if not request["words"]:
        model.for_texts  # noqa: B018  which refuses a model of pictures
    files = Destination.of(*place, len(texts)) if any(place) else None
    taken: set[Path] = set()
    failed = 0
    for name, text in texts:
        try:
            with bars():
                result = explain(text, model, **request)
            path = files.of_picture(name, taken) if files else None
            if path is not None:
                result.save(path, **style)
        except GradTokenError as error:
            if len(texts) == 1:
                raise
            failed += 1
            complain(f"{name}: {type(error).__name__}: {error}", "red")
            continue
        if len(texts) > 1:
            say(name, "bold underline")
        out.print(result, soft_wrap=not out.is_terminal)
        if path is not None:
            say(f"-> {path}")
    leave(failed, len(texts), "texts")
