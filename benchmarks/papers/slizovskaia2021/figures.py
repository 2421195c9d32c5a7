"""Figures 3 to 6: `python -m benchmarks.papers.slizovskaia2021.figures --runs runs/exp6 runs/exp11 --out runs/figures`.

Boxes and bars are of evaluated runs, as they are reported: after two iterations of the Wiener filter, and Sound of
Pixels without.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.papers.slizovskaia2021.corpus import INSTRUMENTS
from benchmarks.papers.slizovskaia2021.paper import METRICS
from benchmarks.papers.slizovskaia2021.runs import Run, load, read_all
from qsep_jax.command_line import console
from qsep_jax.evaluation import segments
from qsep_jax.figures.spectrograms import save_png, strips, subplots
from qsep_jax.inference.cues import from_corpus, stem_excerpts

EXAMPLE = "python -m benchmarks.papers.slizovskaia2021.figures --runs runs/exp1 runs/exp6 runs/exp11 --out runs/figures"
RATIOS, BSS = METRICS[:3], METRICS[3:]
BOXES: dict[str, Any] = {"flierprops": {"markersize": 2}, "patch_artist": True}
FILTERED = (0, 1, 2)


@dataclasses.dataclass(frozen=True)
class Figures:
    """Draw Figures 3 to 6 of evaluated runs of configs/slizovskaia2021.py.

    Attributes:
      runs: run folders that `evaluate --protocol segments` has been through; all of them are in Figure 6.
      corpus: that they were evaluated on; by default their own.
      split: of the corpus.
      experiment: that Figures 3, 4 and 5 are of.
      baseline: beside it in Figure 4.
      figures: which to draw; those that lack their runs are left out and named.
      stem: the instrument of Figure 5, where it plays; of its segments the one whose SI-SDR is the median.
      root: folder of the prepared corpora for Figure 5, which separates; the run's own if left out.
      out: where the pictures go.
    """

    runs: tuple[Path, ...] = ()
    corpus: str = ""
    split: str = "test"
    experiment: int = 11
    baseline: int = 6
    figures: tuple[int, ...] = (3, 4, 5, 6)
    stem: str = "cello"
    root: str = ""
    out: Path = Path("runs/figures")


def _titled(run: Run) -> str:
    name = f"experiment {run.experiment}"
    return name if run.name == f"exp{run.experiment}" else f"{name} ({run.name})"


def by_instrument(run: Run, path: Path) -> None:
    """Boxes of SI-SDR, SD-SDR and PES of each instrument (Fig. 3)."""
    figure, axes = subplots(len(RATIOS), 1, (9, 9), sharex=True)
    for axis, metric in zip(axes[:, 0], RATIOS, strict=True):
        axis.boxplot([run.of(run.reported, metric, stem) for stem in INSTRUMENTS], **BOXES)
        axis.set(ylabel=f"{metric} in dB")
        axis.grid(axis="y", alpha=0.3)
    names = [stem.replace("_", " ") for stem in INSTRUMENTS]
    axes[-1, 0].set_xticks(range(1, len(names) + 1), names, rotation=30, ha="right")
    figure.suptitle(f"{_titled(run)} on {run.corpus}, {run.split}")
    save_png(figure, path)


def by_sources(runs: Sequence[Run], path: Path) -> None:
    """Boxes of SDR, SIR and SAR by the number of sources of a piece, two runs beside each other (Fig. 4)."""
    counts = sorted({len(track.facts["sources"]) for track in runs[0].tracks})
    figure, axes = subplots(1, len(BSS), (12, 4.5))
    width = 0.8 / len(runs)
    for axis, metric in zip(axes[0], BSS, strict=True):
        for number, run in enumerate(runs):
            values = [run.of(run.reported, metric, sources=count) for count in counts]
            places = np.arange(len(counts)) + (number - (len(runs) - 1) / 2) * width
            drawn = axis.boxplot(values, positions=places, widths=0.8 * width, **BOXES)
            for box in drawn["boxes"]:
                box.set_facecolor(f"C{number}")
            for line in drawn["medians"]:
                line.set_color("black")
            axis.plot([], [], color=f"C{number}", linewidth=6, label=_titled(run))
        axis.set_xticks(np.arange(len(counts)), counts)
        axis.set(xlabel="sources", ylabel=f"{metric} in dB")
        axis.grid(axis="y", alpha=0.3)
    axes[0, 0].legend(fontsize=8)
    figure.suptitle(f"{runs[0].corpus}, {runs[0].split}")
    save_png(figure, path)


def bars(runs: Sequence[Run], path: Path) -> None:
    """Mean ± standard deviation of SI-SDR, SD-SDR and PES of every run (Fig. 6)."""
    figure, axes = subplots(len(RATIOS), 1, (max(6.0, 0.7 * len(runs)), 8), sharex=True)
    names = [str(run.experiment) if run.name == f"exp{run.experiment}" else run.name for run in runs]
    for axis, metric in zip(axes[:, 0], RATIOS, strict=True):
        values = [run.of(run.reported, metric) for run in runs]
        means, errors = (
            [float(reduce(each)) if each.size else np.nan for each in values] for reduce in (np.mean, np.std)
        )
        axis.bar(np.arange(len(runs)), means, yerr=errors, capsize=3)
        axis.axhline(0.0, color="grey", linewidth=0.8)
        axis.set(ylabel=f"{metric} in dB")
        axis.grid(axis="y", alpha=0.3)
    axes[-1, 0].set_xticks(np.arange(len(runs)), names, rotation=0 if all(map(str.isdigit, names)) else 30)
    axes[-1, 0].set(xlabel="experiment")
    save_png(figure, path)


def typical(run: Run, stem: str) -> tuple[str, int, str]:
    """Track, segment and stem whose unfiltered SI-SDR is the median, of `stem` if it ever plays, or else of all."""
    found = run.values("model_w0", "SI-SDR") if "model_w0" in run.scores else {}
    own = {key: value for key, value in found.items() if key[2] == stem} or found
    chosen = sorted((value, key) for key, value in own.items())
    if not chosen:
        raise ValueError(f"{run.workdir} has no scores without a filter: evaluate it with --wiener 0 2")
    return chosen[len(chosen) // 2][1]


def filtered(run: Run, options: Figures) -> tuple[dict[str, Mapping[str, np.ndarray]], int]:
    """A row of Fig. 5: mixture, target, and the estimate after 0, 1 and 2 iterations, `[T, 1]`; and the rate."""
    track, segment, stem = typical(run, options.stem)
    model, corpus, features = load(run.workdir, options.corpus, options.split, options.root)

    def told(name: str) -> Any:
        return from_corpus(model, corpus, stem_excerpts(corpus, name), features)

    estimates = segments.model_estimators(model, told, FILTERED)
    (wanted,) = [each for each in segments.corpus_segments(corpus, model.system, estimates, {}) if each.name == track]
    references, samples = wanted.references(), model.system.chunk_samples
    place = slice(segment * samples, (segment + 1) * samples)
    signals = {"mixture": np.sum(list(references.values()), axis=0)[place], stem: references[stem][place]}
    signals |= {f"W = {count}": wanted.estimates[f"model_w{count}"](references)[stem][place] for count in FILTERED}
    return {f"{stem} in {track}": signals}, corpus.sample_rate


def main() -> None:
    options = console.parse(Figures, "python -m benchmarks.papers.slizovskaia2021.figures", EXAMPLE)
    console.cache_compilations()
    runs = read_all(options.runs, options.corpus, options.split)
    subject = next((run for run in runs if run.experiment == options.experiment), None)
    baseline = next((run for run in runs if run.experiment == options.baseline), None)
    options.out.mkdir(parents=True, exist_ok=True)
    for number in options.figures:
        path = options.out / f"figure{number}.png"
        if number == 6:
            bars(runs, path)
        elif subject is None or (number == 4 and baseline is None):
            needed = f"{options.baseline} and {options.experiment}" if number == 4 else str(options.experiment)
            print(f"Figure {number} is left out: it needs a run of experiment {needed}")
            continue
        elif number == 3:
            by_instrument(subject, path)
        elif number == 4 and baseline is not None:
            by_sources([baseline, subject], path)
        elif number == 5:
            rows, rate = filtered(subject, options)
            strips(rows, rate, path)
        else:
            raise ValueError(f"there is no Figure {number} here; there are 3, 4, 5 and 6")
        print(path)


if __name__ == "__main__":
    console.run(main)
