"""Plot the figures of the experiments in the form of the paper's figures, as PNG files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from qsep_jax.figures.spectrograms import save_png, subplots

MARKED = "red"
# Colours of the classes: none is red. They repeat if there are more classes than colours.
COLOURS = ("C0", "C1", "C2", "C4", "C5", "C6", "C7", "C8", "C9")


def plot_shares(alphas: Sequence[float], curves: Mapping[str, tuple[np.ndarray, np.ndarray]], path: Path) -> None:
    """Plot the share of the first source over α; a curve is a mean and the half width of its interval."""
    figure, ((axis,),) = subplots(1, 1, (6, 4))
    for name, (mean, interval) in curves.items():
        axis.errorbar(alphas, mean, interval, label=name, marker="o", capsize=3)
    axis.set(xlabel="α", ylabel="share of the first source in the energy", ylim=(-0.05, 1.05))
    axis.grid(alpha=0.3)
    axis.legend()
    save_png(figure, path)


def plot_points(x: Mapping[str, np.ndarray], y: Mapping[str, np.ndarray], path: Path, **texts: str) -> None:
    """Plot points by group, with lines through zero (Fig. 6); `texts` are the title and the labels of the axes."""
    figure, ((axis,),) = subplots(1, 1, (6, 5))
    axis.axhline(0.0, color="grey", linewidth=0.8)
    axis.axvline(0.0, color="grey", linewidth=0.8)
    for number, name in enumerate(x):
        axis.scatter(x[name], y[name], s=18, color=COLOURS[number % len(COLOURS)], label=name)
    axis.set(**texts)
    if len(x) > 1:
        axis.legend()
    save_png(figure, path)


def plot_classes(points: np.ndarray, labels: np.ndarray, path: Path, title: str) -> None:
    """Plot points `[n, 2]` with a colour for each class (Fig. 1)."""
    figure, ((axis,),) = subplots(1, 1, (7, 6))
    for number, name in enumerate(dict.fromkeys(labels.tolist())):
        axis.scatter(*points[labels == name].T, s=6, color=COLOURS[number % len(COLOURS)], label=name)
    axis.set(title=title, xticks=[], yticks=[])
    axis.legend(markerscale=3)
    save_png(figure, path)


def plot_marked(points: np.ndarray, labels: np.ndarray, is_marked: np.ndarray, path: Path, title: str) -> None:
    """Plot points `[n, 2]` with a panel for each class: its marked points red, other classes grey (Fig. 7)."""
    names = list(dict.fromkeys(labels.tolist()))
    columns = min(len(names), 4)
    rows = -(-len(names) // columns)
    figure, axes = subplots(rows, columns, (4 * columns, 4 * rows + 0.4))
    for number, axis in enumerate(axes.flat):
        axis.set_axis_off()
        if number < len(names):
            of_class = labels == names[number]
            axis.scatter(*points[~of_class].T, s=3, color="0.88")
            axis.scatter(*points[of_class & ~is_marked].T, s=5, color=COLOURS[number % len(COLOURS)])
            axis.scatter(*points[of_class & is_marked].T, s=7, color=MARKED)
            axis.set(title=f"{names[number]}: {(of_class & is_marked).sum()} of {of_class.sum()} red")
    figure.suptitle(title)
    save_png(figure, path)
