"""Frames of a film, chosen evenly, from wherever it is."""

import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gradtoken.errors import BadPicture
from gradtoken.models.extras import need
from gradtoken.models.files import find_pictures
from gradtoken.models.pictures import BROKEN, open_picture

ANIMATED = {".gif", ".png", ".apng", ".webp", ".avif", ".tif", ".tiff"}  # which Pillow reads frame by frame


@dataclass(frozen=True, eq=False)
class Film:
    """frames: those that were chosen, upright RGB of one size. numbers: of each in the film, from 0. total: of all."""

    frames: tuple[Image.Image, ...]
    numbers: tuple[int, ...]
    total: int


def open_film(source: Any, count: int) -> Film:
    """`count` frames, the first and the last included, of a list of pictures, a folder of them, a GIF or a video."""
    if isinstance(source, str | os.PathLike) and Path(source).is_dir():
        source = find_pictures([source])
    if isinstance(source, Sequence) and not isinstance(source, str | bytes):
        numbers = evenly(len(source), count)
        return checked([open_picture(source[n]) for n in numbers], numbers, len(source))
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        if not path.is_file():
            raise BadPicture(f"no file {str(path)!r}; expected a folder of frames, an animated picture or a video")
        return animated(path, count) if path.suffix.lower() in ANIMATED else video(path, count)
    if isinstance(source, bytes) or hasattr(source, "read"):
        return animated(io.BytesIO(source if isinstance(source, bytes) else source.read()), count)
    raise BadPicture(
        f"expected a list of frames, a folder, an animated picture or a video, got {type(source).__name__}"
    )


def evenly(total: int, count: int) -> tuple[int, ...]:
    """Numbers of `count` frames of `total`, some twice where there are fewer."""
    if total < 2:
        raise BadPicture(f"expected a film of at least 2 frames, got {total}; a model of films sees what moves")
    return tuple(int(n) for n in np.linspace(0, total - 1, count).round())


def checked(frames: Sequence[Image.Image], numbers: tuple[int, ...], total: int) -> Film:
    """Refuse frames of several sizes."""
    sizes = sorted({frame.size for frame in frames})
    if len(sizes) > 1:
        raise BadPicture(f"expected frames of one size, got {' and '.join(f'{w} x {h}' for w, h in sizes[:3])} pixels")
    return Film(tuple(frames), numbers, total)


def animated(file: Any, count: int) -> Film:
    """Frames of an animated picture."""
    try:
        with Image.open(file) as image:
            total = getattr(image, "n_frames", 1)
            numbers = evenly(total, count)
            return checked([open_picture(frame) for frame in chosen(image, numbers)], numbers, total)
    except BROKEN as error:
        raise BadPicture(f"{str(file)[:200]!r} is no animated picture that can be read: {error}") from error


def chosen(image: Image.Image, numbers: Sequence[int]) -> Iterator[Image.Image]:
    """Frames of an open picture by number."""
    for number in numbers:
        image.seek(number)
        yield image.convert("RGBA")


def video(path: Path, count: int) -> Film:
    """Frames of what PyAV decodes: packets are counted, then the frames read once in order."""
    av = need("av", "video")
    try:
        with av.open(str(path)) as container:
            total = sum(packet.size > 0 for packet in container.demux(video=0))
        numbers = evenly(total, count)
        found: dict[int, Image.Image] = {}
        with av.open(str(path)) as container:
            for number, frame in enumerate(container.decode(video=0)):
                if number in numbers:
                    found[number] = frame.to_image()
                if number >= numbers[-1]:
                    break
    except (av.error.FFmpegError, IndexError, OSError) as error:
        raise BadPicture(f"{str(path)!r} is no video that can be read: {error}") from error
    return checked([found[min(n, max(found))] for n in numbers], numbers, total)
