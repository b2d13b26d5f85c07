"""From a sound to what a network expects, laid out as a picture, and where in time and pitch its tokens lie.

Frequencies are the rows of that picture, from the lowest up as networks have them, and time its columns. Networks that
read samples, or all frequencies at once, get a picture of one row.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Generator, Tensor, nn

from gradtoken.axes import Axes
from gradtoken.errors import BadModel, BadSound
from gradtoken.folded import AsPicture
from gradtoken.models.extras import need
from gradtoken.models.sounds import Sound
from gradtoken.models.spectra import KINDS, Kind

Step = tuple[int, int]  # kernel and stride of a convolution
Array = NDArray[Any]
SIZE = 640, 256  # width and height of the picture of a spectrogram
UNBOUNDED = 60  # seconds that a network without a limit of its own is given


@dataclass(frozen=True, eq=False)
class Heard:
    """A sound as its network reads it.

    pixels: (C, H, W). picture: the spectrogram of the sound, without padding. axes: its sides. length: how many
    columns of pixels are the sound. covered: rows and columns of pixels that the tokens cover together.
    """

    pixels: Tensor
    picture: Image.Image
    axes: Axes
    length: int
    covered: tuple[int, int]
    note: str

    def shown(self, values: Array) -> dict[str, Any]:
        """Of a map (rows, columns) what an explanation shows: the sound without padding, high frequencies on top.

        Patches that overlap share what they cover: cells are as large, and each lies inside its own patch.
        """
        rows, columns = self.pixels.shape[-2:] if values.shape == self.pixels.shape[-2:] else self.covered
        pitch = columns / values.shape[1]
        kept = min(values.shape[1], max(1, math.ceil(self.length / pitch - 1e-9)))
        width, height = self.picture.size
        top = height * (1 - rows / self.pixels.shape[-2])
        box = (0.0, top, kept * pitch / self.length * width, float(height))
        return {
            "relevance": values[::-1, :kept],
            "picture": self.picture,
            "box": box,
            "axes": replace(self.axes, beyond=share_beyond(values, kept)),
        }


def share_beyond(values: Array, kept: int) -> float:
    """Share of the magnitudes of a map that are in its columns from `kept` on."""
    whole = float(np.abs(values, dtype=np.float64).sum())
    return float(np.abs(values[:, kept:], dtype=np.float64).sum()) / whole if whole else 0.0


@dataclass(frozen=True, eq=False)
class Listen:
    """How sounds are prepared. extractor: a feature extractor of transformers.

    steps: the convolutions that make tokens of rows, and those that make them of columns.
    """

    extractor: Any
    steps: tuple[Sequence[Step], Sequence[Step]]

    @classmethod
    def of(cls, net: nn.Module, extractor: Any) -> "Listen":
        """For a classifier with its feature extractor. Raises BadModel where these do not belong together."""
        name = type(extractor).__name__
        if name not in KINDS:
            raise BadModel(
                f"{type(net).__name__} prepares sounds with {name}, which is not one of {', '.join(KINDS)}; "
                "classifiers like AST, wav2vec 2.0 or Whisper's are read"
            )
        kind, config = KINDS[name], net.config
        kind.check(config, extractor)
        return cls(extractor, kind.steps(config))

    @property
    def kind(self) -> Kind:
        """What is known of the extractor."""
        return KINDS[type(self.extractor).__name__]

    @property
    def rate(self) -> int:
        """Samples a second."""
        return int(self.extractor.sampling_rate)

    def wrapped(self, net: nn.Module) -> AsPicture:
        """The network, called with `Heard.pixels`."""
        return AsPicture(net, self.extractor.model_input_names[0], self.kind.unfold)

    def __call__(self, sound: Sound) -> Heard:
        """At the rate of the network; what is longer than it reads is cut off."""
        samples, notes = resampled(sound, self.rate), [sound.note]
        least, most = self.least, self.kind.most(self.extractor) or UNBOUNDED * self.rate
        if len(samples) < least:
            raise BadSound(
                f"the sound lasts {sound.seconds:.3g} s, of which this model makes no token; expected at least "
                f"{least / self.rate:.3g} s"
            )
        if sound.rate != self.rate:
            notes.append(f"resampled from {sound.rate:,} to {self.rate:,} Hz")
        if max(sound.seconds * self.rate, len(samples)) > most + 1:
            notes.append(f"the first {most / self.rate:.4g} of {sound.seconds:.4g} s were read")
        spectrum = self.kind.hear(self.extractor, samples[:most])
        covered = tuple(reach(s, n) for s, n in zip(self.steps, spectrum.pixels.shape[-2:], strict=True))
        return Heard(
            spectrum.pixels,
            drawn(spectrum.shown, spectrum.cut),
            Axes(spectrum.seconds, tuple(spectrum.hertz[::-1])),
            spectrum.length,
            (covered[0], covered[1]),
            "; ".join(filter(None, notes)),
        )

    def noise(self, generator: Generator) -> Tensor:
        """A second of noise as the network reads it. (1, C, H, W)"""
        samples = 0.1 * torch.randn(self.rate, generator=generator, device="cpu")
        return self(Sound(samples.numpy().astype(np.float32), self.rate, 1.0)).pixels[None]

    @property
    def least(self) -> int:
        """Samples of which two tokens are made, or a frame."""
        return max(self.kind.least, needed(self.steps[1]) if self.kind.least == 0 else 0)

    def describe(self) -> dict[str, Any]:
        """All settings as JSON values."""
        found = self.extractor.to_dict()
        plain = {name: value for name, value in found.items() if isinstance(value, str | int | float | bool)}
        return {"feature_extractor_type": type(self.extractor).__name__} | plain


def reach(steps: Sequence[Step], length: int) -> int:
    """How many of `length` entries are read by what a row of convolutions without padding makes of them."""
    count = length
    for kernel, stride in steps:
        count = (count - kernel) // stride + 1
    return needed(steps, count)


def needed(steps: Sequence[Step], count: int = 2) -> int:
    """Of how many entries a row of convolutions makes `count`."""
    for kernel, stride in reversed(steps):
        count = (count - 1) * stride + kernel
    return count


def resampled(sound: Sound, rate: int) -> NDArray[np.float32]:
    """Samples at another rate, by soxr's band-limited interpolation."""
    if sound.rate == rate:
        return sound.samples
    found: NDArray[np.float32] = need("soxr", "audio").resample(sound.samples, sound.rate, rate)
    return found


def drawn(spectrum: NDArray[np.float64], cut: tuple[float, float]) -> Image.Image:
    """A spectrogram (bins, frames), from its smallest to its largest value; low frequencies at the bottom.

    cut: frames at the left and the right edge.
    """
    low, high = float(spectrum.min()), float(spectrum.max())
    grey = np.rint((spectrum[::-1] - low) / (high - low or 1.0) * 255).astype(np.uint8)
    box = (cut[0], 0, min(cut[1], grey.shape[1]), grey.shape[0])
    return Image.fromarray(grey).resize(SIZE, Image.Resampling.BICUBIC, box=box).convert("RGB")
