"""Pictures of a run, for people to look at."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

FLOOR_DB = 70.0


@dataclasses.dataclass(frozen=True)
class Example:
    """One separated mixture, waveforms `[T, C]`."""

    mixture: np.ndarray
    target: np.ndarray
    estimate: np.ndarray
    stem: str
    sample_rate: int


def subplots(rows: int, columns: int, size: tuple[float, float], **options: Any) -> tuple[Any, np.ndarray]:
    """A figure of `size` inches with its axes `[rows, columns]`, drawn without a display."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False, **options)


def overview(example: Example, metrics: Path, path: Path) -> None:
    """Spectrograms of mixture, target and estimate on one decibel scale, and the loss over the steps: a PNG."""
    figure, axes = subplots(2, 2, (12, 7))
    pictures = {"mixture": example.mixture, f"target: {example.stem}": example.target, "estimate": example.estimate}
    panels(axes.flat, pictures, example.sample_rate)
    for axis in axes.flat[:3]:
        axis.set_ylabel("frequency in kHz")
    figure.colorbar(axes[1, 0].images[0], ax=axes[1, 0], label="level in dB")
    _losses(axes[1, 1], metrics)
    save_png(figure, path)


def panels(axes: Iterable[Any], signals: Mapping[str, np.ndarray], sample_rate: int) -> None:
    """Spectrograms of waveforms `[T, C]` by title, each in an axis, on one scale of decibels."""
    levels = {title: spectrogram_db(audio) for title, audio in signals.items()}
    top = max(float(level.max()) for level in levels.values())
    for axis, (title, level) in zip(axes, levels.items(), strict=False):
        extent = (0.0, len(signals[title]) / sample_rate, 0.0, sample_rate / 2000)
        axis.imshow(level.T, origin="lower", aspect="auto", extent=extent, vmin=top - FLOOR_DB, vmax=top, cmap="magma")
        axis.set(title=title, xlabel="time in s")


def strips(rows: Mapping[str, Mapping[str, np.ndarray]], sample_rate: int, path: Path) -> None:
    """Spectrograms of waveforms `[T, C]`, a row of panels by title under each heading.

    The panels of a row share their scale of decibels, so that levels can be compared.
    """
    columns = max(len(signals) for signals in rows.values())
    figure, axes = subplots(len(rows), columns, (2.6 * columns, 2.8 * len(rows)), sharey=True)
    for line, (heading, signals) in zip(axes, rows.items(), strict=True):
        panels(line, signals, sample_rate)
        for axis in line[len(signals) :]:
            axis.set_axis_off()
        line[0].set_ylabel(f"{heading}\nfrequency in kHz")
    save_png(figure, path)


def save_png(figure: Any, path: Path) -> None:
    """Write a PNG that appears when it is whole."""
    from matplotlib import pyplot

    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part.png")
    figure.savefig(unfinished, dpi=100)
    pyplot.close(figure)
    unfinished.replace(path)


def spectrogram_db(audio: np.ndarray, window_length: int = 512, hop_length: int | None = None) -> np.ndarray:
    """`[N, F]` level of `[T, C]`, mixed down, in dB, every quarter of a window unless a hop is given."""
    mono = np.pad(audio.mean(axis=1), (0, max(0, window_length - len(audio))))
    frames = np.lib.stride_tricks.sliding_window_view(mono, window_length)[:: hop_length or window_length // 4]
    magnitude = np.abs(np.fft.rfft(frames * np.hanning(window_length)))
    return 20.0 * np.log10(np.maximum(magnitude, 1e-8))


def _losses(axis, metrics: Path) -> None:
    lines = [json.loads(line) for line in metrics.read_text().splitlines()] if metrics.exists() else []
    lowest = np.inf
    for name in sorted({key for line in lines for key in line if key.endswith("/loss")}):
        points = [(line["step"], line[name]) for line in lines if name in line]
        axis.plot(*zip(*points, strict=True), label=name, marker="." if len(points) < 30 else "")
        lowest = min(lowest, *(value for _, value in points))
    axis.set(title="loss", xlabel="step")
    axis.set_yscale("log" if lowest > 0 else "symlog")  # a critic's loss is negative
    if lines:
        axis.legend()
