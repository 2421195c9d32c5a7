"""Table 1: `python -m benchmarks.papers.lin2021.table --workdir runs/msi --workdir runs/mss …`.

Separation and transcription of pairs of instruments by the last checkpoints of each run, for instruments that training
has seen and for those that it has not. Under the paper's numbers, which hold for URMP alone.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks.papers import published
from benchmarks.papers.lin2021 import figures
from benchmarks.papers.lin2021.pairs import Pair, as_lin2021, load_run, query, test_pairs, waveforms
from data_pipelines.annotations.notes import frame_classes, notes_from_classes
from data_pipelines.files import write_text
from data_pipelines.prepared.corpus import Corpus
from data_pipelines.progress import Progress
from data_pipelines.schema import CLASSES, INSTRUMENTS, SEEN_INSTRUMENTS, SILENCE_CLASS
from qsep_jax.command_line import console
from qsep_jax.inference.conditions import encode
from qsep_jax.inference.model import Model
from qsep_jax.inference.separation import separate
from qsep_jax.inference.transcription import separate_by_score, transcribe_blocks
from qsep_jax.metrics.bss_eval import bss_eval
from qsep_jax.metrics.oracles import ideal_ratio_mask
from qsep_jax.metrics.transcription import frame_average_precision, note_scores
from qsep_jax.runs.bundle import Bundle, find_model
from qsep_jax.systems.lin2021 import Lin2021

EXAMPLE = "python -m benchmarks.papers.lin2021.table --workdir runs/msi --workdir runs/mss --out runs/table"
# Table 1, URMP: SDR in dB and precision of seen, unseen and all instruments, mean ± 95 % over the last 10 epochs. The
# last two rows are not in the paper: its code publishes them.
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
    "SDR of BSS Eval v3 per source without competitors; AP: micro average precision of one-hot frame rolls with "
    "silence, estimated notes one frame longer; F1: notes by onset (50 ms) and pitch; mean over sources"
)

# Scores of one source: pair, place in it, stem, and the metrics of each system.
Scores = list[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Table:
    """Evaluate runs of configs/lin2021.py as Table 1 does, with the true scores as well.

    Attributes:
      workdir: a run folder; may be given several times.
      root: folder of the prepared corpora; the run's own if left out.
      corpus: another corpus with notes than the run's own.
      checkpoints: how many of the last ones to average over; those that a run keeps at most.
      pairs: mixtures at most (0: all there are).
      seconds: of each mixture, from its beginning on (0: whole tracks, as in the paper).
      seed: of the pairs, where none are published.
      out: where table, rows and pictures go.
    """

    workdir: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    root: str = ""
    corpus: str = ""
    checkpoints: int = 10
    pairs: int = 32
    seconds: float = 0.0
    seed: int = 2021
    out: Path | None = None


def name_of(system: Lin2021) -> str:
    """What the paper calls it."""
    if system.decoding == "nothing":
        return "AMT-only"
    if system.decoding == "skips":
        return "multi-task" if system.transcription else "MSS-only"
    return "MSI-DIS" if system.translation_invariance else "MSI"


def sdr(reference: np.ndarray, estimate: np.ndarray) -> float:
    """SDR of `[T, 1]` in dB, of version 3 without competitors."""
    scores = bss_eval(reference[None], estimate[None], 1.0, version="v3", metrics=("SDR",))
    return float(scores["SDR"][0, 0])


def held(classes: np.ndarray) -> np.ndarray:
    """Frames `[N]` with every note one frame longer where silence follows, as the authors' code draws estimates."""
    before = np.concatenate([[SILENCE_CLASS], classes[:-1]])
    return np.where(classes == SILENCE_CLASS, before, classes)


def score_pair(model: Model, corpus: Corpus, pair: Pair, seconds: float) -> Scores:
    """The scores of both sources of a pair."""
    system = as_lin2021(model.system, "the model")
    sources = waveforms(corpus, pair, seconds)
    mixture, length = sources.sum(0), sources.shape[1]
    rate, frames = system.frame_rate, -(-length // system.hop_length)
    notes = [corpus.notes(source.track, source.stem) for source in pair]
    notes = [rows[rows[:, 0] < length / corpus.sample_rate] for rows in notes]
    truths = [frame_classes(rows, frames, rate) for rows in notes]
    conditions = [encode(model, query(corpus, source)) for source in pair]
    written = []
    if "transcribe" in system.tasks:
        for condition in conditions:
            roll = np.concatenate(list(transcribe_blocks(model, [mixture], condition)))
            written.append(roll.argmax(-1).astype(np.int32))
    found = []
    for place, source in enumerate(pair):
        row: dict[str, Any] = {"track": source.track, "stem": source.stem, "place": place}
        if "separate" in system.tasks:
            row["sdr"] = sdr(sources[place], separate(model, mixture, conditions[place])[0])
        if "separate_by_score" in system.tasks:
            drawn = separate_by_score(model, [mixture], 1, conditions[place], truths[place])
            row["sdr_by_score"] = sdr(sources[place], np.concatenate(list(drawn), axis=1)[0])
        if written:
            one_hot = [np.eye(CLASSES)[classes] for classes in (truths[place], held(written[place]))]
            row["ap"] = frame_average_precision(*one_hot)
            for key, classes in {"f1": written[place], "f1_by_other": written[1 - place]}.items():
                row[key] = note_scores(notes[place], notes_from_classes(classes, rate, 0.05), offsets=False).f1
        found.append(row)
    return found


def score_bounds(corpus: Corpus, pair: Pair, seconds: float) -> Scores:
    """The mixture and the ideal ratio mask as estimates."""
    sources = waveforms(corpus, pair, seconds)
    masked = np.asarray(ideal_ratio_mask(jnp.asarray(sources[..., 0])))[..., None]
    return [
        {
            "track": source.track,
            "stem": source.stem,
            "place": place,
            "mixture": sdr(sources[place], sources.sum(0)),
            "irm": sdr(sources[place], masked[place]),
        }
        for place, source in enumerate(pair)
    ]


def kept(path: Path, facts: dict[str, Any], make: Callable[[], Scores]) -> Scores:
    """Scores that were made before of the same thing, or made and kept now."""
    if path.is_file():
        before = json.loads(path.read_text())
        if before["facts"] == facts:
            return before["scores"]
    scores = make()
    write_text(path, json.dumps({"facts": facts, "scores": scores}, indent=1))
    return scores


def group_means(scores: Scores, key: str) -> dict[str, float]:
    """Mean over the sources of seen, unseen and all instruments; NaN where there are none."""
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
    """For each group mean and 95 % interval over the checkpoints, `1.96 σ / √n` as the authors' code has it."""
    means = [group_means(scores, key) for scores in by_step.values()]
    found = {}
    for group in GROUPS:
        values = np.array([each[group] for each in means])
        found[group] = (float(values.mean()), float(1.96 * values.std() / np.sqrt(len(values))))
    return found


def rows_of(name: str, by_step: dict[int, Scores], facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of `results.json` for one run: each metric, group and instrument."""
    names = {"sdr": name, "ap": name, "f1": name, "f1_by_other": name, "sdr_by_score": f"{name}-S"}
    names |= {"mixture": "mixture", "irm": "ideal ratio mask"}
    metrics = {"sdr_by_score": "sdr", "mixture": "sdr", "irm": "sdr"}
    some = next(iter(by_step.values()))
    rows = []
    for key in [key for key in names if any(key in row for row in some)]:
        summaries = over_checkpoints(by_step, key)
        for stem in INSTRUMENTS:
            own = {step: [row for row in scores if row["stem"] == stem] for step, scores in by_step.items()}
            if own[next(iter(own))]:
                summaries[stem] = over_checkpoints(own, key)["all"]
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
    """Ours, then the paper's."""
    cells = {(row["system"], row["metric"], row["group"]): row for row in rows}
    metrics = ("sdr", "ap", "f1", "f1_by_other")

    def cell(system: str, metric: str, group: str) -> str:
        row = cells.get((system, metric, group))
        if row is None or np.isnan(row["mean"]):
            return "–"
        return f"{row['mean']:.2f} ± {row['ci95']:.2f}" if len(row["checkpoints"]) > 1 else f"{row['mean']:.2f}"

    columns = ["system"] + [f"{name} {group}" for name in ("SDR", "AP") for group in GROUPS]
    columns += ["note F1", "asked by the other's query"]
    lines = []
    for system in dict.fromkeys(row["system"] for row in rows):
        line = [cell(system, metric, group) for metric in metrics[:2] for group in GROUPS]
        lines.append([system, *line, *(cell(system, metric, "all") for metric in metrics[2:])])
    lines += [[f"{name}, paper, URMP", *values, "–", "–"] for name, values in PAPER.items()]
    return published.markdown(heading, columns, lines)


def minutes(corpus: Corpus) -> dict[str, dict[str, float]]:
    """What there is of each instrument in each split, variants left out (Fig. 2)."""
    found: dict[str, dict[str, float]] = {}
    for split, rows in corpus.metadata.index.items():
        found[split] = dict.fromkeys(INSTRUMENTS, 0.0)
        for row in rows:
            if not row.parent and row.stem in INSTRUMENTS:
                found[split][row.stem] += row.samples / corpus.sample_rate / 60
    return found


def evaluate(workdir: Path, options: Table) -> tuple[list[dict[str, Any]], str]:
    """The rows of one run with those of the bounds, and what they hold for. Scores stay in the run folder.

    Raises:
      ValueError: if it is no run of configs/lin2021.py with a checkpoint, or its corpus is not there.
    """
    experiment, corpus = load_run(workdir, options.corpus, options.root)
    run = find_model(str(workdir))
    if isinstance(run, Bundle):
        raise ValueError(f"{workdir} is a bundle, which has one state: give a run folder with its checkpoints")
    steps = run.steps()[-options.checkpoints :]
    if not steps:
        raise ValueError(f"{workdir} holds no whole checkpoint yet: train it first")
    pairs, system = test_pairs(corpus, options.pairs, options.seed), as_lin2021(experiment.system, str(options.workdir))
    facts = {"corpus": corpus.metadata.name, "fingerprint": corpus.metadata.fingerprint, "split": "test"}
    facts |= {"protocol": PROTOCOL, "seconds": options.seconds, "seed": options.seed, "pairs": len(pairs)}
    by_step = {}
    with Progress(f"{workdir.name}, {len(steps)} checkpoints", len(steps) * len(pairs), unit="pair") as progress:
        for step in steps:
            model = run.load(step)[1]

            def score(model: Model = model) -> Scores:
                return [
                    row for pair in progress.over(pairs) for row in score_pair(model, corpus, pair, options.seconds)
                ]

            by_step[step] = kept(run.path / "lin2021" / f"{step}.json", {**facts, "step": step}, score)
    bounds = [row for pair in pairs for row in score_bounds(corpus, pair, options.seconds)]
    rows = rows_of("bounds", {0: bounds}, facts)
    rows += rows_of(name_of(system), by_step, {**facts, "run": run.path.resolve().name})
    how_long = f"their first {options.seconds:g} s" if options.seconds else "whole tracks"
    return rows, f"{facts['corpus']} at {corpus.sample_rate} Hz, test split, {len(pairs)} pairs, {how_long}; {PROTOCOL}"


def main() -> None:
    options = console.parse(Table, "python -m benchmarks.papers.lin2021.table", EXAMPLE)
    if not options.workdir:
        raise ValueError(f"--workdir is needed. Example: {EXAMPLE}")
    console.need_positive(options, "checkpoints")
    console.cache_compilations()
    out = options.out or options.workdir[0] / "lin2021"
    out.mkdir(parents=True, exist_ok=True)
    found = [evaluate(workdir, options) for workdir in options.workdir]
    rows, heading = found[0]
    rows += [row for more, _ in found[1:] for row in more if "run" in row]  # the bounds once
    figures.by_instrument(rows, out / "instruments.png")
    figures.durations(minutes(load_run(options.workdir[0], options.corpus, options.root)[1]), out / "durations.png")
    published.publish(out, rows, table(rows, heading))


if __name__ == "__main__":
    console.run(main)
