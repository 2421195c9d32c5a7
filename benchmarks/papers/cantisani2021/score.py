"""Compute the scores of the slides' table into a record.

`python -m benchmarks.papers.cantisani2021.score --model RUN --corpus CORPUS --out DIR --record FILE`

It takes the options of `slide`, and continues after an interruption in the same way. A record has a row for each
strategy, song and stem, with and without gating: medians over frames of the SDR by both rules of frames, of PES and of
EPS. A score is null where no frame has one.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.papers import records
from benchmarks.papers.cantisani2021 import slide
from qsep_jax.command_line import console
from qsep_jax.metrics.aggregate import track_medians
from qsep_jax.runs.bundle import find_model
from qsep_jax.systems.one_shot import Adaptation

EXAMPLE = (
    "python -m benchmarks.papers.cantisani2021.score --model runs/tasnet --corpus band_fluid --out runs/slide "
    "--record records/tasnet-0.json"
)
# The config of the published pretraining.
PUBLISHED = "cantisani2021"


@dataclasses.dataclass(frozen=True)
class Score(slide.Slide):
    """Adapt a model to test songs by each strategy of the paper, and write the scores before and after to a record.

    Attributes:
      record: JSON file of the record; required.
    """

    record: Path | None = None


def rows_of(results: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each strategy, song and stem, from the frames that `slide.measure` returns."""
    return [
        {
            "strategy": name.removesuffix(" gated"),
            "gated": name.endswith(" gated"),
            "song": song,
            "stem": stem,
            **{metric: records.finite(_median(frames)) for metric, frames in by_metric.items()},
        }
        for name, by_song in results.items()
        for song, by_stem in by_song.items()
        for stem, by_metric in by_stem.items()
    ]


def _median(frames: Sequence[float]) -> float:
    return float(track_medians([np.array(frames, float)])[0])


def protocol_of(options: slide.Slide, settings: Adaptation) -> str:
    """How the scores are computed, in words."""
    return (
        f"{slide.PROTOCOL}; each stem silent in a quarter of the song; mean over {options.shifts} shifts in time; "
        f"adaptation in {settings.epochs} epochs over chunks of {settings.seconds:g} s every {settings.hop:g} s with "
        f"{settings.pitch_copies} pitch copies at learning rate {settings.optimizer.learning_rate:g}, "
        f"λ = {settings.weight:g}"
    )


def main() -> None:
    options = console.parse(Score, "python -m benchmarks.papers.cantisani2021.score", EXAMPLE)
    if not options.model or options.record is None:
        raise ValueError(f"--model and --record are needed. Example: {EXAMPLE}")
    console.cache_compilations()
    saved = find_model(options.model)
    experiment = saved.experiment()
    system = slide.as_cantisani2021(experiment.system, options.model)
    scores = rows_of(slide.measure(options))
    corpus = slide.open_corpus(options, experiment)
    data = {
        "corpus": corpus.metadata.name,
        "split": options.split,
        "sample_rate": system.sample_rate,
        "fingerprint": corpus.metadata.fingerprint,
        **{name: getattr(options, name) for name in ("songs", "seconds", "threshold", "seed")},
    }
    protocol = protocol_of(options, slide.settings_of(system, "l3", options))
    record = records.make_record("cantisani2021", saved, PUBLISHED, data=data, protocol=protocol, scores=scores)
    records.write_record(options.record, record)
    print(f"{len(scores)} scores written to {options.record}")


if __name__ == "__main__":
    console.run(main)
