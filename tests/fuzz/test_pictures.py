"""Pictures that are damaged, cut short, larger than they are, or of rare kinds."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image, ImageSequence

from gradtoken.errors import BadPicture
from gradtoken.models.pictures import LIMIT, open_picture
from tests.asking import ask, examples
from tests.fuzz.damage import damaged
from tests.fuzz.outcomes import expected_right, tried

PIXELS = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 20, 3), np.uint8))


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(PIXELS, "JPEG", exif=exif)


def several(form: str) -> bytes:
    """An animation of three frames."""
    frames = [PIXELS.rotate(90 * i) for i in range(3)]
    return saved(frames[0], form, save_all=True, append_images=frames[1:], duration=50)


def sixteen(form: str) -> bytes:
    return saved(Image.fromarray(np.arange(480, dtype=np.uint16).reshape(24, 20) * 130), form)


SEEDS = {
    "PNG": saved(PIXELS, "PNG"),
    "PNG palette": saved(PIXELS.convert("P"), "PNG", transparency=3),
    "PNG grey and alpha": saved(PIXELS.convert("LA"), "PNG"),
    "PNG 16 bit": sixteen("PNG"),
    "PNG 1 bit": saved(PIXELS.convert("1"), "PNG"),
    "JPEG": saved(PIXELS, "JPEG"),
    "JPEG CMYK": saved(PIXELS.convert("CMYK"), "JPEG"),
    "JPEG turned": turned(6),
    "GIF animated": several("GIF"),
    "WEBP animated": several("WEBP"),
    "PNG animated": several("PNG"),
    "WEBP": saved(PIXELS, "WEBP", lossless=True),
    "TIFF 16 bit": sixteen("TIFF"),
    "TIFF CMYK": saved(PIXELS.convert("CMYK"), "TIFF", compression="tiff_lzw"),
    "TIFF float": saved(PIXELS.convert("F"), "TIFF"),
    "BMP": saved(PIXELS, "BMP"),
    "PPM": saved(PIXELS, "PPM"),
    "JPEG2000": saved(PIXELS, "JPEG2000"),
    "AVIF": saved(PIXELS, "AVIF"),
}


def is_a_picture(picture: Image.Image) -> None:
    """Loaded, RGB, and not larger than what is let in."""
    with expected_right("pictures"):
        assert picture.mode == "RGB"
        assert 0 < picture.width * picture.height <= LIMIT
        assert np.asarray(picture).shape == (picture.height, picture.width, 3)


@examples(8, 400)
@pytest.mark.parametrize("kind", SEEDS)
def test_damaged(kind, count):
    def opened(content: bytes) -> None:
        picture = tried("pictures", lambda: open_picture(content))
        if picture is not None:
            is_a_picture(picture)

    ask(count, opened, damaged(SEEDS[kind]))


@pytest.mark.parametrize("kind", SEEDS)
def test_cut_short_anywhere_it_is_refused_or_whole(kind):
    content = SEEDS[kind]
    whole = np.asarray(open_picture(content))
    for end in {*range(0, min(len(content), 60)), *range(60, len(content), 1 + len(content) // 40)}:
        picture = tried("pictures", lambda end=end: open_picture(content[:end]))
        if picture is not None:
            with expected_right("pictures"):
                np.testing.assert_array_equal(np.asarray(picture), whole)


def with_header(width: int, height: int, depth: int, colours: int) -> bytes:
    """A PNG whose header says what it likes, with a right checksum."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0)
    return SEEDS["PNG"][:12] + header + struct.pack(">I", zlib.crc32(header)) + SEEDS["PNG"][33:]


SIDES = st.one_of(st.integers(0, 40), st.sampled_from([2**16, 10_001, 2**31 - 1, 2**31, 2**32 - 1]))


@examples(60, 1500)
def test_a_header_may_lie(count):
    def opened(width: int, height: int, depth: int, colours: int) -> None:
        picture = tried("pictures", lambda: open_picture(with_header(width, height, depth, colours)))
        if picture is not None:
            is_a_picture(picture)

    ask(count, opened, SIDES, SIDES, st.sampled_from([0, 1, 2, 4, 8, 16, 32]), st.sampled_from([0, 2, 3, 4, 6, 7]))


ARRAYS = st.tuples(
    st.lists(st.integers(0, 5), max_size=4).map(tuple),
    st.sampled_from(["?", "u1", "i1", "u2", "i4", "i8", "f2", "f4", "f8", "c8", "U3", "O", "M8[s]"]),
    st.sampled_from([0, 1, 255, 256, 65535, -1]),
)


@examples(60, 1500)
def test_arrays(count):
    def opened(drawn: tuple[tuple[int, ...], str, int]) -> None:
        shape, kind, value = drawn
        with np.errstate(all="ignore"):
            array = np.full(shape, value, dtype="i8").astype(kind)
        picture = tried("pictures", lambda: open_picture(array))
        if picture is not None:
            is_a_picture(picture)

    ask(count, opened, ARRAYS)


def test_an_animation_shows_its_first_frame():
    for kind in ("GIF animated", "WEBP animated", "PNG animated"):
        first = next(ImageSequence.Iterator(Image.open(io.BytesIO(SEEDS[kind])))).convert("RGB")
        np.testing.assert_array_equal(np.asarray(open_picture(SEEDS[kind])), np.asarray(first))


def test_a_bomb_in_a_text_chunk_is_refused_or_ignored():
    bomb = zlib.compress(b"\0" * 200_000_000, 9)
    chunk = b"zTXtbomb\0\0" + bomb
    content = SEEDS["PNG"][:33] + struct.pack(">I", len(chunk) - 4) + chunk
    content += struct.pack(">I", zlib.crc32(chunk)) + SEEDS["PNG"][33:]
    with pytest.raises(BadPicture, match="damaged or"):
        open_picture(content)
