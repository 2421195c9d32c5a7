"""Score a run on all test pieces into a record.

`python -m benchmarks.papers.slizovskaia2021.score --workdir RUN --record FILE`
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.papers import records
from benchmarks.papers.slizovskaia2021.recorded import to_scores
from benchmarks.papers.slizovskaia2021.runs import Run, read
from qsep_jax.command_line import console
from qsep_jax.evaluation.estimates import Oracle
from qsep_jax.evaluation.saved_models import TrackSelection, evaluate_segments
from qsep_jax.runs.bundle import find_model
from qsep_jax.systems.base import System
from qsep_jax.systems.capabilities import uses_stft

EXAMPLE = "python -m benchmarks.papers.slizovskaia2021.score --workdir runs/exp9-0 --record records/exp9-0.json"
ORACLES: tuple[Oracle, ...] = ("mixture", "irm")


@dataclasses.dataclass(frozen=True)
class Score:
    """Score the best checkpoint of a run by segments, as `qsep evaluate segments` does, and write a record.

    The record has every score of every segment and stem of the pieces of the test split, of the model after each number
    of Wiener iterations, of the mixture and of the ideal ratio mask. The scores of the last two are taken from another
    record in the same folder if it has them. A scoring that was stopped continues.

    Attributes:
      workdir: Run folder, whose name begins with its experiment (`exp9-0`); required.
      record: JSON file of the record; required.
      corpus: Corpus of the test pieces (by default, the run's).
      frames: Length of a segment in STFT frames; 0 takes the length of training.
      wiener: Numbers of iterations of the Wiener filter.
    """

    workdir: Path | None = None
    record: Path | None = None
    corpus: str = ""
    frames: int = 0
    wiener: tuple[int, ...] = (0, 2)


def known_bounds(folder: Path, data: dict[str, Any], protocol: str, system: System) -> list[dict[str, Any]]:
    """The rows of the mixture and of the ideal ratio mask from another record in a folder, which take half of the time.

    They depend on the data, the protocol and the STFT, in which all three the record has to agree. Empty without one.
    """
    stft_of = uses_stft(system)
    for path in sorted(folder.glob("*.json")):
        record = records.read_record(path)
        window, hop = (record.config["system"][name] for name in ("window_length", "hop_length"))
        if (record.data, record.protocol, window, hop) == (data, protocol, stft_of.window_length, stft_of.hop_length):
            return [row for row in record.scores if row["estimate"] in ORACLES]
    return []


def main() -> None:
    options = console.parse(Score, "python -m benchmarks.papers.slizovskaia2021.score", EXAMPLE)
    if options.workdir is None or options.record is None:
        raise ValueError(f"--workdir and --record are needed. Example: {EXAMPLE}")
    console.cache_compilations()
    kinds = tuple(f"model_w{count}" for count in options.wiener)

    def scores_of(kinds: Sequence[str], oracles: tuple[Oracle, ...]) -> Run:
        """Score what is not scored yet, and read the scores of `kinds`, not those of another evaluation."""
        selection = TrackSelection(corpus=options.corpus, split="test")
        evaluate_segments(
            str(options.workdir), selection, wiener=options.wiener, frames=options.frames, oracles=oracles
        )
        run = read(workdir, options.corpus, "test")
        return dataclasses.replace(run, scores={kind: run.scores[kind] for kind in kinds})

    workdir, saved = options.workdir, find_model(str(options.workdir))
    run = scores_of(kinds, ())
    first = run.tracks[0]
    data = {name: first.facts[name] for name in ("corpus", "fingerprint", "split", "sample_rate")}
    data |= {"seconds": first.protocol.window, "tracks": len(run.tracks)}
    protocol = f"{first.protocol}; {', '.join((*kinds, *ORACLES))}; dB"
    bounds = known_bounds(options.record.parent, data, protocol, saved.experiment().system)
    scores = [*to_scores(run), *bounds] if bounds else to_scores(scores_of((*kinds, *ORACLES), ORACLES))
    config = f"slizovskaia2021:exp{run.experiment}"
    record = records.make_record("slizovskaia2021", saved, config, data=data, protocol=protocol, scores=scores)
    records.write_record(options.record, record)
    print(f"{len(record.scores)} rows of scores written to {options.record}")


if __name__ == "__main__":
    console.run(main)
