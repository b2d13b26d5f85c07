"""A sound from wherever it is, or a refusal that says what is wrong with it."""

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from gradtoken.errors import BadSound
from gradtoken.models.extras import need

LONGEST = 600  # seconds that are decoded; far more than any classifier reads
RATES = 1_000, 1_000_000  # samples a second
LOUDEST = 32  # times full scale, from which numbers are no samples from -1 to 1
FORMATS = "wav, flac, ogg, mp3, aiff or another format of libsndfile"

Samples = NDArray[np.float32]
Source = str | os.PathLike[str] | bytes | IO[bytes] | tuple[Any, float]


@dataclass(frozen=True, eq=False)
class Sound:
    """samples: (n,), full scale is from -1 to 1. rate: samples a second. seconds: of all of it, decoded or not.

    note: what was done to it, or "".
    """

    samples: Samples
    rate: int
    seconds: float
    note: str = ""


def open_sound(source: Any) -> Sound:
    """One channel from a path, bytes, a binary file or (samples, rate), with samples (n,) or (n, channels)."""
    if is_samples(source):
        samples, rate = source
        return mono(samples, rate, "the samples")
    if isinstance(source, bytes | bytearray | memoryview):
        return decoded(io.BytesIO(source), f"the {len(source)} bytes given")
    if isinstance(source, str | os.PathLike):
        return of_file(Path(source))
    if hasattr(source, "read"):
        content = source.read()
        if isinstance(content, bytes):
            return decoded(io.BytesIO(content), "the open file")
    raise BadSound(
        "expected a sound as a path, bytes, a binary file or a pair (samples, samples a second), got "
        f"{type(source).__name__}"
    )


def is_samples(source: Any) -> bool:
    """Whether this is a pair (samples, samples a second)."""
    return isinstance(source, tuple) and len(source) == 2 and isinstance(source[1], int | float | np.number)


def of_file(path: Path) -> Sound:
    """The sound in a file."""
    what = repr(str(path))
    try:
        if path.exists() and not path.is_file():
            raise BadSound(f"{what} is a folder or a device, not a sound; name a file")
        with open(path, "rb") as file:
            return decoded(file, what)
    except FileNotFoundError as error:
        raise BadSound(f"no file {what}; check the name and the folder ({Path.cwd()})") from error
    except (OSError, ValueError) as error:
        raise BadSound(f"{what} cannot be opened: {error}") from error


def decoded(file: IO[bytes], what: str) -> Sound:
    """What libsndfile reads."""
    soundfile = need("soundfile", "audio")
    if not file.read(1):
        raise BadSound(f"{what} is empty (0 bytes); expected {FORMATS}")
    file.seek(0)
    try:
        with soundfile.SoundFile(file) as opened:
            rate, total = opened.samplerate, opened.frames
            samples = opened.read(min(total, LONGEST * rate), dtype="float32")
    except (soundfile.SoundFileError, TypeError, OverflowError, MemoryError) as error:  # some need more than a file
        raise BadSound(f"{what} is no sound that can be read ({error}); expected {FORMATS}") from error
    return mono(samples, rate, what, total)


def mono(samples: Any, rate: float, what: str, total: int | None = None) -> Sound:
    """Samples (n,) or (n, channels) as one channel from -1 to 1. total: how many there are with those not decoded."""
    values = np.asarray(samples)
    if values.ndim == 2 and values.shape[0] < values.shape[1]:
        values = values.T  # channels came first
    if values.ndim not in (1, 2) or values.dtype.kind not in "fiu":
        raise BadSound(f"expected {what} as numbers (n,) or (n, channels), got {values.dtype} of shape {values.shape}")
    if not RATES[0] <= rate <= RATES[1] or rate != int(rate):
        raise BadSound(f"expected {RATES[0]:,} to {RATES[1]:,} samples a second, a whole number, got {rate!r}")
    if not values.size:
        raise BadSound(f"{what}: there is no sample in it; expected a sound of at least some hundredths of a second")
    channels = values.reshape(len(values), -1)
    mixed = full_scale(channels[: LONGEST * int(rate)], what).mean(axis=1, dtype=np.float64).astype(np.float32)
    notes = [f"mixed down from {channels.shape[1]} channels"] if channels.shape[1] > 1 else []
    notes += [] if mixed.any() else ["silent"]
    return Sound(mixed, int(rate), (total or len(values)) / rate, "; ".join(notes))


def full_scale(values: NDArray[Any], what: str) -> NDArray[np.float32]:
    """Finite samples from -1 to 1; whole numbers are divided by the largest that their type holds."""
    if values.dtype.kind in "iu":
        half = 2.0 ** (8 * values.dtype.itemsize - 1)
        return (values.astype(np.float64) / half - (values.dtype.kind == "u")).astype(np.float32)
    bad = ~np.isfinite(values)
    if bad.any():
        first = int(bad.any(axis=1).argmax())
        raise BadSound(
            f"{what}: {int(bad.sum()):,} samples are NaN or infinite, the first is number {first}; mend them"
        )
    loudest = float(np.abs(values).max())
    if loudest > LOUDEST:
        raise BadSound(f"{what}: samples reach {loudest:.3g}; expected -1 to 1, divide them by full scale (2**15 ...)")
    return values.astype(np.float32)
