"""What transformers' feature extractors make of samples, as pictures; an extractor that is not here is refused."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gradtoken.errors import BadModel
from gradtoken.models.extras import need

Floats = NDArray[np.float64]
Samples = NDArray[np.float32]
Steps = tuple[Sequence[tuple[int, int]], Sequence[tuple[int, int]]]
FRAME, HOP = 400, 160  # samples of a frame and from one to the next: 25 and 10 ms at 16 kHz
BINS = 80  # of the spectrogram that is drawn for networks that read samples


class Spectrum(NamedTuple):
    """pixels: (C, H, W). length: columns of them that are the sound. shown: what is drawn, (bins, frames).

    hertz: of each bin, rising. cut: frames at the left and right edge of the drawing. seconds: likewise.
    """

    pixels: Tensor
    length: int
    shown: Floats
    hertz: Sequence[float]
    cut: tuple[float, float]
    seconds: tuple[float, float]


class Kind(NamedTuple):
    """What is known of an extractor, and of the classifiers that come with it.

    most, least: samples that are read; most 0 for no limit, least 0 where the convolutions decide. steps: kernels and
    strides that make tokens of rows and of columns. check: whether configuration and extractor fit each other.
    """

    hear: Callable[[Any, Samples], Spectrum]
    unfold: Callable[[Tensor], Tensor]
    most: Callable[[Any], int]
    least: int
    steps: Callable[[Any], Steps]
    check: Callable[[Any, Any], None]


def ast(extractor: Any, samples: Samples) -> Spectrum:
    """Patches of a log-mel spectrogram as Kaldi's, padded to a fixed number of frames. (1, bins, frames)"""
    x = extractor(samples, sampling_rate=extractor.sampling_rate, return_tensors="pt")["input_values"]
    length = 1 + (len(samples) - FRAME) // HOP
    hertz = mel_centres(x.shape[2], 20.0, extractor.sampling_rate / 2, "kaldi")
    start = (FRAME - HOP) / 2  # samples: frame i is in the middle of HOP * i + FRAME / 2
    seconds = start / extractor.sampling_rate, (start + HOP * length) / extractor.sampling_rate
    return Spectrum(x.mT, length, x[0, :length].T.double().numpy(), hertz, (0, length), seconds)


def whisper(extractor: Any, samples: Samples) -> Spectrum:
    """A log-mel spectrogram of fixed length, all of whose bins each token reads. (bins, 1, frames)"""
    x = extractor(samples, sampling_rate=extractor.sampling_rate, return_tensors="pt")["input_features"]
    hop, rate = extractor.hop_length, extractor.sampling_rate
    length = min(-(-len(samples) // hop), x.shape[2])
    hertz = mel_centres(x.shape[1], 0.0, 8000.0, "slaney")
    seconds = -hop / 2 / rate, (hop * length - hop / 2) / rate  # frame i is in the middle of hop * i
    return Spectrum(x[0, :, None], length, x[0, :, :length].double().numpy(), hertz, (0, length), seconds)


def waves(extractor: Any, samples: Samples) -> Spectrum:
    """The samples themselves. (1, 1, samples)"""
    rate = extractor.sampling_rate
    x = extractor(samples, sampling_rate=rate, return_tensors="pt")["input_values"]
    audio = need("transformers.audio_utils", "transformers")
    scale = {"mel_scale": "kaldi", "triangularize_in_mel_space": True}
    filters = audio.mel_filter_bank(FRAME + 1, BINS, 20.0, rate / 2, rate, **scale)
    window = audio.window_function(FRAME, "hann")
    settings = {"fft_length": 2 * FRAME, "power": 2.0, "mel_filters": filters, "log_mel": "dB", "db_range": 80.0}
    shown = audio.spectrogram(samples, window, FRAME, HOP, **settings)
    cut = 0.5, len(samples) / HOP + 0.5  # frame i is in the middle of HOP * i
    hertz = mel_centres(BINS, 20.0, rate / 2, "kaldi")
    return Spectrum(x[:, None], len(samples), shown, hertz, cut, (0.0, len(samples) / rate))


def mel_centres(bins: int, low: float, high: float, scale: str) -> list[float]:
    """Hertz of the middle of each bin."""
    audio = need("transformers.audio_utils", "transformers")
    ends = audio.hertz_to_mel(low, mel_scale=scale), audio.hertz_to_mel(high, mel_scale=scale)
    found: list[float] = audio.mel_to_hertz(np.linspace(*ends, bins + 2)[1:-1], mel_scale=scale).tolist()
    return found


def as_ast(pictures: Tensor) -> Tensor:
    """(B, 1, bins, frames) -> (B, frames, bins)"""
    return pictures[:, 0].mT


def as_features(pictures: Tensor) -> Tensor:
    """(B, bins, 1, frames) -> (B, bins, frames)"""
    return pictures[:, :, 0]


def as_samples(pictures: Tensor) -> Tensor:
    """(B, 1, 1, samples) -> (B, samples)"""
    return pictures[:, 0, 0]


def ast_steps(config: Any) -> Steps:
    return ((config.patch_size, config.frequency_stride),), ((config.patch_size, config.time_stride),)


def wave_steps(config: Any) -> Steps:
    return (), tuple(zip(config.conv_kernel, config.conv_stride, strict=True))


def same_size(config: Any, extractor: Any) -> None:
    """Refuse a spectrogram of another size than the network's positions."""
    given = (extractor.num_mel_bins, extractor.max_length)
    if given != (config.num_mel_bins, config.max_length) or extractor.sampling_rate != 16_000:
        raise BadModel(
            f"the feature extractor makes {given[0]} bins x {given[1]} frames at {extractor.sampling_rate} Hz, and the "
            f"model reads {config.num_mel_bins} x {config.max_length} at 16000 Hz; use its own preprocessor_config.json"
        )


def same_length(config: Any, extractor: Any) -> None:
    """Refuse a spectrogram of another length than the encoder's positions, of which two frames share one."""
    given = (extractor.feature_size, extractor.nb_max_frames)
    if given != (config.num_mel_bins, 2 * config.max_source_positions):
        raise BadModel(
            f"the feature extractor makes {given[0]} bins x {given[1]} frames, and the model reads "
            f"{config.num_mel_bins} x {2 * config.max_source_positions}; use its own preprocessor_config.json"
        )


def mono_samples(config: Any, extractor: Any) -> None:
    """Refuse a network whose first layers are no row of convolutions over samples."""
    if not hasattr(config, "conv_kernel") or extractor.feature_size != 1:
        raise BadModel(f"{type(config).__name__} has no row of convolutions (conv_kernel) over samples of one channel")


KINDS = {
    "ASTFeatureExtractor": Kind(ast, as_ast, lambda e: FRAME + HOP * (e.max_length - 1), FRAME, ast_steps, same_size),
    "WhisperFeatureExtractor": Kind(
        whisper, as_features, lambda e: int(e.n_samples), FRAME, lambda _: ((), ()), same_length
    ),
    "Wav2Vec2FeatureExtractor": Kind(waves, as_samples, lambda _: 0, 0, wave_steps, mono_samples),
}
