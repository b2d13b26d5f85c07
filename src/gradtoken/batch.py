"""Many pictures one after the other for the shell; and what the shell says of a model."""

import importlib.metadata
import inspect
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gradtoken.comparing import compare
from gradtoken.comparison import Comparison
from gradtoken.draw.words import doubts, printable
from gradtoken.errors import BadPicture, BadSound, BadTarget, GradTokenError
from gradtoken.explaining import explain, listed, opened
from gradtoken.files import check_format
from gradtoken.manual import obstacles
from gradtoken.models.clip import asked
from gradtoken.models.model import Model
from gradtoken.models.pictures import find_pictures
from gradtoken.models.sounds import Sound
from gradtoken.outside import whole
from gradtoken.probe import Probe
from gradtoken.progress import showing, track
from gradtoken.provenance import PACKAGES
from gradtoken.result import Explanation, Explanations

RESERVED = {*inspect.signature(explain).parameters, *inspect.signature(compare).parameters}  # no options of a method
NAME = 50  # most letters of a picture's name in a result's: of up to four bytes each, where a file name has 255
LONGEST = 200  # letters of a class name in a line
console, errors = Console(soft_wrap=True), Console(stderr=True, soft_wrap=True)


@dataclass(frozen=True)
class Destination:
    """Where results go: one file, or a folder that gets one file a picture."""

    path: Path
    is_folder: bool
    suffix: str

    @classmethod
    def of(cls, path: Path | None, form: str | None, pictures: int) -> "Destination":
        """From what the user gave: nothing, a file, or a folder (which several pictures need). form: png by default."""
        suffix = "." + (form or "png").lstrip(".").lower()
        if path is not None and path.suffix and not os.path.isdir(path):
            if pictures > 1:
                raise BadTarget(f"--out {path} is one file, but {pictures} pictures were given; name a folder")
            check_format(path.suffix)
            if form is not None and path.suffix.lower() != suffix:
                raise BadTarget(f"--out {path} and --format {form} ask for different files; leave one of them out")
            return cls(path, False, path.suffix)
        check_format(suffix)
        folder = path or Path()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise GradTokenError(f"the folder {folder} cannot be made: {error.strerror}") from error
        return cls(folder, True, suffix)

    def of_picture(self, source: str, taken: set[Path]) -> Path:
        """A file for one picture; pictures of the same name get a number."""
        if not self.is_folder:
            return self.path
        stem = re.sub(r"[^\w.-]+", "_", Path(source).stem)[:NAME].strip("._-") or "picture"
        names = [f"{stem}-gradtoken{self.suffix}", *(f"{stem}-gradtoken-{i}{self.suffix}" for i in range(2, 10**6))]
        path = next(self.path / name for name in names if self.path / name not in taken)
        taken.add(path)
        return path


def parse_options(settings: Sequence[str]) -> dict[str, Any]:
    """["depth=2", "rollout.start=0"] -> {"depth": 2, "rollout.start": 0}."""
    options: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not re.fullmatch(r"(\w+\.)?[^\W\d]\w*", name) or name in RESERVED:
            raise BadTarget(f"expected --set NAME=VALUE or METHOD.NAME=VALUE, got {setting!r}")
        options[name] = parse_value(value)
    return options


def parse_value(value: str) -> int | float | bool | str:
    """A number or true or false where it is written as one."""
    number = whole(value)
    if number is not None:
        return number
    if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", value, re.I):
        return float(value)
    return {"true": True, "false": False}.get(value.lower(), value)


def found(patterns: Sequence[str]) -> tuple[list[Path], int]:
    """The pictures that files, folders and patterns name, and how many of these name none."""
    files: list[Path] = []
    failures: list[tuple[str, BadPicture]] = []
    for pattern in patterns:
        try:
            files += find_pictures([pattern])
        except BadPicture as error:
            failures.append((pattern, error))
    if not files and failures:
        raise failures[0][1]
    for pattern, failure in failures:
        complain(pattern, failure)
    return list(dict.fromkeys(files)), len(failures)


def complain(source: str, error: GradTokenError) -> None:
    """One line on a picture that failed while the rest go on."""
    line = printable(f"{source}: {type(error).__name__}: {error}")
    errors.print(line, style="red", markup=False, highlight=False)


def explain_all(
    pictures: Sequence[Any], model: Model, request: dict[str, Any], destination: Destination, style: dict[str, Any]
) -> int:
    """Explain each picture and write its file; a bad picture is reported and the rest go on. Number of failures."""
    taken: set[Path] = set()
    failed = 0
    model = asked(model, listed(request["target"]))  # captions are encoded once
    with bars():
        for picture in track(pictures, "pictures") if len(pictures) > 1 else pictures:
            source = "stdin" if isinstance(picture, bytes) else os.fspath(picture)
            try:
                result = explain(picture, model, **request)
                path = destination.of_picture(source, taken)
                result.save(path, **style)
            except GradTokenError as error:
                if len(pictures) == 1:
                    raise
                failed += 1
                complain(source, error)
            else:
                report(result, path)
    return failed


@contextmanager
def bars() -> Iterator[None]:
    """Show what takes long as progress bars, one below the other."""
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True) as progress:

        def show(steps: Sequence[Any], what: str) -> Iterator[Any]:
            task = progress.add_task(what, total=len(steps))
            try:
                for step in steps:
                    progress.update(task, description=getattr(step, "name", what))
                    yield step
                    progress.advance(task)
            finally:
                progress.remove_task(task)

        with showing(show):
            yield


def compare_all(pictures: Sequence[Any], model: Model, request: dict[str, Any]) -> tuple[Comparison, int]:
    """Compare on the pictures that can be read; the others are reported. How many these are comes second."""
    if not model.reads_sounds:
        model.for_pictures  # noqa: B018  which refuses a model of texts
    good = []
    if not model.reads_sounds:
        model.for_pictures  # noqa: B018  which refuses a model of texts
    for picture in pictures:
        try:
            subject = opened(picture, model)
            model.for_sounds(subject) if isinstance(subject, Sound) else model.for_pictures(subject)
            good.append(picture)
        except (BadPicture, BadSound) as error:
            if len(pictures) == 1:
                raise
            complain(os.fspath(picture), error)
    if not good:
        raise BadPicture("none of the pictures can be read")
    with bars():
        return compare(good, model, **request), len(pictures) - len(good)


def report(result: Explanation | Explanations, path: Path) -> None:
    """One line a map: the class, how sure the model is, and the file."""
    for one in result if isinstance(result, Explanations) else [result]:
        sure = "" if one.probability is None else f"  probability {one.probability:.3f}"
        same = f" ({'; '.join(doubts(one))})" if doubts(one) else ""
        name = one.name if len(one.name) <= LONGEST else f"{one.name[: LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"
        line = printable(f"{name}{sure}  logit {one.logit:.3f}  {one.method}{same} -> {path}")
        console.print(line, markup=False, highlight=False)


def support(model: Model) -> dict[str, str]:
    """What each method says against a model when it is tried on noise, or ""."""
    with bars():
        return obstacles(probe_of(model))


def probe_of(model: Model) -> Probe:
    """One forward pass of a model on noise; two captions stand for those that will be asked."""
    model = asked(model, ["a photo", "a drawing"])
    weight, generator = next(model.net.parameters()), torch.Generator().manual_seed(0)
    if model.reads_sounds or model.watches_films:
        noise = (model.for_sounds if model.reads_sounds else model.for_films).noise(generator)
    else:
        noise = torch.randn(1, 3, *model.for_pictures.size, generator=generator, device="cpu")
    return Probe(model.net, noise.to(weight.device, weight.dtype), memory=model.memory)


def environment() -> dict[str, str]:
    """Versions of what is installed, and the devices PyTorch sees."""
    facts = {}
    for package in PACKAGES.values():
        try:
            facts[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            facts[package] = "not installed"
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return facts | {"devices": f"cpu, {accelerator}" if accelerator else "cpu"}


def checkup(model: Model) -> dict[str, str]:
    """What one forward pass of a model shows: its attentions, its tokens and what its output reads."""
    probe = probe_of(model)
    H, W = probe.grid.shape[2:]
    layout, last = probe.layout, probe.last
    readers = int(probe.readers.sum())
    weights = list(model.net.parameters())
    count, number = sum(p.numel() for p in weights), str(weights[0].dtype).removeprefix("torch.")
    unread = f", {probe.first.unread} more could not be read" if probe.first.unread else ""
    readout = "a pooling query" if not last.square else "one token" if readers == 1 else f"the mean of {readers} tokens"
    return {
        "model": f"{model.name}: {model.source}",
        "parameters": f"{count:,} in {number}",
        "sound" if model.reads_sounds else "picture": f"{H} x {W} {'values' if model.reads_sounds else 'pixels'}",
        "attention": f"{len(probe.calls)} calls seen{unread}; {len(probe.earlier)} before the last are over its tokens",
        "heads": f"{last.shape[1]} of width {last.q.shape[3]}",
        "grid": f"{layout.rows} x {layout.columns} patches after {layout.first} prefix tokens",
        "readout": readout,
        "classes": told_classes(model, probe),
    }


def told_classes(model: Model, probe: Probe) -> str:
    """How many classes there are, or what takes their place."""
    if model.captions is not None:
        return f"captions of up to {model.captions.length} tokens"
    return str(probe.logits.shape[1]) if probe.logits is not None else "none"
