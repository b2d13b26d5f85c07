"""Boxes from annotation files in the form of PASCAL VOC, which ImageNet uses too."""

import math
from pathlib import Path
from xml.etree import ElementTree

from gradtoken.data.reading import text_of
from gradtoken.data.sample import Boxes
from gradtoken.errors import BadSample

TOLERANCE = 0.02  # of width : height between the picture and the one its annotation was made on


def read_boxes(path: Path, name: str, size: tuple[int, int], first: int = 0) -> Boxes:
    """Boxes of the objects called `name`; none is no error.

    size: (width, height) of the picture, to refuse an annotation of another shape; the fractions are of the size that
    the annotation states (or of this one where it states 0), since pictures are scaled after. first: number of the
    leftmost pixel, 1 in PASCAL VOC, where the last pixel belongs to the box.
    """
    root = parsed(path)
    width, height = (number(root, f"size/{key}", path) for key in ("width", "height"))
    if min(width, height) < 1:
        width, height = size
    if not abs(width * size[1] / (height * size[0]) - 1) <= max(TOLERANCE, 2 / min(size)):  # nor nan of vast numbers
        told = f"{width:g} x {height:g} pixels, this has {size[0]} x {size[1]}"
        raise BadSample(f"the annotation {str(path)!r} is of a picture of {told}")
    objects = [item for item in root.findall("object") if (item.findtext("name") or "").strip() == name]
    edges = [[number(item, f"bndbox/{key}", path) for key in ("xmin", "ymin", "xmax", "ymax")] for item in objects]
    return Boxes(tuple(((a - first) / width, (b - first) / height, c / width, d / height) for a, b, c, d in edges))


def parsed(path: Path) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(text_of(path))
    except ElementTree.ParseError as error:
        raise BadSample(f"the annotation {str(path)!r} is damaged: {error}") from error


def number(item: ElementTree.Element, where: str, path: Path) -> float:
    """The finite number at a place in an annotation."""
    text = item.findtext(where) or ""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadSample(f"the annotation {str(path)!r} says {text!r} where {where} should be a number")
    return value
