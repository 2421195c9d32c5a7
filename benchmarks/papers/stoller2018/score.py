"""Score a run on complete songs into a record.

`python -m benchmarks.papers.stoller2018.score --workdir RUN --record FILE`

A record has a row for each song and stem, with SDR, SIR and SAR of the estimate and of the mixture (`mixture_SDR` …).
A score is null where a stem or its estimate is silent.
"""

import dataclasses
from pathlib import Path
from typing import Any

from benchmarks.papers import records
from benchmarks.papers.stoller2018.table import METRICS
from data_pipelines.prepared.corpus import Corpus
from qsep_jax.command_line import console
from qsep_jax.evaluation.saved_models import TrackSelection, evaluate_tracks
from qsep_jax.evaluation.tracks import multi_stem_tracks
from qsep_jax.metrics.protocols import Protocol
from qsep_jax.metrics.tracks import TrackScores
from qsep_jax.runs.bundle import find_model
from qsep_jax.systems.base import System
from qsep_jax.systems.stoller2018 import Stoller2018

EXAMPLE = "python -m benchmarks.papers.stoller2018.score --workdir runs/va-0 --record records/va-0.json"
PROTOCOL = Protocol("bss_eval_v3")
# The config variants of the slides' systems, by their critics.
VARIANTS: dict[tuple[str, ...], str] = {(): "supervised", ("vocals",): "v", ("vocals", "accompaniment"): "va"}


@dataclasses.dataclass(frozen=True)
class Score:
    """Score the best checkpoint of a run on the songs of its test set, and write every score to a record.

    Attributes:
      workdir: Run folder or bundle; required.
      record: JSON file of the record; required.
      tracks: Number of songs of each corpus, in the order of their names (0: all).
    """

    workdir: str = ""
    record: Path | None = None
    tracks: int = 0


def as_published(system: System) -> Stoller2018:
    """The system of a run, checked to be one of the slides.

    Raises:
      ValueError: if the slides have no such system.
    """
    if not isinstance(system, Stoller2018) or system.critics not in VARIANTS:
        raise ValueError(
            "the run is none of the systems of the slides: give one of stoller2018:supervised, :v or :va, without four"
        )
    return system


def published_config(system: System) -> str:
    """The config of the published training of a system.

    Raises:
      ValueError: if the slides have no such system.
    """
    return f"stoller2018:{VARIANTS[as_published(system).critics]}"


def score_corpus(options: Score, name: str, corpus: Corpus) -> list[dict[str, Any]]:
    """A row for each song and stem of a corpus. The scores of songs are stored in the run's folder `evaluation`."""
    selection = TrackSelection(corpus=name, split=corpus.split, tracks=options.tracks)
    evaluation = evaluate_tracks(options.workdir, PROTOCOL, selection, channels=1, oracles=("mixture",))
    songs = set(multi_stem_tracks(corpus)[: options.tracks or None])
    scored = {}
    for kind in ("model", "mixture"):
        files = sorted((evaluation.folder / "tracks" / kind).glob("*.json"))
        # Files of songs that are no longer in the corpus stay in the folder.
        scored[kind] = {song.track: song for song in map(TrackScores.from_file, files) if song.track in songs}
    return [
        {"corpus": name, "track": track, "stem": stem, **_scores(song, stem), **_scores(mixture, stem, "mixture_")}
        for track, song in scored["model"].items()
        for stem in song.stems
        if (mixture := scored["mixture"][track])
    ]


def _scores(song: TrackScores, stem: str, prefix: str = "") -> dict[str, float | None]:
    return {prefix + metric: records.finite(float(song.stems[stem][metric][0])) for metric in METRICS}


def main() -> None:
    options = console.parse(Score, "python -m benchmarks.papers.stoller2018.score", EXAMPLE)
    if not options.workdir or options.record is None:
        raise ValueError(f"--workdir and --record are needed. Example: {EXAMPLE}")
    console.cache_compilations()
    saved = find_model(options.workdir)
    experiment = saved.experiment()
    config, stream, rate = published_config(experiment.system), experiment.judged, experiment.system.sample_rate
    split = experiment.evaluation.split
    corpora = {name: stream.open(experiment.data.root, name, rate, split, 1) for name in stream.corpora}
    scores = [row for name, corpus in corpora.items() for row in score_corpus(options, name, corpus)]
    data = {
        "corpus": stream.corpus,
        "split": split,
        "sample_rate": rate,
        "fingerprints": {name: corpus.metadata.fingerprint for name, corpus in corpora.items()},
        "tracks": options.tracks,
    }
    record = records.make_record("stoller2018", saved, config, data=data, protocol=str(PROTOCOL), scores=scores)
    records.write_record(options.record, record)
    print(f"{len(scores)} scores written to {options.record}")


if __name__ == "__main__":
    console.run(main)
