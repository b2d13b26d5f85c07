"""Any picture as RGB pixels, or a refusal that says what is wrong with it.

Transparent pixels are laid on white; the EXIF orientation is applied; of an animation the first frame is read.
Sixteen-bit grey is divided by 257; floats and wider integers are read by their range, see `eight_bit`.
"""

import io
import os
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, ImageOps

from gradtoken.errors import BadPicture
from gradtoken.models.files import find_pictures

__all__ = ["LIMIT", "Source", "find_pictures", "open_picture"]

LIMIT = 100_000_000  # pixels; a picture with more is refused before it is decoded
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")  # no EPS: it runs a program
ALPHA = {"LA": "LA", "La": "LA", "PA": "RGBA", "RGBA": "RGBA", "RGBa": "RGBA"}  # mode -> one that converts to RGBA
BROKEN = (  # what Pillow's decoders raise on damaged files
    *(OSError, SyntaxError, ValueError, TypeError, LookupError, AttributeError, AssertionError, ArithmeticError),
    *(EOFError, MemoryError, RuntimeError, struct.error, zlib.error, Image.DecompressionBombError),
)
FOREIGN = {
    b"%PDF": "a PDF document",
    b"<svg": "an SVG drawing",
    b"ftypheic": "a HEIC picture",
    b"ftypheix": "a HEIC picture",
    b"ftypmif1": "a HEIF picture",
    b"ftypmp4": "a video",
    b"ftypisom": "a video",
    b"ftypqt": "a video",
    b"\x1aE\xdf\xa3": "a video",
    b"%!PS": "a PostScript drawing",
}  # bytes near the start -> what the file is

Source = str | os.PathLike[str] | bytes | IO[bytes] | Image.Image | np.ndarray[Any, Any]


def open_picture(source: Source | tuple[Any, ...]) -> Image.Image:
    """RGB picture, upright, from a path, bytes, a file object, a Pillow image or an array (H, W[, 1 | 3 | 4])."""
    if isinstance(source, np.ndarray):
        return to_rgb(from_array(source), "the array")
    if isinstance(source, Image.Image):
        with quiet():
            return settle(source, "the Pillow image")
    if isinstance(source, bytes | bytearray | memoryview):
        return decode(io.BytesIO(source), f"the {len(source)} bytes given")
    if isinstance(source, str | os.PathLike):
        return read_file(source)
    if hasattr(source, "read"):
        data = source.read()
        if not isinstance(data, bytes):
            raise BadPicture(f"expected a file object opened in binary mode, its read() gave {type(data).__name__}")
        return decode(io.BytesIO(data), f"the file object {getattr(source, 'name', type(source).__name__)!r}")
    raise BadPicture(
        "expected a picture as a path, bytes, a binary file object, a Pillow image or an array (height, width, 3), "
        f"got {type(source).__name__}"
    )


def read_file(path: str | os.PathLike[str]) -> Image.Image:
    """The picture at `path`."""
    what = repr(os.fspath(path))
    if what.startswith(("'http://", "'https://")):
        raise BadPicture(f"{what} is an address, not a file; download the picture and name the file")
    try:
        if Path(path).is_dir():
            raise BadPicture(f"{what} is a folder, not a picture; name a file in it")
        if Path(path).exists() and not Path(path).is_file():
            raise BadPicture(f"{what} is a device or a pipe, not a file; name a picture file")
        with open(path, "rb") as file:
            return decode(file, what)
    except FileNotFoundError as error:
        raise BadPicture(f"no file {what}; check the name and the folder ({Path.cwd()})") from error
    except PermissionError as error:
        raise BadPicture(f"{what} cannot be read: permission denied; change its permissions or copy it") from error
    except (OSError, ValueError) as error:  # a name that is too long, holds a zero byte, or a disk fault
        raise BadPicture(f"{what} cannot be opened: {error}") from error


def decode(file: IO[bytes], what: str) -> Image.Image:
    """Upright RGB picture from an open file that can seek."""
    Image.init()
    known = [name for name in FORMATS if name in Image.OPEN]
    with quiet():
        try:
            image = Image.open(file, formats=known)
        except Image.DecompressionBombError as error:
            raise BadPicture(f"{what} is too large: {error}; the limit is {LIMIT // 10**6} megapixels") from error
        except BROKEN as error:
            raise BadPicture(complaint(file, what)) from error
        with image:
            return settle(image, what)


class Quiet:
    """No warnings while anybody decodes: sizes are checked here, and damaged metadata is no fault of the pixels.

    The list of warning filters belongs to the whole process: the first thread sets it, the last one restores it.
    """

    def __init__(self) -> None:
        self.lock, self.inside, self.before = threading.Lock(), 0, ExitStack()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self.lock:
            if not self.inside:
                self.before.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
            self.inside += 1
        try:
            yield
        finally:
            with self.lock:
                self.inside -= 1
                if not self.inside:
                    self.before.close()


quiet = Quiet()


def complaint(file: IO[bytes], what: str) -> str:
    """Why a file is not one of the formats that are read."""
    file.seek(0)
    head = file.read(1024)
    advice = f"expected one of {', '.join(FORMATS)}; convert it, for example to PNG"
    if not head:
        return f"{what} is empty (0 bytes); {advice}"
    for mark, name in FOREIGN.items():
        if mark in head.lower() or mark in head:
            return f"{what} is {name}, which is not supported; {advice}"
    if all(byte >= 32 or byte in b"\t\r\n\f" for byte in head):
        return f"{what} is text, not a picture; {advice}"
    return f"{what} is damaged or not a picture of a known format; {advice}"


def settle(image: Image.Image, what: str) -> Image.Image:
    """The decoded, upright RGB form of an opened image."""
    width, height = image.size
    if min(width, height) < 1:
        raise BadPicture(f"{what} has no area ({width} x {height} pixels); give a picture with at least one pixel")
    if width * height > LIMIT:
        raise BadPicture(
            f"{what} has {width} x {height} pixels, the limit is {LIMIT // 10**6} megapixels; make it smaller first"
        )
    try:
        image.load()
    except BROKEN as error:
        raise BadPicture(f"{what} is damaged or cut short: {error}; get it again from its source") from error
    return to_rgb(upright(image), what)


def upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation says; as stored where the EXIF data cannot be read."""
    try:
        return ImageOps.exif_transpose(image)
    except BROKEN:
        return image


def to_rgb(image: Image.Image, what: str) -> Image.Image:
    """Any mode to RGB; transparency becomes white."""
    try:
        if image.mode in ("I", "F") or image.mode.startswith("I;16"):
            return Image.fromarray(eight_bit(np.asarray(image), what)).convert("RGB")
        if image.mode in ALPHA or "transparency" in image.info:
            layer = image.convert(ALPHA.get(image.mode, "RGBA")).convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", image.size, "white"), layer).convert("RGB")
        return image.convert("RGB")
    except (ValueError, OSError) as error:
        raise BadPicture(f"{what} has colour mode {image.mode}, which has no way to RGB; convert it to RGB") from error


def from_array(array: np.ndarray[Any, Any]) -> Image.Image:
    """(H, W), (H, W, 1), (H, W, 3) or (H, W, 4), numbers as in `eight_bit`."""
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        advice = "; move the channels last" if array.ndim == 3 and array.shape[0] in (1, 3, 4) else ""
        raise BadPicture(f"expected an array (height, width) or (height, width, 1, 3 or 4), got {array.shape}{advice}")
    if array.size == 0 or array.shape[0] * array.shape[1] > LIMIT:
        raise BadPicture(f"expected an array of 1 to {LIMIT} pixels, got {array.shape[0]} x {array.shape[1]}")
    values = eight_bit(array, "the array")
    return Image.fromarray(values[..., 0] if values.shape[2:] == (1,) else values)


def eight_bit(values: np.ndarray[Any, Any], what: str) -> np.ndarray[Any, Any]:
    """Numbers as 0 ... 255: uint16 / 257; bool, and floats up to 1, times 255; other numbers by their range."""
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind not in "buif":
        raise BadPicture(f"{what} holds {values.dtype}; expected numbers, best uint8 from 0 to 255")
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 65535 and (values.dtype.kind != "f" or high <= 255)):  # nan fails too
        top = 255 if values.dtype.kind == "f" else 65535
        raise BadPicture(f"{what} holds values from {low:g} to {high:g}; expected 0 to {top}: scale them first")
    if values.dtype.kind == "b" or (values.dtype.kind == "f" and high <= 1):
        scale = 255.0
    else:
        scale = 1 / 257 if high > 255 or (values.dtype.itemsize == 2 and values.dtype.kind == "u") else 1.0
    return np.rint(values.astype(np.float64) * scale).astype(np.uint8)
