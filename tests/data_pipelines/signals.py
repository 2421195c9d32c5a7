"""Test signals and folders of WAV files for the tests of `data_pipelines`."""

from pathlib import Path

import numpy as np
import soundfile


def tone(frequency: float, seconds: float, rate: int, channels: int = 1, level: float = 0.3) -> np.ndarray:
    """A sine of `frequency` (Hz), the same in all channels, float32 `[T, C]`."""
    time = np.arange(round(seconds * rate)) / rate
    return np.repeat(level * np.sin(2 * np.pi * frequency * time)[:, None], channels, axis=1).astype(np.float32)


def pitch(audio: np.ndarray, rate: int) -> float:
    """The frequency in Hz of the strongest partial of the first channel."""
    spectrum = np.abs(np.fft.rfft(audio[:, 0] * np.hanning(len(audio)), 8 * len(audio)))
    return float(np.argmax(spectrum) * rate / (8 * len(audio)))


def band_level(audio: np.ndarray, rate: int, low: float, high: float) -> float:
    """The mean power per bin in dB of the first channel between two frequencies in Hz."""
    power = np.abs(np.fft.rfft(audio[:, 0].astype(float))) ** 2
    frequencies = np.fft.rfftfreq(len(audio), 1 / rate)
    return float(10 * np.log10(power[(frequencies >= low) & (frequencies < high)].mean() + 1e-9))


def write_tracks(source: Path, tracks: dict[str, list[str]], rate: int = 8000) -> Path:
    """Write a second of noise for each stem of `tracks`, for example `{"train/one": ["bass", "drums"]}`."""
    for number, (track, stems) in enumerate(tracks.items()):
        (source / track).mkdir(parents=True)
        for index, stem in enumerate(stems):
            noise = np.random.default_rng([number, index]).uniform(-0.5, 0.5, (rate, 1))
            soundfile.write(source / track / f"{stem}.wav", noise, rate)
    return source


def write_levels(path: Path, *levels: float, samples: int = 400, rate: int = 44_100) -> Path:
    """Write a WAV file with a channel for each level, in which all samples have that level."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.tile(np.array(levels), (samples, 1)), rate)
    return path


def levels_of(audio: np.ndarray) -> list[float]:
    """The constant level of each channel of int16 `[T, C]`, rounded to hundredths of full scale."""
    assert audio.dtype == np.int16
    assert np.ptp(audio, axis=0).max() <= 1
    return [round(float(level) / 327.68) / 100 for level in audio[0]]
