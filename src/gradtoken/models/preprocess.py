"""From a picture to the tensor a network expects, and where on the picture that tensor lies."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gradtoken.errors import BadModel, BadPicture
from gradtoken.models.pictures import LIMIT, open_picture

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}
CHOICES = {
    "resize": ("squash", "shortest", "longest", "none"),
    "interpolation": tuple(FILTERS),
    "rounding": ("floor", "round"),
    "centre": ("floor", "round"),
}


@dataclass(frozen=True)
class View:
    """pixels: (3, H, W) float32. box: x0, y0, x1, y1 of what they show, in pixels of the picture.

    The box exceeds the picture where it was padded, and is smaller where it was cropped.
    """

    pixels: Tensor
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Preprocess:
    """Resize to `resize_to`, crop or pad to `size` about the centre, (pixel * scale - mean) / std.

    size, resize_to: (height, width).
    resize: both sides ("squash"), the shorter ("shortest") or the longer side ("longest") as in `resize_to`; or "none".
    fill: colour of padding, 0 to 255.
    rounding: of the side that keeps the aspect; centre: of the crop's corner. Libraries differ by a pixel here.
    """

    size: tuple[int, int]
    resize_to: tuple[int, int] | None = None  # None: as `size`
    resize: str = "squash"
    interpolation: str = "bicubic"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    scale: float = 1 / 255
    fill: tuple[int, int, int] = (0, 0, 0)
    rounding: str = "floor"
    centre: str = "round"

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise BadModel(f"preprocessing: {name}={getattr(self, name)!r}; expected one of {', '.join(choices)}")
        for name, length in (("size", 2), ("resize_to", 2), ("mean", 3), ("std", 3), ("fill", 3)):
            values = getattr(self, name)
            if values is not None and not (len(values) == length and all(map(math.isfinite, values))):
                raise BadModel(f"preprocessing: {name}={values!r}; expected {length} numbers")
        if min(self.size + (self.resize_to or self.size)) < 1 or min(self.std) <= 0 or self.scale <= 0:
            raise BadModel(f"preprocessing: sizes, std and scale must be above zero, got {self}")

    def __call__(self, image: Image.Image) -> View:
        """The tensor of an upright RGB picture (other modes are converted), and its box."""
        image = image if image.mode == "RGB" else open_picture(image)
        width, height = image.size
        rows, columns = self.resized(height, width)
        if min(rows, columns) < 1 or rows * columns > LIMIT:
            raise BadPicture(
                f"a picture of {width} x {height} pixels would be resized to {columns} x {rows} by this model's "
                "preprocessing; crop it to a less extreme shape first"
            )
        top, left = self.offset(rows, self.size[0]), self.offset(columns, self.size[1])
        canvas = Image.new("RGB", (self.size[1], self.size[0]), self.fill)
        canvas.paste(image.resize((columns, rows), FILTERS[self.interpolation]), (-left, -top))
        x, y = width / columns, height / rows  # pixels of the picture per pixel of the resized one
        box = (left * x, top * y, (left + self.size[1]) * x, (top + self.size[0]) * y)
        return View(self.normalised(canvas), box)

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns after resizing, before cropping."""
        rows, columns = self.resize_to or self.size
        if self.resize == "squash":
            return rows, columns
        if self.resize == "none":
            return height, width
        if self.resize == "shortest" and rows == columns and self.rounding == "floor":
            return (rows, int(rows * width / height)) if height <= width else (int(rows * height / width), rows)
        ratio = (min if self.resize == "shortest" else max)(height / rows, width / columns)
        whole = round if self.rounding == "round" else int
        return whole(height / ratio), whole(width / ratio)

    def offset(self, have: int, want: int) -> int:
        """Where the crop of `want` begins within `have` pixels; negative where it is padded."""
        if self.centre == "floor":
            return (have - want) // 2
        return -((want - have) // 2) if have < want else round((have - want) / 2)

    def normalised(self, image: Image.Image) -> Tensor:
        """(pixel * scale - mean) / std. (3, H, W) float32"""
        values = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        pixels = (values.double() * self.scale).float()
        mean, std = (pixels.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        return ((pixels - mean) / std).contiguous()

    def describe(self) -> dict[str, Any]:
        """All settings as JSON values, for the record of how a map was made."""
        values = asdict(self) | {"resize_to": self.resize_to or self.size}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
