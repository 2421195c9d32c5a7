"""A piano roll: transcribed notes over the spectrogram of the audio."""

from pathlib import Path

import numpy as np

from data_pipelines.annotations.notes import pitch_name
from qsep_jax.figures.spectrograms import DYNAMIC_RANGE_DB, save_png, spectrogram_db, subplots


def piano_roll(
    audio: np.ndarray,
    notes: np.ndarray,
    sample_rate: int,
    title: str,
    path: Path,
    reference: np.ndarray | None = None,
) -> None:
    """Draw notes `[n, 3]` (onset s, offset s, MIDI pitch) over the spectrogram of `[T, C]` as a PNG.

    The frequency axis is logarithmic. Each note is a box around its fundamental with the height of a semitone; notes of
    the reference are drawn behind, in another colour.
    """
    from matplotlib import patches, patheffects

    seconds = len(audio) / sample_rate
    sources = [("transcribed", notes, "cyan"), ("reference", reference, "lime")]
    rolls = [(name, roll, colour) for name, roll, colour in sources if roll is not None and len(roll)]
    # At least three octaves, from a third below the lowest note to the partials above the highest.
    pitches = np.concatenate([roll[:, 2] for _, roll, _ in rolls] or [np.array([48.0, 72.0])])
    top = min(max(float(pitches.max()) + 16, 84.0), 12 * np.log2(sample_rate / 2 / 440) + 69)
    bottom = max(min(float(pitches.min()) - 4, top - 40), 20.0)
    level, rows = _by_pitch(audio, sample_rate, bottom, top)
    figure, ((axis,),) = subplots(1, 1, (float(np.clip(2 + 0.5 * seconds, 10, 40)), 6))
    high = max(float(level.max()), -60.0)  # the lower bound keeps silence black
    axis.imshow(
        level.T,
        origin="lower",
        aspect="auto",
        extent=(0.0, seconds, rows[0] - 0.125, rows[-1] + 0.125),
        vmin=high - DYNAMIC_RANGE_DB,
        vmax=high,
        cmap="gray",
    )
    shadow = [patheffects.withStroke(linewidth=3, foreground="black")]
    for name, roll, colour in reversed(rolls):
        size = 0.5 if name == "transcribed" else 0.8
        for onset, offset, pitch in roll[roll[:, 0] < seconds]:
            corner, width = (onset, pitch - size), min(offset, seconds) - onset
            box = patches.Rectangle(
                corner, width, 2 * size, edgecolor=colour, facecolor="none", linewidth=1.4, path_effects=shadow
            )
            axis.add_patch(box)
        axis.plot([], [], color=colour, linewidth=3, label=name)
    octaves = np.arange(np.ceil(bottom / 12), np.floor(top / 12) + 1) * 12
    axis.set_yticks(octaves, [f"{pitch_name(pitch)}  {440 * 2 ** ((pitch - 69) / 12):.0f} Hz" for pitch in octaves])
    axis.set(title=title, xlabel="time in s", ylabel="pitch", xlim=(0.0, seconds), ylim=(bottom, top))
    axis.grid(axis="y", alpha=0.3)
    if rolls:
        axis.legend(loc="upper right")
    figure.colorbar(axis.images[0], ax=axis, label="level in dB", pad=0.01)
    save_png(figure, path)


def _by_pitch(audio: np.ndarray, sample_rate: int, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """The level in dB of `[T, C]` at every quarter of a semitone in `low` … `high`, `[N, rows]`, and the pitches."""
    window_length = 2 ** round(np.log2(0.128 * sample_rate))  # resolves semitones above about C4
    edge = window_length // 2
    level = spectrogram_db(np.pad(audio, ((edge, edge), (0, 0))), window_length)
    rows = np.arange(low, high, 0.25)
    places = 440.0 * 2.0 ** ((rows - 69) / 12) * window_length / sample_rate
    below = np.minimum(np.floor(places).astype(int), level.shape[1] - 2)
    share = np.clip(places - below, 0.0, 1.0)
    return level[:, below] * (1 - share) + level[:, below + 1] * share, rows
