"""Pictures of a run, for people to look at."""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qsep_jax.metrics.aggregate import track_medians
from qsep_jax.metrics.tracks import TrackScores

FLOOR_DB = 70.0


@dataclasses.dataclass(frozen=True)
class Example:
    """One separated mixture, waveforms `[T, C]`."""

    mixture: np.ndarray
    target: np.ndarray
    estimate: np.ndarray
    stem: str
    sample_rate: int


def overview(example: Example, metrics: Path, path: Path) -> None:
    """Spectrograms of mixture, target and estimate on one decibel scale, and the loss over the steps: a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(12, 7), layout="constrained")
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


def save_png(figure: Any, path: Path) -> None:
    """Write a PNG that appears when it is whole."""
    from matplotlib import pyplot

    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part.png")
    figure.savefig(unfinished, dpi=100)
    pyplot.close(figure)
    unfinished.replace(path)


def spectrogram_db(audio: np.ndarray, window_length: int = 512) -> np.ndarray:
    """`[N, F]` level of `[T, C]`, mixed down, in dB."""
    mono = np.pad(audio.mean(axis=1), (0, max(0, window_length - len(audio))))
    frames = np.lib.stride_tricks.sliding_window_view(mono, window_length)[:: window_length // 4]
    magnitude = np.abs(np.fft.rfft(frames * np.hanning(window_length)))
    return 20.0 * np.log10(np.maximum(magnitude, 1e-8))


def _losses(axis, metrics: Path) -> None:
    lines = [json.loads(line) for line in metrics.read_text().splitlines()] if metrics.exists() else []
    for name in sorted({key for line in lines for key in line if key.endswith("/loss")}):
        points = [(line["step"], line[name]) for line in lines if name in line]
        axis.plot(*zip(*points, strict=True), label=name, marker="." if len(points) < 30 else "")
    axis.set(title="loss", xlabel="step")
    axis.set_yscale("log")
    if lines:
        axis.legend()


def boxes(scored: Sequence[TrackScores], title: str, path: Path) -> None:
    """A box of the tracks for each stem and estimate, by the first metric of the protocol: a PNG.

    Box and whiskers as in the reports of SiSEC: quartiles, median, and 1.5 times the quartiles' distance.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    metric = scored[0].protocol.metrics[0]
    stems = list(dict.fromkeys(stem for scores in scored for stem in scores.stems))
    estimates = list(dict.fromkeys(scores.estimate for scores in scored))
    figure, axis = pyplot.subplots(figsize=(max(6, 1.2 * len(stems) * len(estimates) ** 0.5), 5), layout="constrained")
    width = 0.8 / len(estimates)
    for number, estimate in enumerate(estimates):
        values = []
        for stem in stems:
            found = [
                scores.stems[stem][metric] for scores in scored if scores.estimate == estimate and stem in scores.stems
            ]
            medians = track_medians(found)
            values.append(medians[np.isfinite(medians)])
        places = np.arange(len(stems)) + (number - (len(estimates) - 1) / 2) * width
        drawn = axis.boxplot(values, positions=places, widths=0.8 * width, patch_artist=True)
        for box in drawn["boxes"]:
            box.set_facecolor(f"C{number}")
        for line in drawn["medians"]:
            line.set_color("black")
        axis.plot([], [], color=f"C{number}", linewidth=6, label=estimate)
    axis.set_xticks(np.arange(len(stems)), stems, rotation=30 if len(stems) > 6 else 0)
    axis.set(title=title, ylabel=f"{metric} in dB, median over frames of each track")
    axis.grid(axis="y", alpha=0.3)
    axis.legend()
    save_png(figure, path)
