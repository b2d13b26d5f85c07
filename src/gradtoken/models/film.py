"""From a film to what a network expects, laid out as a picture (`gradtoken.folded`), and the moments of its tokens."""

from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Generator, Tensor, nn

from gradtoken.errors import BadModel
from gradtoken.folded import AsPicture, as_pictures, film_of, tubelet_of
from gradtoken.models.films import Film
from gradtoken.models.preprocess import Preprocess


@dataclass(frozen=True, eq=False)
class Watched:
    """A film as its network reads it. pixels: (tubelet * 3, moments * H, W). box: what it shows of each frame.

    frames: the first of each moment. numbers: of these in the film.
    """

    pixels: Tensor
    frames: tuple[Image.Image, ...]
    numbers: tuple[int, ...]
    box: tuple[float, float, float, float]
    note: str

    @property
    def picture(self) -> Image.Image:
        """What stands for the whole film."""
        return self.frames[0]

    def shown(self, values: NDArray[Any], moment: int = 0) -> dict[str, Any]:
        """The map of one moment as fields of an explanation. values: of all, (moments * rows, columns)"""
        rows = len(values) // len(self.frames)
        part = values[moment * rows : (moment + 1) * rows]
        return {"relevance": part, "picture": self.frames[moment], "box": self.box}


@dataclass(frozen=True)
class Watch:
    """How films are prepared: `count` frames, each by `frame`, `tubelet` of which make a token."""

    frame: Preprocess
    count: int
    tubelet: int

    @classmethod
    def of(cls, net: nn.Module, frame: Preprocess) -> "Watch":
        """For a classifier of films with the preprocessing of its frames."""
        tubelet, count = tubelet_of(net), getattr(net.config, "num_frames", 0)
        if not count or count % tubelet:
            raise BadModel(f"{type(net).__name__} reads {count} frames, {tubelet} to a token; expected a multiple")
        return cls(frame, count, tubelet)

    def wrapped(self, net: nn.Module) -> AsPicture:
        """The network, called with `Watched.pixels`."""
        return film_of(net, self.tubelet, self.count // self.tubelet)

    def __call__(self, film: Film) -> Watched:
        """The frames as one picture."""
        views = [self.frame(frame) for frame in film.frames]
        pixels = as_pictures(torch.stack([view.pixels for view in views])[None], self.tubelet)[0]
        note = f"{self.count} of {film.total} frames, {self.tubelet} to a map" if film.total else ""
        own = film.frames[:: self.tubelet], film.numbers[:: self.tubelet]
        return Watched(pixels, *own, views[0].box, note)

    def noise(self, generator: Generator) -> Tensor:
        """A film of noise as the network reads it. (1, C, H, W)"""
        clip = torch.randn(1, self.count, 3, *self.frame.size, generator=generator, device="cpu")
        return as_pictures(clip, self.tubelet)

    def describe(self) -> dict[str, Any]:
        """All settings as JSON values."""
        return {"frames": self.count, "tubelet": self.tubelet} | self.frame.describe()
