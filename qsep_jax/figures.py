"""Pictures of a run, for people to look at."""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.annotations.notes import name_of
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


def piano_roll(
    audio: np.ndarray,
    notes: np.ndarray,
    sample_rate: int,
    title: str,
    path: Path,
    reference: np.ndarray | None = None,
) -> None:
    """Notes `[n, 3]` (onset s, offset s, MIDI pitch) over the spectrogram of `[T, C]`, an octave as high as any: a PNG.

    Each note is a box around its fundamental, a semitone high; those of the reference lie behind, in another colour.
    """
    from matplotlib import patches, patheffects

    seconds = len(audio) / sample_rate
    drawn = [("transcribed", notes, "cyan"), ("reference", reference, "lime")]
    rolls = [(name, roll, colour) for name, roll, colour in drawn if roll is not None and len(roll)]
    # Three octaves and more: from a third below the lowest note to the partials above the highest.
    pitches = np.concatenate([roll[:, 2] for _, roll, _ in rolls] or [np.array([48.0, 72.0])])
    top = min(max(float(pitches.max()) + 16, 84.0), 12 * np.log2(sample_rate / 2 / 440) + 69)
    bottom = max(min(float(pitches.min()) - 4, top - 40), 20.0)
    level, rows = _by_pitch(audio, sample_rate, bottom, top)
    figure, ((axis,),) = subplots(1, 1, (float(np.clip(2 + 0.5 * seconds, 10, 40)), 6))
    high = max(float(level.max()), -60.0)  # silence is black
    axis.imshow(
        level.T,
        origin="lower",
        aspect="auto",
        extent=(0.0, seconds, rows[0] - 0.125, rows[-1] + 0.125),
        vmin=high - FLOOR_DB,
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
    axis.set_yticks(octaves, [f"{name_of(pitch)}  {440 * 2 ** ((pitch - 69) / 12):.0f} Hz" for pitch in octaves])
    axis.set(title=title, xlabel="time in s", ylabel="pitch", xlim=(0.0, seconds), ylim=(bottom, top))
    axis.grid(axis="y", alpha=0.3)
    if rolls:
        axis.legend(loc="upper right")
    figure.colorbar(axis.images[0], ax=axis, label="level in dB", pad=0.01)
    save_png(figure, path)


def _by_pitch(audio: np.ndarray, sample_rate: int, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Level in dB of `[T, C]` at every quarter of a semitone from `low` to `high`, `[N, rows]`, and their pitches."""
    window_length = 2 ** round(np.log2(0.128 * sample_rate))  # tells semitones apart from about C4 on
    edge = window_length // 2
    level = spectrogram_db(np.pad(audio, ((edge, edge), (0, 0))), window_length)
    rows = np.arange(low, high, 0.25)
    places = 440.0 * 2.0 ** ((rows - 69) / 12) * window_length / sample_rate
    below = np.minimum(np.floor(places).astype(int), level.shape[1] - 2)
    share = np.clip(places - below, 0.0, 1.0)
    return level[:, below] * (1 - share) + level[:, below + 1] * share, rows


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


def boxes(scored: Sequence[TrackScores], title: str, path: Path) -> None:
    """A box of the tracks for each stem and estimate, by the first metric of the protocol: a PNG.

    Box and whiskers as in the reports of SiSEC: quartiles, median, and 1.5 times the quartiles' distance.
    """
    metric = scored[0].protocol.metrics[0]
    stems = list(dict.fromkeys(stem for scores in scored for stem in scores.stems))
    estimates = list(dict.fromkeys(scores.estimate for scores in scored))
    figure, ((axis,),) = subplots(1, 1, (max(6, 1.2 * len(stems) * len(estimates) ** 0.5), 5))
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
