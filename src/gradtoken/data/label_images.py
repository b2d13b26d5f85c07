"""Label images: pictures whose numbers are classes, so that nothing may convert, turn or scale them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gradtoken.data.sample import VOID, Mask
from gradtoken.errors import BadSample
from gradtoken.models.pictures import BROKEN, LIMIT, quiet


def label_image(path: Path) -> np.ndarray[Any, Any]:
    """The numbers as stored, of a palette image the places in the palette. (H, W) or (H, W, channels), int32."""
    if not path.is_file():
        raise BadSample(f"there is no mask {str(path)!r}")
    try:
        with quiet(), Image.open(path, formats=["PNG", "TIFF", "BMP", "GIF"]) as image:
            if image.width * image.height > LIMIT:
                raise BadSample(f"the mask {str(path)!r} has more than {LIMIT // 10**6} megapixels")
            image.load()
            values = np.asarray(image)
    except BROKEN as error:
        raise BadSample(f"the mask {str(path)!r} is damaged or no PNG: {error}") from error
    if values.dtype.kind not in "bui":
        raise BadSample(f"the mask {str(path)!r} holds {values.dtype}; expected whole numbers")
    return values.astype(np.int32)


def one_channel(path: Path) -> np.ndarray[Any, Any]:
    """The numbers of a label image that has one a pixel. (H, W), int32."""
    values = label_image(path)
    if values.ndim != 2:
        raise BadSample(f"the mask {str(path)!r} has {values.shape[-1]} channels; expected one class number a pixel")
    return values


def renumbered(values: np.ndarray[Any, Any], table: Mapping[int, int]) -> Mask:
    """The mask in which each stored number is what the table says: 0 background, c + 1 for class c, VOID."""
    low, high = int(values.min()), int(values.max())
    stored = np.flatnonzero(np.bincount(values.ravel())).tolist() if low >= 0 and high < 1 << 16 else [low, high]
    if unknown := [number for number in stored if number not in table]:
        known = f"{len(table)} numbers from {min(table)} to {max(table)}" if len(table) > 8 else str(sorted(table))
        raise BadSample(f"the mask holds {unknown[0]}, which means nothing here; expected {known}")
    meaning = np.zeros(high + 1, dtype=np.int16)
    meaning[stored] = [table[number] for number in stored]
    return Mask(meaning[values])


def present(mask: Mask) -> tuple[int, ...]:
    """Classes that have at least one pixel."""
    counts = np.bincount(mask.values.ravel() - VOID)[1 - VOID :]
    return tuple(np.flatnonzero(counts).tolist())
