"""Figures of an adaptation: the activity of the stems below a spectrogram, and the losses."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_pipelines.annotations.activations import to_spans
from qsep_jax.figures.spectrograms import DYNAMIC_RANGE_DB, save_png, spectrogram_db, subplots
from qsep_jax.inference.adaptation import Adapted

# Largest number of columns of the spectrogram, about the width of the picture in pixels; rows in an octave.
COLUMNS, PER_OCTAVE = 2000, 24
LOWEST_HZ = 40.0
# Starts and ends are marked in the spectrogram up to this number; more lines would hide it.
EDGES = 60


def draw_activations(
    mixture: np.ndarray,
    active: np.ndarray,
    stems: Sequence[str],
    sample_rate: int,
    title: str,
    path: Path,
    unnamed: Sequence[str] = (),
) -> None:
    """Draw the spectrogram of `[T, C]`, and below it a lane for each stem with its activity, as a PNG.

    Args:
      active: Whether each stem is active, bool `[S, T]`.
      unnamed: Stems that the annotation does not mention, and that are therefore assumed to be active; their lanes are
        hatched.
    """
    seconds = len(mixture) / sample_rate
    size = float(np.clip(3 + 0.4 * seconds, 10, 18)), 4.6 + 0.45 * len(stems)
    figure, ((top,), (bottom,)) = subplots(2, 1, size, sharex=True, height_ratios=[3.6, 0.45 * len(stems)])
    _spectrogram(top, mixture, sample_rate)
    top.set(title=title, ylabel="frequency in Hz", xlim=(0.0, seconds))
    figure.colorbar(top.images[0], ax=top, label="level in dB", pad=0.01)
    spans = [span for span in to_spans(active, stems, sample_rate) if span.start < span.end]
    for lane, (stem, colour) in enumerate(zip(stems, _colours(len(stems)), strict=True)):
        active_spans = [(span.start, span.end - span.start) for span in spans if span.stem == stem]
        style = {"facecolor": colour, "linewidth": 0}
        note = "" if active_spans else "rests throughout"
        if stem in unnamed:
            style, note = {"facecolor": "none", "edgecolor": colour, "hatch": "///"}, "not named: assumed to be active"
        bottom.axhspan(lane - 0.38, lane + 0.38, color="0.93", linewidth=0)
        bottom.broken_barh(active_spans, (lane - 0.38, 0.76), **style)
        if note:
            box = {"facecolor": "white", "edgecolor": "none", "boxstyle": "square,pad=0.2"}
            bottom.text(seconds / 2, lane, note, ha="center", va="center", bbox=box)
        if len(spans) <= EDGES // 2:
            _edges(top, [edge for start, length in active_spans for edge in (start, start + length)], seconds, colour)
    shares = [f"{stem}  {100 * np.mean(row):.0f} %" for stem, row in zip(stems, active, strict=True)]
    bottom.set_yticks(range(len(stems)), shares)
    bottom.set(xlabel="time in s", ylabel="active", ylim=(len(stems) - 0.5, -0.5))
    bottom.grid(axis="x", alpha=0.5)
    bottom.set_axisbelow(True)
    save_png(figure, path)


def _colours(count: int) -> np.ndarray:
    """Choose `count` distinct colours, RGBA `[count, 4]`."""
    from matplotlib import colormaps

    named = colormaps["tab10"] if count <= 10 else colormaps["turbo"].resampled(count)
    return named(np.arange(count))


def _edges(axis, times: Sequence[float], seconds: float, colour: np.ndarray) -> None:
    """Draw lines where a stem starts and ends, to compare the annotation with the spectrogram."""
    from matplotlib import patheffects

    outline = [patheffects.withStroke(linewidth=2.6, foreground="white")]
    for time in times:
        if 0 < time < seconds:
            axis.axvline(time, color=colour, linewidth=1.4, path_effects=outline)


def _spectrogram(axis, audio: np.ndarray, sample_rate: int) -> None:
    """Draw the level over time and logarithmic frequency."""
    window_length = 2 ** round(np.log2(0.064 * sample_rate))
    edge, hop = window_length // 2, max(window_length // 4, len(audio) // COLUMNS)
    level = spectrogram_db(np.pad(audio, ((edge, edge + hop), (0, 0))), window_length, hop)
    low, high = np.log2(LOWEST_HZ), np.log2(sample_rate / 2)
    rows = np.arange(low, high, 1 / PER_OCTAVE)
    bins = np.arange(level.shape[1]) * sample_rate / window_length
    by_row = np.stack([np.interp(2.0**rows, bins, column) for column in level], axis=1)
    top = max(float(by_row.max()), -60.0)  # the lower bound keeps silence black
    axis.imshow(
        by_row,
        origin="lower",
        aspect="auto",
        extent=(-hop / 2 / sample_rate, (len(level) - 0.5) * hop / sample_rate, rows[0], rows[-1] + 1 / PER_OCTAVE),
        vmin=top - DYNAMIC_RANGE_DB,
        vmax=top,
        cmap="magma",
    )
    octaves = [hertz for hertz in (50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000) if hertz < sample_rate / 2]
    axis.set_yticks(np.log2(octaves), [str(hertz) for hertz in octaves])


def draw_losses(adapted: Adapted, title: str, path: Path) -> None:
    """Draw each loss over the updates as a PNG."""
    figure, ((axis,),) = subplots(1, 1, (8.0, 4.0))
    for name, values in adapted.losses.items():
        axis.plot(np.arange(1, len(values) + 1), values, label=name, linewidth=1.2)
    axis.set(title=title, xlabel="update", ylabel="loss", ylim=(0.0, None))
    axis.grid(alpha=0.4)
    axis.legend()
    save_png(figure, path)
