"""Plot the figures of Lin et al. 2021 with our data, as PNG files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.schema import INSTRUMENTS, SEEN_INSTRUMENTS, UNSEEN_INSTRUMENTS
from qsep_jax.figures.spectrograms import save_png, subplots


def plot_durations(minutes: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """Plot the minutes of each instrument by split (Fig. 2)."""
    figure, ((axis,),) = subplots(1, 1, (9, 3.5))
    positions, below = np.arange(len(INSTRUMENTS)), np.zeros(len(INSTRUMENTS))
    for split, by_stem in minutes.items():
        heights = np.array([by_stem.get(stem, 0.0) for stem in INSTRUMENTS])
        axis.bar(positions, heights, bottom=below, label=split)
        below += heights
    axis.set_xticks(positions, [stem.replace("_", " ") for stem in INSTRUMENTS], rotation=45, ha="right")
    axis.set_ylabel("minutes")
    axis.legend()
    save_png(figure, path)


def plot_instruments(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Plot SDR and AP of each instrument and system, with the unseen instruments last (Fig. 4)."""
    stems = [stem for stem in (*SEEN_INSTRUMENTS, *UNSEEN_INSTRUMENTS) if any(row["group"] == stem for row in rows)]
    labels = {"sdr": "SDR in dB", "ap": "frame average precision"}
    figure, axes = subplots(2, 1, (10, 7), sharex=True)
    for axis, (metric, label) in zip(axes[:, 0], labels.items(), strict=True):
        cells = {(row["system"], row["group"]): row for row in rows if row["metric"] == metric}
        systems = [name for name in dict.fromkeys(name for name, _ in cells) if name != "ideal ratio mask"]
        width = 0.85 / max(len(systems), 1)
        for number, system in enumerate(systems):
            system_rows = [cells.get((system, stem), {"mean": np.nan, "ci95": 0.0}) for stem in stems]
            positions = np.arange(len(stems)) + (number - (len(systems) - 1) / 2) * width
            error = [row["ci95"] for row in system_rows]
            axis.bar(positions, [row["mean"] for row in system_rows], width, yerr=error, label=system, capsize=1.5)
        axis.set_ylabel(label)
        axis.grid(axis="y", alpha=0.3)
        if systems:
            axis.legend(fontsize=8, ncols=3)
    seen_count = sum(stem in SEEN_INSTRUMENTS for stem in stems)
    for axis in axes[:, 0]:
        axis.axvline(seen_count - 0.5, color="grey", linestyle=":")
    axes[1, 0].set_xticks(np.arange(len(stems)), [stem.replace("_", " ") for stem in stems], rotation=30, ha="right")
    save_png(figure, path)
