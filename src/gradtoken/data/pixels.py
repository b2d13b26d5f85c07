"""Pictures whose truth was made on the pixels as they are stored."""

from pathlib import Path

from PIL import ExifTags, Image

from gradtoken.errors import BadPicture
from gradtoken.models.pictures import BROKEN, open_picture, quiet

BACK = {  # EXIF orientation -> what undoes the turn that it asks for
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def as_stored(path: Path) -> Image.Image:
    """RGB picture without the turn its EXIF orientation asks for.

    Evaluations on ImageNet and PASCAL VOC commonly read pictures this way, and their boxes and masks fit it.
    """
    picture = open_picture(path)
    turn = orientation(path)
    return picture.transpose(BACK[turn]) if turn in BACK else picture


def orientation(path: Path) -> int:
    """The EXIF orientation, 1 where there is none or it cannot be read."""
    try:
        with quiet(), Image.open(path) as image:
            return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except FileNotFoundError as error:
        raise BadPicture(f"{str(path)!r} went away while it was read") from error
    except BROKEN:
        return 1
