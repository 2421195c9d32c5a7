"""Rendering of notes to audio with a SoundFont, by symusic at 44.1 kHz, followed by resampling."""

import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.audio.samples import fit_length, resample
from data_pipelines.corpora.soundfont import with_tuned_samples

# symusic hangs on some scores if it renders at a low sample rate.
RENDER_RATE = 44_100
# Seconds of decay after the last note.
RELEASE = 0.6


def default_soundfont() -> Path:
    """The path of TimGM6mb, the small General MIDI SoundFont in the package `pretty_midi`.

    Raises:
      ValueError: if `pretty_midi` is not installed.
    """
    import importlib.util

    spec = importlib.util.find_spec("pretty_midi")
    if spec is None or spec.origin is None:
        raise ValueError("the package pretty_midi, which has the default SoundFont, is missing: give --soundfont")
    return Path(spec.origin).with_name("TimGM6mb.sf2")


@functools.cache
def _synthesizer(soundfont: str):
    from symusic import Synthesizer

    with tempfile.NamedTemporaryFile(suffix=Path(soundfont).suffix) as file:
        file.write(with_tuned_samples(Path(soundfont)))
        file.flush()
        return Synthesizer(file.name, RENDER_RATE, 0)


def render(
    notes: np.ndarray,
    velocities: np.ndarray,
    program: int,
    seconds: float,
    sample_rate: int,
    soundfont: Path | str,
    *,
    drum: bool = False,
) -> np.ndarray:
    """Render notes with a SoundFont to float32 `[T, 1]`, at the level of the SoundFont.

    symusic ignores velocities. Therefore, a gain of 40 log₁₀(velocity / 127) dB is applied at each onset; between
    onsets, its factor is interpolated linearly.

    Args:
      notes: rows of onset (s), offset (s) and MIDI pitch, `[n, 3]`.
      velocities: MIDI velocity of each note, `[n]`.
      program: General MIDI program, counted from 0.
      seconds: length of the result.
      sample_rate: sample rate of the result in Hz.
      drum: whether to play the notes on the percussion kit.
    """
    from symusic import Note, Score, Track

    if not len(notes):  # symusic does not render an empty score
        return np.zeros((round(seconds * sample_rate), 1), np.float32)
    # The types of symusic's classes depend on the value of `ttype`.
    score: Any = Score(ttype="second")
    track: Any = Track(program=program, is_drum=drum, ttype="second")
    for onset, offset, pitch in notes:
        track.notes.append(Note(float(onset), float(offset - onset), int(pitch), 100, "second"))
    score.tracks.append(track)
    synthesizer: Any = _synthesizer(str(soundfont))
    audio = np.asarray(synthesizer.render(score, stereo=False), np.float32).T
    audio = fit_length(audio, round(seconds * RENDER_RATE))
    audio = high_pass(resample(audio, RENDER_RATE, sample_rate), sample_rate)
    order = np.argsort(notes[:, 0], kind="stable")
    gain = np.interp(np.arange(len(audio)) / sample_rate, notes[order, 0], (velocities[order] / 127) ** 2)
    return audio * gain[:, None].astype(np.float32)


def high_pass(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Remove frequencies below 20 Hz from `[T, C]`, since some samples of a SoundFont have a large offset."""
    length = -(-len(audio) // sample_rate) * sample_rate  # a size for which the FFT is fast
    spectrum = np.fft.rfft(audio, length, axis=0)
    spectrum *= np.clip(np.fft.rfftfreq(length, 1 / sample_rate) / 10.0 - 1.0, 0.0, 1.0)[:, None]
    return np.fft.irfft(spectrum, length, axis=0)[: len(audio)].astype(np.float32)


def gain_to(audio: np.ndarray, rms: float) -> np.float32:
    """The factor that gives audio a root mean square of `rms`, or a full-scale peak if that is less; 1 for silence."""
    power = float(np.sqrt(np.mean(np.square(audio, dtype=np.float64)))) if audio.size else 0.0
    peak = float(np.max(np.abs(audio), initial=0.0))
    return np.float32(min(rms / power, 1.0 / peak)) if power > 0 else np.float32(1.0)


def level(audio: np.ndarray, rms: float) -> np.ndarray:
    """Scale audio to a root mean square of `rms`, or to a peak of full scale if that is less. Silence stays silent."""
    return audio * gain_to(audio, rms)
