"""Box plots of scores over tracks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from qsep_jax.figures.spectrograms import save_png, subplots
from qsep_jax.metrics.aggregate import track_medians
from qsep_jax.metrics.tracks import TrackScores


def boxes(scored: Sequence[TrackScores], title: str, path: Path) -> None:
    """Draw a box over the tracks for each stem and kind of estimate, of the first metric of the protocol, as a PNG.

    As in the reports of SiSEC, a box shows median and quartiles, and whiskers reach 1.5 times the interquartile range.
    """
    metric = scored[0].protocol.metrics[0]
    stems = list(dict.fromkeys(stem for scores in scored for stem in scores.stems))
    estimates = list(dict.fromkeys(scores.estimate for scores in scored))
    figure, ((axis,),) = subplots(1, 1, (max(6, 1.2 * len(stems) * len(estimates) ** 0.5), 5))
    width = 0.8 / len(estimates)
    for number, estimate in enumerate(estimates):
        values = []
        for stem in stems:
            frames = [
                scores.stems[stem][metric] for scores in scored if scores.estimate == estimate and stem in scores.stems
            ]
            medians = track_medians(frames)
            values.append(medians[np.isfinite(medians)])
        positions = np.arange(len(stems)) + (number - (len(estimates) - 1) / 2) * width
        plot = axis.boxplot(values, positions=positions, widths=0.8 * width, patch_artist=True)
        for box in plot["boxes"]:
            box.set_facecolor(f"C{number}")
        for line in plot["medians"]:
            line.set_color("black")
        axis.plot([], [], color=f"C{number}", linewidth=6, label=estimate)
    axis.set_xticks(np.arange(len(stems)), stems, rotation=30 if len(stems) > 6 else 0)
    axis.set(title=title, ylabel=f"{metric} in dB, median over frames of each track")
    axis.grid(axis="y", alpha=0.3)
    axis.legend()
    save_png(figure, path)
