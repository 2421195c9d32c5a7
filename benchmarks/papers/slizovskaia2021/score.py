"""Score a run on all test pieces into a record.

`python -m benchmarks.papers.slizovskaia2021.score --workdir RUN --record FILE`
"""

import dataclasses
from pathlib import Path

from benchmarks.papers import records
from benchmarks.papers.slizovskaia2021.recorded import to_scores
from benchmarks.papers.slizovskaia2021.runs import read
from qsep_jax.command_line import console
from qsep_jax.evaluation.estimates import Oracle
from qsep_jax.evaluation.saved_models import TrackSelection, evaluate_segments
from qsep_jax.runs.bundle import find_model

EXAMPLE = "python -m benchmarks.papers.slizovskaia2021.score --workdir runs/exp9-0 --record records/exp9-0.json"
ORACLES: tuple[Oracle, ...] = ("mixture", "irm")


@dataclasses.dataclass(frozen=True)
class Score:
    """Score the best checkpoint of a run by segments, as `qsep evaluate segments` does, and write a record.

    The record has every score of every segment and stem of the pieces of the test split, of the model after each number
    of Wiener iterations, of the mixture and of the ideal ratio mask. A scoring that was stopped continues.

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


def main() -> None:
    options = console.parse(Score, "python -m benchmarks.papers.slizovskaia2021.score", EXAMPLE)
    if options.workdir is None or options.record is None:
        raise ValueError(f"--workdir and --record are needed. Example: {EXAMPLE}")
    console.cache_compilations()
    selection = TrackSelection(corpus=options.corpus, split="test")
    evaluate_segments(str(options.workdir), selection, wiener=options.wiener, frames=options.frames, oracles=ORACLES)
    run = read(options.workdir, options.corpus, "test")
    kinds = (*(f"model_w{count}" for count in options.wiener), *ORACLES)  # not those of another evaluation
    run = dataclasses.replace(run, scores={kind: run.scores[kind] for kind in kinds})
    first = run.tracks[0]
    data = {name: first.facts[name] for name in ("corpus", "fingerprint", "split", "sample_rate")}
    data |= {"seconds": first.protocol.window, "tracks": len(run.tracks)}
    record = records.make_record(
        "slizovskaia2021",
        find_model(str(options.workdir)),
        f"slizovskaia2021:exp{run.experiment}",
        data=data,
        protocol=f"{first.protocol}; {', '.join(run.scores)}; dB",
        scores=to_scores(run),
    )
    records.write_record(options.record, record)
    print(f"{len(record.scores)} rows of scores written to {options.record}")


if __name__ == "__main__":
    console.run(main)
