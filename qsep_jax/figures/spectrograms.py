"""Spectrograms of audio, the overview of a run, and shared parts of all figures."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.files import atomic_write

# Range of the colour scale of a spectrogram, below its highest level.
DYNAMIC_RANGE_DB = 70.0


@dataclasses.dataclass(frozen=True)
class Example:
    """A mixture with a target and its estimate, waveforms `[T, C]`."""

    mixture: np.ndarray
    target: np.ndarray
    estimate: np.ndarray
    stem: str
    sample_rate: int


def subplots(rows: int, columns: int, size: tuple[float, float], **options: Any) -> tuple[Any, np.ndarray]:
    """Create a figure of `size` inches without a display; also return its axes `[rows, columns]`."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False, **options)


def overview(example: Example, metrics: Path, path: Path) -> None:
    """Draw spectrograms of an example with one decibel scale, and the losses over the steps of a run, as a PNG.

    Args:
      metrics: The `metrics.jsonl` of the run; if it does not exist, the panel of losses stays empty.
    """
    figure, axes = subplots(2, 2, (12, 7))
    signals = {"mixture": example.mixture, f"target: {example.stem}": example.target, "estimate": example.estimate}
    panels(axes.flat, signals, example.sample_rate)
    for axis in axes.flat[:3]:
        axis.set_ylabel("frequency in kHz")
    figure.colorbar(axes[1, 0].images[0], ax=axes[1, 0], label="level in dB")
    _losses(axes[1, 1], metrics)
    save_png(figure, path)


def panels(axes: Iterable[Any], signals: Mapping[str, np.ndarray], sample_rate: int) -> None:
    """Draw spectrograms of waveforms `[T, C]`, given by title, one in each axis, with one decibel scale."""
    levels = {title: spectrogram_db(audio) for title, audio in signals.items()}
    top = max(float(level.max()) for level in levels.values())
    for axis, (title, level) in zip(axes, levels.items(), strict=False):
        extent = (0.0, len(signals[title]) / sample_rate, 0.0, sample_rate / 2000)
        axis.imshow(
            level.T, origin="lower", aspect="auto", extent=extent, vmin=top - DYNAMIC_RANGE_DB, vmax=top, cmap="magma"
        )
        axis.set(title=title, xlabel="time in s")


def strips(rows: Mapping[str, Mapping[str, np.ndarray]], sample_rate: int, path: Path) -> None:
    """Draw a row of spectrograms for each heading as a PNG; each row holds waveforms `[T, C]` by title.

    The panels of a row share one decibel scale, so that their levels can be compared.
    """
    columns = max(len(signals) for signals in rows.values())
    figure, axes = subplots(len(rows), columns, (2.6 * columns, 2.8 * len(rows)), sharey=True)
    for row_axes, (heading, signals) in zip(axes, rows.items(), strict=True):
        panels(row_axes, signals, sample_rate)
        for axis in row_axes[len(signals) :]:
            axis.set_axis_off()
        row_axes[0].set_ylabel(f"{heading}\nfrequency in kHz")
    save_png(figure, path)


def save_png(figure: Any, path: Path) -> None:
    """Write a figure as a PNG, which appears only when it is complete, and close the figure."""
    from matplotlib import pyplot

    with atomic_write(path) as unfinished:
        figure.savefig(unfinished, dpi=100, format="png")
    pyplot.close(figure)


def spectrogram_db(audio: np.ndarray, window_length: int = 512, hop_length: int | None = None) -> np.ndarray:
    """The level in dB `[N, F]` of a waveform `[T, C]`, mixed down; the hop is a quarter of the window by default."""
    mono = np.pad(audio.mean(axis=1), (0, max(0, window_length - len(audio))))
    frames = np.lib.stride_tricks.sliding_window_view(mono, window_length)[:: hop_length or window_length // 4]
    magnitude = np.abs(np.fft.rfft(frames * np.hanning(window_length)))
    return 20.0 * np.log10(np.maximum(magnitude, 1e-8))


def _losses(axis, metrics: Path) -> None:
    """Draw every metric whose name ends in `/loss` over the steps."""
    lines = [json.loads(line) for line in metrics.read_text().splitlines()] if metrics.exists() else []
    lowest = np.inf
    for name in sorted({key for line in lines for key in line if key.endswith("/loss")}):
        points = [(line["step"], line[name]) for line in lines if name in line]
        axis.plot(*zip(*points, strict=True), label=name, marker="." if len(points) < 30 else "")
        lowest = min(lowest, *(value for _, value in points))
    axis.set(title="loss", xlabel="step")
    axis.set_yscale("log" if lowest > 0 else "symlog")  # the loss of a critic is negative
    if lines:
        axis.legend()
