"""Notes to sound: a SoundFont played by symusic at 44.1 kHz, then resampled."""

import functools
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.audio import fit_length, resample

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

    return Synthesizer(soundfont, RENDER_RATE, 0)


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

    `drum` plays them on the percussion kit. `seconds` fixes the length; the level is the SoundFont's.
    """
    from symusic import Note, Score, Track

    # Their types depend on the value of `ttype`.
    score: Any = Score(ttype="second")
    track: Any = Track(program=program, is_drum=drum, ttype="second")
    for (onset, offset, pitch), velocity in zip(notes, velocities, strict=True):
        track.notes.append(Note(float(onset), float(offset - onset), int(pitch), int(velocity), "second"))
    score.tracks.append(track)
    synthesizer: Any = _synthesizer(str(soundfont))
    audio = np.asarray(synthesizer.render(score, stereo=False), np.float32).T
    audio = fit_length(audio, round(seconds * RENDER_RATE))
    return resample(audio, RENDER_RATE, sample_rate)


def level(audio: np.ndarray, rms: float) -> np.ndarray:
    """Scale to a root mean square of `rms`, or to a peak of full scale if that comes first. Silence stays silence."""
    power = float(np.sqrt(np.mean(np.square(audio, dtype=np.float64)))) if audio.size else 0.0
    peak = float(np.max(np.abs(audio), initial=0.0))
    return audio * np.float32(min(rms / power, 1.0 / peak)) if power > 0 else audio
