import io
import os
import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gradtoken.errors import BadPicture
from gradtoken.models import pictures
from gradtoken.models.pictures import find_pictures, open_picture


@pytest.fixture
def picture() -> Image.Image:
    blocks = np.random.default_rng(0).integers(0, 256, (6, 10, 3))
    return Image.fromarray(np.kron(blocks, np.ones((8, 8, 1))).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def same(a: Image.Image, b: Image.Image) -> bool:
    return a.mode == b.mode == "RGB" and a.size == b.size and a.tobytes() == b.tobytes()


def png_header(width: int, height: int) -> bytes:
    """A PNG file that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


def test_every_kind_of_source_gives_the_same_picture(picture, tmp_path):
    path = tmp_path / "a.png"
    picture.save(path)
    data = path.read_bytes()
    with open(path, "rb") as file:
        assert same(open_picture(file), picture)
    for source in (path, str(path), data, bytearray(data), io.BytesIO(data), picture, np.asarray(picture)):
        assert same(open_picture(source), picture)


@pytest.mark.parametrize("kind", ["BMP", "PNG", "PPM", "TIFF", "WEBP"])
def test_lossless_formats(picture, kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    assert same(open_picture(encoded(picture, kind, **options)), picture)


@pytest.mark.parametrize("kind", ["JPEG", "GIF", "JPEG2000", "AVIF"])
def test_other_formats(picture, kind):
    if kind == "AVIF":
        pytest.importorskip("PIL._avif", reason="this Pillow was built without AVIF")
    out = open_picture(encoded(picture, kind))
    assert (out.mode, out.size) == ("RGB", picture.size)
    assert np.abs(np.asarray(out, float) - np.asarray(picture)).mean() < 25


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_not_clipped(kind):
    values = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    out = open_picture(encoded(Image.fromarray(values), kind))
    assert out.mode == "RGB"
    assert (np.asarray(out)[..., 0].ravel() == np.arange(256)).all()


def test_sixteen_bit_pgm():
    values = np.arange(0, 65536, 257, dtype=">u2")
    out = open_picture(b"P5 16 16 65535\n" + values.tobytes())
    assert (np.asarray(out)[..., 0].ravel() == np.arange(256)).all()


@pytest.mark.parametrize("top", [1.0, 255.0])
def test_float_pictures(top):
    values = np.linspace(0, top, 256, dtype=np.float32).reshape(16, 16)
    for source in (encoded(Image.fromarray(values), "TIFF"), values):
        assert (np.asarray(open_picture(source))[..., 1].ravel() == np.arange(256)).all()


@pytest.mark.parametrize("values", [[[0.0, np.nan]], [[0.0, 256.5]], [[-1.0, 1.0]]])
def test_floats_out_of_range(values):
    with pytest.raises(BadPicture, match=r"holds values from .* expected 0 to 255"):
        open_picture(np.array(values, dtype=np.float32))


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV", "RGBX"])
def test_modes_without_transparency(picture, mode):
    converted = picture.convert(mode)
    assert same(open_picture(converted), converted.convert("RGB"))


@pytest.mark.parametrize("mode", ["LA", "RGBA", "La", "RGBa", "PA"])
def test_transparent_is_white(mode):
    alpha = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    alpha.putpixel((1, 0), (10, 10, 10, 255))
    route = {"La": ["LA", "La"], "PA": ["P", "PA"]}.get(mode, [mode])
    image = alpha
    for step in route:
        image = image.convert(step)
    if mode == "PA":
        image.putalpha(Image.fromarray(np.array([[0, 255]], np.uint8)))
    assert np.asarray(open_picture(image)).tolist() == [[[255] * 3, [10] * 3]]


def test_half_transparent_is_blended_with_white():
    assert np.asarray(open_picture(Image.new("RGBA", (1, 1), (0, 0, 0, 51)))).tolist() == [[[204] * 3]]


def test_palette_and_key_colour_transparency():
    palette = Image.new("P", (2, 1))
    palette.putpalette([200, 0, 0, 0, 200, 0])
    palette.putpixel((1, 0), 1)
    for transparency in (0, b"\x00\xff"):
        out = open_picture(encoded(palette, "PNG", transparency=transparency))
        assert np.asarray(out).tolist() == [[[255] * 3, [0, 200, 0]]]
    rgb = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
    out = open_picture(encoded(rgb, "PNG", transparency=(1, 2, 3)))
    assert np.asarray(out).tolist() == [[[255] * 3, [4, 5, 6]]]


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_exif_orientation_is_applied(picture, turn, kind):
    exif = Image.Exif()
    exif[0x0112] = turn
    out = open_picture(encoded(picture, kind, exif=exif))
    assert out.size == (picture.size if turn < 5 else picture.size[::-1])
    assert out.getexif().get(0x0112, 1) == 1  # or it would be turned twice
    if kind == "PNG":
        undo = [None, 0, 3, 1, 5, 4, 6, 2][turn - 1]  # Image.Transpose codes
        expected = picture if undo is None else picture.transpose(Image.Transpose(undo))
        assert same(out, expected)


def test_damaged_exif_does_not_matter(picture):
    out = open_picture(encoded(picture, "PNG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff garbage"))
    assert same(out, picture)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_animation_gives_the_first_frame(kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert np.asarray(open_picture(data))[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000"])
def test_truncated_is_an_error_never_half_a_picture(picture, kind, tmp_path):
    data = encoded(picture, kind)
    path = tmp_path / "cut.img"
    for part in (0.05, 0.3, 0.5, 0.8, 0.95):
        path.write_bytes(data[: int(len(data) * part)])
        with pytest.raises(BadPicture, match=r"cut\.img' (is damaged|is text)"):
            open_picture(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"x\.jpg' is empty \(0 bytes\)"),
        (b"hello, world\n" * 9, r"x\.jpg' is text, not a picture; expected one of .*PNG"),
        (b"<?xml version='1.0'?><svg xmlns='x'></svg>", r"is an SVG drawing, which is not supported"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is a HEIC picture, which is not supported; .*convert it"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "is a video"),
        (b"%PDF-1.7 \xff\xff", "is a PDF document"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is a PostScript drawing"),
        (bytes(range(256)) * 4, "is damaged or not a picture of a known format"),
        (png_header(0, 5), "is damaged|has no area"),
    ],
)
def test_what_is_not_a_picture(tmp_path, content, message):
    path = tmp_path / "x.jpg"
    path.write_bytes(content)
    with pytest.raises(BadPicture, match=message):
        open_picture(path)


@pytest.mark.parametrize(("width", "height"), [(10_001, 10_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_decompression_bombs_are_refused_without_decoding(tmp_path, width, height):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(width, height))
    before = Image.MAX_IMAGE_PIXELS
    with pytest.raises(BadPicture, match=r"bomb\.png' .*the limit is 100 megapixels|bomb\.png' is damaged"):
        open_picture(path)
    assert before == Image.MAX_IMAGE_PIXELS


def test_the_limit_itself(monkeypatch):
    monkeypatch.setattr(pictures, "LIMIT", 12)
    assert open_picture(np.zeros((3, 4), np.uint8)).size == (4, 3)
    with pytest.raises(BadPicture, match=r"expected an array of 1 to 12 pixels, got 13 x 1"):
        open_picture(np.zeros((13, 1), np.uint8))
    with pytest.raises(BadPicture, match=r"the Pillow image has 13 x 1 pixels"):
        open_picture(Image.new("RGB", (13, 1)))


def test_a_large_picture_below_the_limit_gives_no_warning(tmp_path):
    path = tmp_path / "large.png"
    Image.new("1", (10_000, 9_500)).save(path)  # Pillow itself warns from 89.5 megapixels on
    assert open_picture(path).size == (10_000, 9_500)


@pytest.mark.parametrize("shape", [(0, 4, 3), (4, 0)])
def test_arrays_without_area(shape):
    with pytest.raises(BadPicture, match=r"expected an array of 1 to"):
        open_picture(np.zeros(shape, np.uint8))


def test_images_without_area():
    with pytest.raises(BadPicture, match=r"has no area \(0 x 4 pixels\)"):
        open_picture(Image.new("RGB", (0, 4)))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 8, 8), np.uint8), r"got \(3, 8, 8\); move the channels last"),
        (np.zeros((8, 8, 2), np.uint8), r"got \(8, 8, 2\)$"),
        (np.zeros(8, np.uint8), r"got \(8,\)"),
        (np.array([["a"]]), "holds <U1; expected numbers"),
        (np.array([[-1, 3]]), "holds values from -1 to 3; expected 0 to 65535"),
    ],
)
def test_arrays_that_are_no_pictures(array, message):
    with pytest.raises(BadPicture, match=message):
        open_picture(array)


@pytest.mark.parametrize(
    ("array", "first"),
    [
        (np.array([[True, False]]), 255),
        (np.full((2, 2, 1), 7, np.int64), 7),
        (np.full((2, 2), 257, np.uint16), 1),
        (np.full((2, 2, 4), [0, 0, 0, 0], np.uint8), 255),
    ],
)
def test_arrays_of_other_numbers(array, first):
    assert np.asarray(open_picture(array))[0, 0].tolist() == [first] * 3


def test_names_that_cannot_be_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, message in [
        (tmp_path / "none.png", r"no file '.*none\.png'; check"),
        (tmp_path, "is a folder, not a picture"),
        (tmp_path / "pipe", "is a device or a pipe"),
        ("a\0b.png", "null byte"),
        ("x" * 5000, "cannot be opened: .*File name too long"),
        ("https://example.org/cat.png", "is an address, not a file"),
    ]:
        with pytest.raises(BadPicture, match=message):
            open_picture(name)


def test_unreadable_file(tmp_path, picture):
    path = tmp_path / "locked.png"
    picture.save(path)
    path.chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        with pytest.raises(BadPicture, match=r"permission denied"):
            open_picture(path)
    finally:
        if root:
            os.seteuid(0)


def test_things_that_are_no_source():
    with pytest.raises(BadPicture, match=r"expected a picture as a path, .*got int"):
        open_picture(3)
    with pytest.raises(BadPicture, match=r"opened in binary mode, its read.. gave str"):
        open_picture(io.StringIO("text"))


def test_threads_leave_the_warning_filters_alone(picture):
    data = encoded(picture, "PNG")
    before = list(warnings.filters)
    threads = [threading.Thread(target=lambda: [open_picture(data) for _ in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before


@pytest.fixture
def tree(tmp_path) -> Path:
    names = ["b.png", "a.JPG", "sub/c.webp", "sub/deep/d.tiff", "notes.txt", ".hidden.png", ".git/e.png", "x [1].png"]
    for name in [*names, "set [2]/f.png", "-dash.png", "new\nline.png", "ünï côdé.png"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def names(paths: list[Path], root: Path) -> list[str]:
    return [str(path.relative_to(root)) for path in paths]


def test_folders_are_searched_by_suffix_and_sorted(tree):
    assert names(find_pictures([tree]), tree) == [
        *("-dash.png", "a.JPG", "b.png", "new\nline.png", "x [1].png", "ünï côdé.png"),
        *("set [2]/f.png", "sub/c.webp", "sub/deep/d.tiff"),
    ]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.png", ["-dash.png", "b.png", "new\nline.png", "x [1].png", "ünï côdé.png"]),
        ("**/*.webp", ["sub/c.webp"]),
        ("[ab].*", ["a.JPG", "b.png"]),
        ("x [1].png", ["x [1].png"]),
        ("set [2]/*.png", ["set [2]/f.png"]),
        ("set [2]", ["set [2]/f.png"]),
        ("s*", ["set [2]/f.png", "sub/c.webp", "sub/deep/d.tiff"]),
        ("new\nline.png", ["new\nline.png"]),
        ("-dash.png", ["-dash.png"]),
        ("ünï*", ["ünï côdé.png"]),
        ("notes.txt", ["notes.txt"]),
    ],
)
def test_patterns(tree, monkeypatch, pattern, expected):
    assert names(find_pictures([f"{tree}/{pattern}"]), tree) == expected
    monkeypatch.chdir(tree)
    assert [str(path) for path in find_pictures([pattern])] == expected


def test_order_is_kept_and_nothing_is_listed_twice(tree):
    assert names(find_pictures([tree / "sub", tree / "b.png", tree / "sub/*.webp"]), tree) == [
        *("sub/c.webp", "sub/deep/d.tiff", "b.png"),
    ]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("none.png", "there is no file or folder '.*none.png'"),
        ("*.xyz", r"no picture matches '.*\*\.xyz'"),
        ("*.txt", r"no picture matches '.*\*\.txt'"),
        ("empty", "the folder '.*empty' holds no picture; expected files in .*png"),
        ("a\0b", "there is no file or folder|cannot be searched"),
    ],
)
def test_nothing_found_names_the_pattern(tree, pattern, message):
    (tree / "empty").mkdir()
    with pytest.raises(BadPicture, match=message):
        find_pictures([tree / "b.png", f"{tree}/{pattern}"])


def test_an_empty_name_is_not_the_current_folder(tree, monkeypatch):
    monkeypatch.chdir(tree)
    with pytest.raises(BadPicture, match=r"there is no file or folder ''"):
        find_pictures([""])


def test_a_locked_folder_is_an_error(tree):
    (tree / "sub").chmod(0)
    root = os.geteuid() == 0
    tree.chmod(0o755)
    if root:
        os.seteuid(65534)
    try:
        with pytest.raises(BadPicture, match=r"cannot be searched: .*Permission denied"):
            find_pictures([tree / "sub"])
    finally:
        if root:
            os.seteuid(0)
        (tree / "sub").chmod(0o755)
