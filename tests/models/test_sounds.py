"""Sounds from files and arrays: what is read, what is said of it, and what is refused."""

import io

import numpy as np
import pytest

from gradtoken.axes import Axes
from gradtoken.errors import BadSound, GradTokenError
from gradtoken.models import sound
from gradtoken.models.sounds import open_sound
from tests.sounds import RATE, tone

soundfile = pytest.importorskip("soundfile")


def written(samples, form: str = "WAV", rate: int = RATE, **options) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=form, **options)
    return file.getvalue()


@pytest.mark.parametrize(("form", "kind"), [("WAV", "FLOAT"), ("WAV", "PCM_16"), ("FLAC", "PCM_24"), ("OGG", "VORBIS")])
def test_files_hold_what_was_written(tmp_path, form, kind):
    path = tmp_path / f"tone.{form.lower()}"
    path.write_bytes(written(tone(), form, subtype=kind))
    tolerance = {"FLOAT": 0, "PCM_16": 2**-15, "PCM_24": 2**-23, "VORBIS": 0.05}[kind]
    for source in (path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes())):
        found = open_sound(source)
        assert (found.rate, found.seconds, found.note) == (RATE, 0.6, "")
        np.testing.assert_allclose(found.samples, tone(), atol=tolerance)


def test_channels_are_mixed_down_and_it_is_said():
    left, right = tone(hertz=500), tone(hertz=2000)
    for source in (written(np.stack([left, right], axis=1), subtype="FLOAT"), (np.stack([left, right]), RATE)):
        found = open_sound(source)
        np.testing.assert_allclose(found.samples, (left + right) / 2, atol=1e-7)
        assert found.note == "mixed down from 2 channels"


@pytest.mark.parametrize(("kind", "zero", "full"), [("int16", 0, 2**15), ("int32", 0, 2**31), ("uint8", 128, 128)])
def test_whole_numbers_are_divided_by_full_scale(kind, zero, full):
    values = np.array([zero, zero + full // 2, zero - full // 4] * 100, kind)
    np.testing.assert_array_equal(open_sound((values, RATE)).samples[:3], [0, 0.5, -0.25])


def test_silence_is_said():
    assert open_sound((np.zeros(5000), RATE)).note == "silent"


BAD = {
    "no sound that can be read": b"RIFF but not really a wave file" * 10,
    "is empty": b"",
    "there is no sample in it": (np.zeros(0), RATE),
    "3 samples are NaN or infinite, the first is number 5": (np.where(np.arange(99) // 3 == 2, np.nan, 0)[1:], RATE),
    "expected -1 to 1": (np.full(999, 12345.0), RATE),
    "samples a second, a whole number, got 0": (np.zeros(99), 0),
    r"of shape \(2, 3, 4\)": (np.zeros((2, 3, 4)), RATE),
    "expected the samples as numbers": (np.array(["a", "b"]), RATE),
    "expected a sound as a path": np.zeros(99),
}


@pytest.mark.parametrize(("message", "source"), BAD.items(), ids=BAD)
def test_what_is_no_sound_is_refused(message, source):
    with pytest.raises(BadSound, match=message):
        open_sound(source)


def test_files_that_are_none_are_refused(tmp_path):
    with pytest.raises(BadSound, match="no file"):
        open_sound(tmp_path / "missing.wav")
    with pytest.raises(BadSound, match="is a folder"):
        open_sound(tmp_path)
    (tmp_path / "cut.flac").write_bytes(written(tone(), "FLAC")[:40])
    with pytest.raises(BadSound, match=r"cut.flac' is no sound|no sample"):
        open_sound(tmp_path / "cut.flac")


def test_another_rate_keeps_pitch_and_length():
    pytest.importorskip("soxr")
    found = sound.resampled(open_sound((tone(rate=44_100), 44_100)), RATE)
    assert abs(len(found) - 9600) <= 1
    np.testing.assert_allclose(found[1000:8000], tone()[1000:8000], atol=0.01)


def test_convolutions_reach():
    """Counted one by one: which of n entries a row of convolutions reads."""
    steps = [(10, 5), (3, 2), (2, 2)]

    def read(n: int) -> int:
        seen = [{i} for i in range(n)]
        for kernel, stride in steps:
            places = range(0, len(seen) - kernel + 1, stride)
            seen = [set().union(*seen[i : i + kernel]) for i in places]
        return max(set().union(*seen)) + 1

    assert [sound.reach(steps, n) for n in range(45, 120)] == [read(n) for n in range(45, 120)]
    assert sound.needed(steps, 2) == min(n for n in range(30, 99) if read(n) > read(30))


def test_ticks_lie_where_they_say():
    axes = Axes((0.2, 4.3), tuple(np.geomspace(8000, 50, 64).tolist()))
    for share, text in axes.time_ticks():
        assert axes.time(share) == pytest.approx(float(text.removesuffix(" s")), abs=1e-9)
    for share, text in axes.pitch_ticks():
        value, unit = text.split()
        assert axes.pitch(share) == pytest.approx(float(value) * (1000 if unit == "kHz" else 1), rel=0.01)
    assert [text for _, text in axes.time_ticks()] == ["1 s", "2 s", "3 s", "4 s"]
    with pytest.raises(GradTokenError, match="hertz that fall"):
        Axes((0.0, 1.0), (100.0, 200.0))
