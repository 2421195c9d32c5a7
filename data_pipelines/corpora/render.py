"""Notes to sound: a SoundFont played by symusic at 44.1 kHz, then resampled."""

import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.audio.reading import fit_length, resample
from data_pipelines.corpora.soundfont import tuned

# Rendering straight at a low rate hangs symusic on some scores.
RENDER_RATE = 44_100
RELEASE = 0.6  # seconds of decay kept after the last note


def default_soundfont() -> Path:
    """TimGM6mb, the small General MIDI SoundFont that `pretty_midi` carries."""
    import importlib.util

    spec = importlib.util.find_spec("pretty_midi")
    if spec is None or spec.origin is None:
        raise ValueError("the package pretty_midi, which carries the default SoundFont, is missing: give --soundfont")
    return Path(spec.origin).with_name("TimGM6mb.sf2")


@functools.cache
def _synthesizer(soundfont: str):
    from symusic import Synthesizer

    with tempfile.NamedTemporaryFile(suffix=Path(soundfont).suffix) as file:
        file.write(tuned(Path(soundfont)))
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
    """Play `notes` `[n, 3]` (onset s, offset s, MIDI pitch) with General MIDI `program`: float32 `[T, 1]`.

    `drum` plays them on the percussion kit. `seconds` fixes the length; the level is the SoundFont's. symusic ignores
    velocities, so the gain moves in straight lines from onset to onset, where it is 40 log₁₀(velocity / 127) dB.
    """
    from symusic import Note, Score, Track

    if not len(notes):  # symusic refuses
        return np.zeros((round(seconds * sample_rate), 1), np.float32)
    # Their types depend on the value of `ttype`.
    score: Any = Score(ttype="second")
    track: Any = Track(program=program, is_drum=drum, ttype="second")
    for onset, offset, pitch in notes:
        track.notes.append(Note(float(onset), float(offset - onset), int(pitch), 100, "second"))
    score.tracks.append(track)
    synthesizer: Any = _synthesizer(str(soundfont))
    audio = np.asarray(synthesizer.render(score, stereo=False), np.float32).T
    audio = fit_length(audio, round(seconds * RENDER_RATE))
    audio = centred(resample(audio, RENDER_RATE, sample_rate), sample_rate)
    order = np.argsort(notes[:, 0], kind="stable")
    gain = np.interp(np.arange(len(audio)) / sample_rate, notes[order, 0], (velocities[order] / 127) ** 2)
    return audio * gain[:, None].astype(np.float32)


def centred(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """`[T, C]` without what is below 20 Hz: some samples of a SoundFont are far off centre."""
    length = -(-len(audio) // sample_rate) * sample_rate  # a size that the transform is quick for
    spectrum = np.fft.rfft(audio, length, axis=0)
    spectrum *= np.clip(np.fft.rfftfreq(length, 1 / sample_rate) / 10.0 - 1.0, 0.0, 1.0)[:, None]
    return np.fft.irfft(spectrum, length, axis=0)[: len(audio)].astype(np.float32)


def level(audio: np.ndarray, rms: float) -> np.ndarray:
    """Scale to a root mean square of `rms`, or to a peak of full scale if that comes first. Silence stays silence."""
    power = float(np.sqrt(np.mean(np.square(audio, dtype=np.float64)))) if audio.size else 0.0
    peak = float(np.max(np.abs(audio), initial=0.0))
    return audio * np.float32(min(rms / power, 1.0 / peak)) if power > 0 else audio
