"""Table 1: `python -m benchmarks.papers.lin2021.table --workdir runs/msi --workdir runs/mss …`.

The last checkpoints of each run separate and transcribe pairs of instruments, some of which are in the training set
(seen) and some are not (unseen). The table has the results and the paper's numbers, which are for URMP.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks.papers import published
from benchmarks.papers.lin2021 import figures
from benchmarks.papers.lin2021.frames import frame_precision
from benchmarks.papers.lin2021.pairs import CutBy, Pair, as_lin2021, load_run, query, test_pairs, waveforms
from data_pipelines.annotations.notes import frame_classes, notes_from_classes
from data_pipelines.files import read_json, write_json
from data_pipelines.prepared.corpus import Corpus
from data_pipelines.progress import Progress
from data_pipelines.schema import INSTRUMENTS, SEEN_INSTRUMENTS
from qsep_jax.command_line import console
from qsep_jax.inference.conditions import encode
from qsep_jax.inference.model import Model
from qsep_jax.inference.separation import separate
from qsep_jax.inference.transcription import separate_by_score, transcribe_blocks
from qsep_jax.metrics.bss_eval import bss_eval
from qsep_jax.metrics.oracles import ideal_ratio_mask
from qsep_jax.metrics.transcription import note_scores
from qsep_jax.runs.bundle import Bundle, find_model
from qsep_jax.runs.folder import RunFolder
from qsep_jax.systems.lin2021 import Lin2021

EXAMPLE = "python -m benchmarks.papers.lin2021.table --workdir runs/msi --workdir runs/mss --out runs/table"
# Table 1, URMP: SDR in dB and precision for seen, unseen and all instruments, mean ± 95 % over the last 10 epochs. The
# last two rows are not in the paper; the authors' code repository has them.
PAPER = {
    "AMT-only": ("–", "–", "–", "0.72 ± 0.01", "0.61 ± 0.01", "0.69 ± 0.01"),
    "MSS-only": ("4.69 ± 0.31", "6.20 ± 0.26", "5.07 ± 0.22", "–", "–", "–"),
    "multi-task": ("3.32 ± 0.18", "4.63 ± 0.34", "3.65 ± 0.22", "0.72 ± 0.04", "0.58 ± 0.02", "0.69 ± 0.03"),
    "MSI": ("6.33 ± 0.17", "5.53 ± 0.15", "6.13 ± 0.15", "0.71 ± 0.01", "0.61 ± 0.01", "0.69 ± 0.01"),
    "MSI-DIS": ("5.04 ± 0.16", "3.99 ± 0.22", "4.77 ± 0.14", "0.72 ± 0.01", "0.59 ± 0.01", "0.68 ± 0.00"),
    "MSI-S": ("9.07", "9.64", "9.22", "–", "–", "–"),
    "MSI-DIS-S": ("7.34", "7.05", "7.26", "–", "–", "–"),
}
GROUPS = ("seen", "unseen", "all")
PROTOCOL = (
    "SDR of BSS Eval v3 per source without competitors; AP: micro average precision of frame rolls with silence, true "
    "and estimated notes up to and including the frame of their offset, to the last true note; F1: notes by onset "
    "(50 ms) and pitch; mean over sources"
)

# A row per source: the track, the index of the source in its pair (`place`), the stem, and the metrics.
Scores = list[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Table:
    """Evaluate runs of configs/lin2021.py as in Table 1, also with the true notes as the condition.

    Attributes:
      workdir: Run folder; the option may be repeated.
      root: Folder of the prepared corpora (by default, the run's).
      corpus: Another corpus with notes (by default, the run's).
      checkpoints: Number of last checkpoints to average over; at most those that a run keeps.
      pairs: Maximal number of mixtures (0: all).
      seconds: Length of the excerpt from the beginning of each mixture (0: complete tracks, as in the paper).
      queries: Cut silence from the queries by the `notes` of their tracks, or by `energy` as in the authors' tests,
        which needs no annotation.
      seed: Seed of the pairs, if none are published for the corpus.
      out: Folder for the table, the rows and the figures (by default, `lin2021` in the first run folder).
    """

    workdir: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    root: str = ""
    corpus: str = ""
    checkpoints: int = 10
    pairs: int = 32
    seconds: float = 0.0
    queries: CutBy = "notes"
    seed: int = 2021
    out: Path | None = None


def name_of(system: Lin2021) -> str:
    """The paper's name of a system."""
    if system.decoding == "nothing":
        return "AMT-only"
    if system.decoding == "skips":
        return "multi-task" if system.transcription else "MSS-only"
    return "MSI-DIS" if system.translation_invariance else "MSI"


def sdr(reference: np.ndarray, estimate: np.ndarray) -> float:
    """The SDR of an estimate `[T, 1]` in dB, by BSS Eval v3 with a single source."""
    scores = bss_eval(reference[None], estimate[None], 1.0, version="v3", metrics=("SDR",))
    return float(scores["SDR"][0, 0])


def score_pair(model: Model, corpus: Corpus, pair: Pair, seconds: float, queries: CutBy = "notes") -> Scores:
    """The scores of both sources of a pair."""
    system = as_lin2021(model.system, "the model")
    sources = waveforms(corpus, pair, seconds)
    mixture, length = sources.sum(0), sources.shape[1]
    rate, frames = system.frame_rate, -(-length // system.hop_length)
    all_notes = [corpus.notes(source.track, source.stem) for source in pair]
    notes = [rows[rows[:, 0] < length / corpus.sample_rate] for rows in all_notes]
    references = [frame_classes(rows, frames, rate) for rows in notes]
    conditions = [encode(model, query(corpus, source, queries)) for source in pair]
    transcriptions = []
    if "transcribe" in system.tasks:
        for condition in conditions:
            roll = np.concatenate(list(transcribe_blocks(model, [mixture], condition)))
            transcriptions.append(roll.argmax(-1).astype(np.int32))
    scores = []
    for index, source in enumerate(pair):
        row: dict[str, Any] = {"track": source.track, "stem": source.stem, "place": index}
        if "separate" in system.tasks:
            row["sdr"] = sdr(sources[index], separate(model, mixture, conditions[index])[0])
        if "separate_by_score" in system.tasks:
            estimate = separate_by_score(model, [mixture], 1, conditions[index], references[index])
            row["sdr_by_score"] = sdr(sources[index], np.concatenate(list(estimate), axis=1)[0])
        if transcriptions:
            # As published, the true notes of the longer source are not cut to the length of the mixture.
            scored = frames if seconds else -(-corpus.length(source.track, source.stem) // system.hop_length)
            row["ap"] = frame_precision(all_notes[index], transcriptions[index], rate, scored)
            for key, classes in {"f1": transcriptions[index], "f1_by_other": transcriptions[1 - index]}.items():
                row[key] = note_scores(notes[index], notes_from_classes(classes, rate, 0.05), offsets=False).f1
        scores.append(row)
    return scores


def score_bounds(corpus: Corpus, pair: Pair, seconds: float) -> Scores:
    """The SDR of the mixture and of the ideal ratio mask as estimates of both sources of a pair."""
    sources = waveforms(corpus, pair, seconds)
    masked = np.asarray(ideal_ratio_mask(jnp.asarray(sources[..., 0])))[..., None]
    return [
        {
            "track": source.track,
            "stem": source.stem,
            "place": index,
            "mixture": sdr(sources[index], sources.sum(0)),
            "irm": sdr(sources[index], masked[index]),
        }
        for index, source in enumerate(pair)
    ]


def cached_scores(path: Path, facts: dict[str, Any], compute: Callable[[], Scores]) -> Scores:
    """The scores in a file if they are for the same facts; otherwise compute them and write the file."""
    if path.is_file():
        content = read_json(path, "delete the file to compute its scores again")
        if content["facts"] == facts:
            return content["scores"]
    scores = compute()
    write_json(path, {"facts": facts, "scores": scores}, indent=1)
    return scores


def group_means(scores: Scores, key: str) -> dict[str, float]:
    """The mean over the sources of seen, unseen and all instruments; NaN for a group without sources."""
    means = {}
    for group in GROUPS:
        values = [
            row[key]
            for row in scores
            if key in row and (group == "all" or (row["stem"] in SEEN_INSTRUMENTS) == (group == "seen"))
        ]
        means[group] = float(np.nanmean(values)) if values else float("nan")
    return means


def over_checkpoints(by_step: dict[int, Scores], key: str) -> dict[str, tuple[float, float]]:
    """The mean and the 95 % interval (`1.96 σ / √n`, as in the authors' code) over the checkpoints, by group."""
    means = [group_means(scores, key) for scores in by_step.values()]
    summaries = {}
    for group in GROUPS:
        values = np.array([checkpoint_means[group] for checkpoint_means in means])
        summaries[group] = (float(values.mean()), float(1.96 * values.std() / np.sqrt(len(values))))
    return summaries


def rows_of(name: str, by_step: dict[int, Scores], facts: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of `results.json` for one run: one for each metric and each group or instrument."""
    names = {"sdr": name, "ap": name, "f1": name, "f1_by_other": name, "sdr_by_score": f"{name}-S"}
    names |= {"mixture": "mixture", "irm": "ideal ratio mask"}
    metrics = {"sdr_by_score": "sdr", "mixture": "sdr", "irm": "sdr"}
    first_scores = next(iter(by_step.values()))
    rows = []
    for key in [key for key in names if any(key in row for row in first_scores)]:
        summaries = over_checkpoints(by_step, key)
        for stem in INSTRUMENTS:
            of_stem = {step: [row for row in scores if row["stem"] == stem] for step, scores in by_step.items()}
            if of_stem[next(iter(of_stem))]:
                summaries[stem] = over_checkpoints(of_stem, key)["all"]
        for group, (mean, interval) in summaries.items():
            row = {
                "system": names[key],
                "metric": metrics.get(key, key),
                "group": group,
                "mean": mean,
                "ci95": interval,
            }
            rows.append({**facts, **row, "checkpoints": list(by_step)})
    return rows


def table(rows: list[dict[str, Any]], heading: str) -> str:
    """The Markdown table: our rows, then the paper's."""
    cells = {(row["system"], row["metric"], row["group"]): row for row in rows}
    metrics = ("sdr", "ap", "f1", "f1_by_other")

    def cell(system: str, metric: str, group: str) -> str:
        row = cells.get((system, metric, group))
        if row is None or np.isnan(row["mean"]):
            return "–"
        return f"{row['mean']:.2f} ± {row['ci95']:.2f}" if len(row["checkpoints"]) > 1 else f"{row['mean']:.2f}"

    columns = ["system"] + [f"{name} {group}" for name in ("SDR", "AP") for group in GROUPS]
    columns += ["note F1", "note F1, query of the other instrument"]
    lines = []
    for system in dict.fromkeys(row["system"] for row in rows):
        line = [cell(system, metric, group) for metric in metrics[:2] for group in GROUPS]
        lines.append([system, *line, *(cell(system, metric, "all") for metric in metrics[2:])])
    lines += [[f"{name}, paper", *values, "–", "–"] for name, values in PAPER.items()]
    return published.markdown(f"{heading}; the paper's rows are for URMP", columns, lines)


def minutes_of_instruments(corpus: Corpus) -> dict[str, dict[str, float]]:
    """The minutes of each instrument in each split, without augmented variants (Fig. 2)."""
    minutes: dict[str, dict[str, float]] = {}
    for split, rows in corpus.metadata.index.items():
        minutes[split] = dict.fromkeys(INSTRUMENTS, 0.0)
        for row in rows:
            if not row.parent and row.stem in INSTRUMENTS:
                minutes[split][row.stem] += row.samples / corpus.sample_rate / 60
    return minutes


@dataclasses.dataclass(frozen=True)
class ScoredRun:
    """The scores of a run.

    Attributes:
      facts: What the scores depend on, other than the run.
      by_step: Scores of each checkpoint.
      bounds: Scores of the mixture and of the ideal ratio mask.
      sample_rate: Sample rate of the system in Hz.
    """

    run: RunFolder
    system: Lin2021
    facts: dict[str, Any]
    by_step: dict[int, Scores]
    bounds: Scores
    sample_rate: int

    @property
    def heading(self) -> str:
        """The data and the protocol of the scores."""
        facts = self.facts
        length = f"their first {facts['seconds']:g} s" if facts["seconds"] else "complete tracks"
        data = f"{facts['corpus']} at {self.sample_rate} Hz, test split, {facts['pairs']} pairs, {length}"
        return f"{data}; {facts['protocol']}"


def score_run(workdir: Path, options: Table) -> ScoredRun:
    """Score the last checkpoints of a run. Scores are stored in the run folder, and computed only once.

    Raises:
      ValueError: if the folder has no run of configs/lin2021.py with a checkpoint, or if its corpus is not prepared.
    """
    experiment, corpus = load_run(workdir, options.corpus, options.root)
    run = find_model(str(workdir))
    if isinstance(run, Bundle):
        raise ValueError(f"{workdir} is a bundle, which has a single checkpoint: give a run folder")
    steps = run.steps()[-options.checkpoints :]
    if not steps:
        raise ValueError(f"{workdir} has no complete checkpoint yet: train it first")
    pairs, system = test_pairs(corpus, options.pairs, options.seed), as_lin2021(experiment.system, str(options.workdir))
    facts = {"corpus": corpus.metadata.name, "fingerprint": corpus.metadata.fingerprint, "split": "test"}
    protocol = f"queries cut by {options.queries}; {PROTOCOL}"
    facts |= {"protocol": protocol, "seconds": options.seconds, "seed": options.seed, "pairs": len(pairs)}
    by_step = {}
    with Progress(f"{workdir.name}, {len(steps)} checkpoints", len(steps) * len(pairs), unit="pair") as progress:
        for step in steps:
            model = run.at(step).load()[1]

            def score(model: Model = model) -> Scores:
                return [
                    row
                    for pair in progress.over(pairs)
                    for row in score_pair(model, corpus, pair, options.seconds, options.queries)
                ]

            by_step[step] = cached_scores(run.path / "lin2021" / f"{step}.json", {**facts, "step": step}, score)
    bounds = [row for pair in pairs for row in score_bounds(corpus, pair, options.seconds)]
    return ScoredRun(run, system, facts, by_step, bounds, corpus.sample_rate)


def evaluate(workdir: Path, options: Table) -> tuple[list[dict[str, Any]], str]:
    """The rows of one run and of the bounds, and a heading for them."""
    scored = score_run(workdir, options)
    rows = rows_of("bounds", {0: scored.bounds}, scored.facts)
    run_facts = {**scored.facts, "run": scored.run.path.resolve().name}
    return rows + rows_of(name_of(scored.system), scored.by_step, run_facts), scored.heading


def main() -> None:
    options = console.parse(Table, "python -m benchmarks.papers.lin2021.table", EXAMPLE)
    if not options.workdir:
        raise ValueError(f"--workdir is needed. Example: {EXAMPLE}")
    console.need_positive(options, "checkpoints")
    console.cache_compilations()
    out = options.out or options.workdir[0] / "lin2021"
    out.mkdir(parents=True, exist_ok=True)
    results = [evaluate(workdir, options) for workdir in options.workdir]
    rows, heading = results[0]
    rows += [row for run_rows, _ in results[1:] for row in run_rows if "run" in row]  # the bounds only once
    figures.plot_instruments(rows, out / "instruments.png")
    _, corpus = load_run(options.workdir[0], options.corpus, options.root)
    figures.plot_durations(minutes_of_instruments(corpus), out / "durations.png")
    published.publish(out, rows, table(rows, heading))


if __name__ == "__main__":
    console.run(main)
