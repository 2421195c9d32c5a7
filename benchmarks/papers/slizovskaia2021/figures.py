"""Figures 3 to 6: `python -m benchmarks.papers.slizovskaia2021.figures --runs runs/exp6 runs/exp11 --out runs/figures`.

Box plots and bars show the estimates that the paper reports: after two iterations of the Wiener filter, or unfiltered
for Sound of Pixels.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from benchmarks.papers.slizovskaia2021.corpus import INSTRUMENTS
from benchmarks.papers.slizovskaia2021.paper import METRICS
from benchmarks.papers.slizovskaia2021.recorded import read_recorded
from benchmarks.papers.slizovskaia2021.runs import Run, in_order, load, of_length, read
from qsep_jax.command_line import console
from qsep_jax.evaluation import segments
from qsep_jax.figures.spectrograms import save_png, strips, subplots
from qsep_jax.inference.cues import from_corpus, stem_excerpts

EXAMPLE = "python -m benchmarks.papers.slizovskaia2021.figures --runs runs/exp1 runs/exp6 runs/exp11 --out runs/figures"
RATIOS, BSS = METRICS[:3], METRICS[3:]
BOXES: dict[str, Any] = {"flierprops": {"markersize": 2}, "patch_artist": True}
WIENER_ITERATIONS = (0, 1, 2)


@dataclasses.dataclass(frozen=True)
class Figures:
    """Plot Figures 3 to 6 from evaluated runs of configs/slizovskaia2021.py.

    Attributes:
      runs: Run folders evaluated with `qsep evaluate segments`; all of them are in Figure 6.
      record: Records of further runs, or folders of records; Figure 5 needs a run folder.
      corpus: Corpus of the evaluation (by default, the runs').
      split: Split of the corpus.
      experiment: Experiment in Figures 3, 4 and 5.
      baseline: Experiment that Figure 4 compares it with.
      figures: Numbers of the figures; a figure whose runs are missing is skipped with a message.
      stem: Instrument of Figure 5, which shows its segment with the median SI-SDR; any instrument if it never plays.
      root: Folder of the prepared corpora for Figure 5, which separates a track (by default, the run's).
      out: Folder for the figures.
    """

    runs: tuple[Path, ...] = ()
    record: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    corpus: str = ""
    split: str = "test"
    experiment: int = 11
    baseline: int = 6
    figures: tuple[int, ...] = (3, 4, 5, 6)
    stem: str = "cello"
    root: str = ""
    out: Path = Path("runs/figures")


def _run_title(run: Run) -> str:
    name = f"experiment {run.experiment}"
    return name if run.name == f"exp{run.experiment}" else f"{name} ({run.name})"


def plot_instruments(run: Run, path: Path) -> None:
    """Plot SI-SDR, SD-SDR and PES of each instrument as boxes (Fig. 3)."""
    figure, axes = subplots(len(RATIOS), 1, (9, 9), sharex=True)
    for axis, metric in zip(axes[:, 0], RATIOS, strict=True):
        axis.boxplot([run.of(run.reported, metric, stem) for stem in INSTRUMENTS], **BOXES)
        axis.set(ylabel=f"{metric} in dB")
        axis.grid(axis="y", alpha=0.3)
    names = [stem.replace("_", " ") for stem in INSTRUMENTS]
    axes[-1, 0].set_xticks(range(1, len(names) + 1), names, rotation=30, ha="right")
    figure.suptitle(f"{_run_title(run)} on {run.corpus}, {run.split}")
    save_png(figure, path)


def plot_source_counts(runs: Sequence[Run], path: Path) -> None:
    """Plot SDR, SIR and SAR by the number of sources of a piece as boxes, for two runs (Fig. 4)."""
    counts = sorted({len(track.facts["sources"]) for track in runs[0].tracks})
    figure, axes = subplots(1, len(BSS), (12, 4.5))
    width = 0.8 / len(runs)
    for axis, metric in zip(axes[0], BSS, strict=True):
        for number, run in enumerate(runs):
            values = [run.of(run.reported, metric, sources=count) for count in counts]
            positions = np.arange(len(counts)) + (number - (len(runs) - 1) / 2) * width
            artists = axis.boxplot(values, positions=positions, widths=0.8 * width, **BOXES)
            for box in artists["boxes"]:
                box.set_facecolor(f"C{number}")
            for line in artists["medians"]:
                line.set_color("black")
            axis.plot([], [], color=f"C{number}", linewidth=6, label=_run_title(run))
        axis.set_xticks(np.arange(len(counts)), counts)
        axis.set(xlabel="sources", ylabel=f"{metric} in dB")
        axis.grid(axis="y", alpha=0.3)
    axes[0, 0].legend(fontsize=8)
    figure.suptitle(f"{runs[0].corpus}, {runs[0].split}")
    save_png(figure, path)


def plot_experiments(runs: Sequence[Run], path: Path) -> None:
    """Plot mean ± standard deviation of SI-SDR, SD-SDR and PES of every run as bars (Fig. 6)."""
    figure, axes = subplots(len(RATIOS), 1, (max(6.0, 0.7 * len(runs)), 8), sharex=True)
    names = [str(run.experiment) if run.name == f"exp{run.experiment}" else run.name for run in runs]
    for axis, metric in zip(axes[:, 0], RATIOS, strict=True):
        values = [run.of(run.reported, metric) for run in runs]
        means, errors = (
            [float(reduce(scores)) if scores.size else np.nan for scores in values] for reduce in (np.mean, np.std)
        )
        axis.bar(np.arange(len(runs)), means, yerr=errors, capsize=3)
        axis.axhline(0.0, color="grey", linewidth=0.8)
        axis.set(ylabel=f"{metric} in dB")
        axis.grid(axis="y", alpha=0.3)
    axes[-1, 0].set_xticks(np.arange(len(runs)), names, rotation=0 if all(map(str.isdigit, names)) else 30)
    axes[-1, 0].set(xlabel="experiment")
    save_png(figure, path)


def median_segment(run: Run, stem: str) -> tuple[str, int, str]:
    """The segment with the median unfiltered SI-SDR: of `stem` if it ever plays, else of all stems.

    Raises:
      ValueError: if the run has no scores of unfiltered estimates.
    """
    scores = run.values("model_w0", "SI-SDR") if "model_w0" in run.scores else {}
    stem_scores = {key: value for key, value in scores.items() if key[2] == stem} or scores
    ordered = sorted((value, key) for key, value in stem_scores.items())
    if not ordered:
        raise ValueError(f"{run.workdir} has no scores of unfiltered estimates: evaluate it with --wiener 0 2")
    return ordered[len(ordered) // 2][1]


def panels_of(run: Run, options: Figures) -> tuple[dict[str, Mapping[str, np.ndarray]], int]:
    """The row of Fig. 5 (mixture, reference, and estimates after 0, 1 and 2 iterations, `[T, 1]`); the sample rate."""
    track, segment, stem = median_segment(run, options.stem)
    if run.workdir is None:
        raise ValueError(f"Figure 5 separates a segment, which needs the run folder of {run.name}: give it by --runs")
    model, corpus, features = load(run.workdir, options.corpus, options.split, options.root)
    model = of_length(model, run.tracks[0].protocol.window)

    def condition_of(name: str) -> Any:
        return from_corpus(model, corpus, stem_excerpts(corpus, name), features)

    estimates = segments.model_estimators(model, condition_of, WIENER_ITERATIONS)
    tracks = segments.corpus_segments(corpus, model.system, estimates, {})
    (scored_track,) = [candidate for candidate in tracks if candidate.name == track]
    references, samples = scored_track.references(), model.system.chunk_samples
    span = slice(segment * samples, (segment + 1) * samples)
    panels = {"mixture": np.sum(list(references.values()), axis=0)[span], stem: references[stem][span]}
    for count in WIENER_ITERATIONS:
        panels[f"W = {count}"] = scored_track.estimates[f"model_w{count}"](references)[stem][span]
    return {f"{stem} in {track}": panels}, corpus.sample_rate


def main() -> None:
    options = console.parse(Figures, "python -m benchmarks.papers.slizovskaia2021.figures", EXAMPLE)
    console.cache_compilations()
    read_runs = [read(workdir, options.corpus, options.split) for workdir in options.runs]
    runs = in_order([*read_runs, *read_recorded(options.record)])
    run = next((run for run in runs if run.experiment == options.experiment), None)
    baseline = next((run for run in runs if run.experiment == options.baseline), None)
    options.out.mkdir(parents=True, exist_ok=True)
    for number in options.figures:
        path = options.out / f"figure{number}.png"
        if number == 6:
            plot_experiments(runs, path)
        elif run is None or (number == 4 and baseline is None):
            needed = f"{options.baseline} and {options.experiment}" if number == 4 else str(options.experiment)
            print(f"Figure {number} is skipped: it needs a run of experiment {needed}")
            continue
        elif number == 3:
            plot_instruments(run, path)
        elif number == 4 and baseline is not None:
            plot_source_counts([baseline, run], path)
        elif number == 5:
            rows, rate = panels_of(run, options)
            strips(rows, rate, path)
        else:
            raise ValueError(f"Figure {number} is not available; choose from 3, 4, 5 and 6")
        print(path)


if __name__ == "__main__":
    console.run(main)
