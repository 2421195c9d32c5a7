"""Scores of a run as in Table 1: both sources of test pairs, separated and transcribed by its last checkpoints."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from benchmarks.papers.lin2021.frames import frame_precision
from benchmarks.papers.lin2021.pairs import CutBy, Pair, as_lin2021, load_run, query, test_pairs, waveforms
from data_pipelines.annotations.notes import frame_classes, notes_from_classes
from data_pipelines.files import read_json, write_json
from data_pipelines.prepared.corpus import Corpus
from data_pipelines.progress import Progress
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

PROTOCOL = (
    "SDR of BSS Eval v3 per source without competitors; AP: micro average precision of frame rolls with silence, true "
    "and estimated notes up to and including the frame of their offset, to the last true note; F1: notes by onset "
    "(50 ms) and pitch; mean over sources"
)


# A row per source: the track, the index of the source in its pair (`place`), the stem, and the metrics.
Scores = list[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class ScoreOptions:
    """Options of the scores of a run.

    Attributes:
      root: Folder of the prepared corpora (by default, the run's).
      corpus: Another corpus with notes (by default, the run's).
      checkpoints: Number of last checkpoints to score; at most those that a run keeps.
      pairs: Maximal number of mixtures (0: all).
      seconds: Length of the excerpt from the beginning of each mixture (0: complete tracks, as in the paper).
      queries: Cut silence from the queries by the `notes` of their tracks, or by `energy` as in the authors' tests,
        which needs no annotation.
      seed: Seed of the pairs, if none are published for the corpus.
    """

    root: str = ""
    corpus: str = ""
    checkpoints: int = 10
    pairs: int = 32
    seconds: float = 0.0
    queries: CutBy = "notes"
    seed: int = 2021


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


def score_run(workdir: Path, options: ScoreOptions) -> ScoredRun:
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
    pairs, system = test_pairs(corpus, options.pairs, options.seed), as_lin2021(experiment.system, str(workdir))
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
