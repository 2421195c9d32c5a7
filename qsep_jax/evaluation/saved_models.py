"""Evaluation of a saved model, a run or a bundle, on excerpts, on complete tracks, or on segments."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from data_pipelines.prepared.corpus import Corpus
from qsep_jax.evaluation import excerpts, segments
from qsep_jax.evaluation.comparison import Evaluation, by_track
from qsep_jax.evaluation.estimates import Oracle, QueryMode, at_sample_rate, model_estimators, oracle_estimators
from qsep_jax.evaluation.leakage import refuse_overlap
from qsep_jax.evaluation.segment_report import by_segment, write_segment_report
from qsep_jax.evaluation.tracks import corpus_tracks, score_tracks, write_report
from qsep_jax.inference.cues import MixtureCondition, features_of, from_corpus, stem_excerpts
from qsep_jax.inference.model import Model
from qsep_jax.metrics.protocols import Protocol
from qsep_jax.runs.bundle import SavedModel, find_model, identity
from qsep_jax.runs.experiment import Experiment
from qsep_jax.runs.folder import Step
from qsep_jax.systems.capabilities import with_frames


@dataclasses.dataclass(frozen=True)
class TrackSelection:
    """The tracks that a model is evaluated on; an empty field stands for the value of the model's experiment.

    Attributes:
      root: Folder of the prepared corpora.
      corpus: Name of a corpus that has stems of the model.
      split: Split of the corpus: `train`, `validation` or `test`.
      tracks: Number of tracks, in the order of their names; 0 for all.
    """

    root: str = ""
    corpus: str = ""
    split: str = ""
    tracks: int = 0


def evaluate_excerpts(
    name: str,
    *,
    root: str = "",
    split: str = "",
    mixtures: int = 0,
    sources: int = 0,
    audio: int = 10,
    out: Path | None = None,
    step: Step = "best",
) -> Evaluation:
    """Score a saved model on the list of excerpts of its experiment, or on another list.

    Args:
      name: Run folder, bundle or name of a bundled model.
      step: Checkpoint of a run folder.
      root: Folder of the prepared corpora; by default the folder of the run.
      split: Split of the corpus; by default, as for the next two, that of the experiment.
      mixtures: Number of mixtures of the list.
      sources: Number of stems in each mixture, for lists that combine stems at random.
      audio: Number of mixtures of which audio files are written.
      out: Folder for the results; by default a folder in the model's `evaluation` that names what differs from the
        experiment.

    Raises:
      ValueError: if the model does not separate, or its list cannot be drawn.
    """
    saved, experiment, model = _load(name, root, step)
    if sources and experiment.evaluation.kind != "pairs":
        raise ValueError("--sources is for lists that combine stems at random; the list of this run takes whole tracks")
    options = {"split": split, "mixtures": mixtures, "sources": sources}
    changes = {option: value for option, value in options.items() if value}
    experiment = dataclasses.replace(experiment, evaluation=dataclasses.replace(experiment.evaluation, **changes))
    if root:
        changes["root"] = Path(root).resolve().name
    folder = out or saved.evaluation / "_".join(f"{option}_{value}" for option, value in changes.items())
    rows = excerpts.evaluate(saved, experiment, model, folder, audio)
    data = f"{rows[0]['corpus']} at {model.system.sample_rate} Hz, {rows[0]['split']} split"
    what = f"SI-SDR improvement; {data}; {rows[0]['protocol']}"
    return Evaluation(excerpts.table(rows), folder, {what: excerpts.improvements(folder)})


def evaluate_tracks(
    name: str,
    protocol: Protocol,
    data: TrackSelection = TrackSelection(),
    *,
    channels: int = 0,
    sample_rate: int = 0,
    query_modes: Sequence[QueryMode] = ("mean",),
    oracles: Sequence[Oracle] = ("mixture", "irm"),
    out: Path | None = None,
    step: Step = "best",
) -> Evaluation:
    """Score a saved model on complete tracks.

    Args:
      name: Run folder, bundle or name of a bundled model.
      step: Checkpoint of a run folder.
      channels: 1 mixes the tracks down to mono; 0 keeps the channels of the corpus.
      sample_rate: Sample rate in Hz of the tracks and their scores; 0 takes that of the model.
      query_modes: Query modes of a query-based system; other systems ignore them.
      oracles: Oracles that are scored beside the model.
      out: Folder for the results; by default `CORPUS_SPLIT_PROTOCOL` in the model's `evaluation`, followed by a sample
        rate that differs from the model's.

    Raises:
      ValueError: if the model does not separate, or the corpus is not prepared or has no track to score.
    """
    saved, experiment, model = _load(name, data.root, step)
    corpus, condition_of, _ = _open(experiment, model, data, channels, sample_rate)
    model_rate = model.system.sample_rate
    bank = saved.bank(model, data.root) if "query" in model.system.cues else None
    at_model_rate = model_estimators(model, bank, query_modes, condition_of)
    by_model = {kind: at_sample_rate(one, corpus.sample_rate, model_rate) for kind, one in at_model_rate.items()}
    corpus_name, split = corpus.metadata.name, corpus.split
    suffix = "" if corpus.sample_rate == model_rate else f"_{corpus.sample_rate}"
    folder = out or saved.evaluation / f"{corpus_name}_{split}_{protocol.name}{suffix}"
    tracks = corpus_tracks(corpus, by_model | oracle_estimators(oracles), identity(saved, model, bank))
    scored = score_tracks(tracks[: data.tracks or None], protocol, folder)
    table = write_report(scored, saved.path.resolve().name, corpus_name, split, folder)
    what = f"{corpus_name} at {corpus.sample_rate} Hz, {corpus.channels} channels, {split} split; {protocol}"
    metric = protocol.metrics[0]
    return Evaluation(table, folder, {f"{metric} of {kind}; {what}": by_track(scored, kind) for kind in by_model})


def evaluate_segments(
    name: str,
    data: TrackSelection = TrackSelection(),
    *,
    wiener: Sequence[int] = (0, 2),
    frames: int = 0,
    oracles: Sequence[Oracle] = ("mixture", "irm"),
    out: Path | None = None,
    step: Step = "best",
) -> Evaluation:
    """Score a saved model that estimates all stems at once on segments, by default of its training length.

    Args:
      name: Run folder, bundle or name of a bundled model.
      step: Checkpoint of a run folder.
      wiener: Numbers of iterations of a Wiener filter; each gives an estimate of its own.
      frames: Length of a segment in STFT frames; 0 for the length that the model was trained on.
      oracles: Oracles that are scored beside the model.
      out: Folder for the results; by default `CORPUS_SPLIT_segments` in the model's `evaluation`.

    Raises:
      ValueError: if the model does not separate or is query-based, its segments cannot have this length, or the corpus
        is not prepared or lacks tracks.
    """
    saved, experiment, model = _load(name, data.root, step)
    if "query" in model.system.cues:
        raise ValueError(f"{name} is query-based: segments are for models that estimate all stems at once")
    if frames:
        model = Model(with_frames(model.system, frames), model.variables)
    corpus, condition_of, features = _open(experiment, model, data, 1)
    protocol, corpus_name = segments.segment_protocol(model.system), corpus.metadata.name
    by_model = segments.model_estimators(model, condition_of, wiener)
    estimators = by_model | segments.oracle_estimators(model, oracles)
    facts = identity(saved, model, None) | {"features": features}
    tracks = segments.corpus_segments(corpus, model.system, estimators, facts)
    folder = out or saved.evaluation / f"{corpus_name}_{corpus.split}_segments"
    scored = score_tracks(tracks[: data.tracks or None], protocol, folder)
    table = write_segment_report(scored, saved.path.resolve().name, corpus_name, corpus.split, folder)
    what, metric = f"{corpus_name} at {corpus.sample_rate} Hz, {corpus.split} split; {protocol}", protocol.metrics[0]
    return Evaluation(table, folder, {f"{metric} of {kind}; {what}": by_segment(scored, kind) for kind in by_model})


def _load(name: str, root: str, step: Step) -> tuple[SavedModel, Experiment, Model]:
    """Load a model that separates, and its experiment with the corpora of `root`."""
    saved = find_model(name, step=step)
    experiment, model = saved.load()
    if "separate" not in model.system.tasks:
        raise ValueError(f"{name} ({type(model.system).__name__}) does not separate, so it cannot be evaluated")
    if root:
        experiment = dataclasses.replace(experiment, data=dataclasses.replace(experiment.data, root=root))
    return saved, experiment, model


def _open(
    experiment: Experiment, model: Model, data: TrackSelection, channels: int, sample_rate: int = 0
) -> tuple[Corpus, Callable[[str], MixtureCondition], str]:
    """Open the corpus to score on.

    Also return a function from the name of a track to the condition of its mixture, and the name of the cached features
    that replace video frames, or an empty name.
    """
    stream = experiment.judged
    name, split = data.corpus or stream.corpora[0], data.split or experiment.evaluation.split
    corpus = stream.open(experiment.data.root, name, sample_rate or experiment.system.sample_rate, split, channels)
    if corpus.split == "test":
        refuse_overlap(experiment, corpus)
    features = features_of(stream)
    return corpus, lambda track: from_corpus(model, corpus, stem_excerpts(corpus, track), features), features
