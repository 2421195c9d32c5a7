"""Pictures of the experiments, as the paper has them: PNGs that appear when they are whole."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from qsep_jax.figures.spectrograms import save_png, subplots

MARKED = "red"
# Of classes: none is red, and with more classes than colours they are used again.
COLOURS = ("C0", "C1", "C2", "C4", "C5", "C6", "C7", "C8", "C9")


def shares(alphas: Sequence[float], curves: Mapping[str, tuple[np.ndarray, np.ndarray]], path: Path) -> None:
    """The share of the first source over α: for each pair mean and half width of its interval."""
    figure, ((axis,),) = subplots(1, 1, (6, 4))
    for name, (mean, interval) in curves.items():
        axis.errorbar(alphas, mean, interval, label=name, marker="o", capsize=3)
    axis.set(xlabel="α", ylabel="share of the first source in the energy", ylim=(-0.05, 1.05))
    axis.grid(alpha=0.3)
    axis.legend()
    save_png(figure, path)


def scatter(x: Mapping[str, np.ndarray], y: Mapping[str, np.ndarray], path: Path, **texts: str) -> None:
    """Points by group, with lines through zero (Fig. 6); `texts` are title and labels of the axes."""
    figure, ((axis,),) = subplots(1, 1, (6, 5))
    axis.axhline(0.0, color="grey", linewidth=0.8)
    axis.axvline(0.0, color="grey", linewidth=0.8)
    for number, name in enumerate(x):
        axis.scatter(x[name], y[name], s=18, color=COLOURS[number % len(COLOURS)], label=name)
    axis.set(**texts)
    if len(x) > 1:
        axis.legend()
    save_png(figure, path)


def classes(points: np.ndarray, labels: np.ndarray, path: Path, title: str) -> None:
    """Points `[n, 2]` in a colour for each class (Fig. 1)."""
    figure, ((axis,),) = subplots(1, 1, (7, 6))
    for number, name in enumerate(dict.fromkeys(labels.tolist())):
        axis.scatter(*points[labels == name].T, s=6, color=COLOURS[number % len(COLOURS)], label=name)
    axis.set(title=title, xticks=[], yticks=[])
    axis.legend(markerscale=3)
    save_png(figure, path)


def marked(points: np.ndarray, labels: np.ndarray, marks: np.ndarray, path: Path, title: str) -> None:
    """The same points, a panel for each class: its points, red those that `marks` names, the others grey (Fig. 7)."""
    names = list(dict.fromkeys(labels.tolist()))
    columns = min(len(names), 4)
    rows = -(-len(names) // columns)
    figure, axes = subplots(rows, columns, (4 * columns, 4 * rows + 0.4))
    for number, axis in enumerate(axes.flat):
        axis.set_axis_off()
        if number < len(names):
            own = labels == names[number]
            axis.scatter(*points[~own].T, s=3, color="0.88")
            axis.scatter(*points[own & ~marks].T, s=5, color=COLOURS[number % len(COLOURS)])
            axis.scatter(*points[own & marks].T, s=7, color=MARKED)
            axis.set(title=f"{names[number]}: {(own & marks).sum()} of {own.sum()} red")
    figure.suptitle(title)
    save_png(figure, path)
