"""Score a run as in Table 1 into a record: `python -m benchmarks.papers.lin2021.score --workdir RUN --record FILE`.

A record has a row for each source and each of the last checkpoints; the rows of step 0 have the SDR of the mixture and
of the ideal ratio mask.
"""

import dataclasses
from pathlib import Path

from benchmarks.papers import records
from benchmarks.papers.lin2021.scoring import ScoreOptions, name_of, score_run
from qsep_jax.command_line import console
from qsep_jax.systems.lin2021 import Lin2021

EXAMPLE = "python -m benchmarks.papers.lin2021.score --workdir runs/msi-0 --record records/msi-0.json"
# The config variants of the paper's systems.
VARIANTS = {"AMT-only": "amt", "MSS-only": "mss", "multi-task": "multitask", "MSI": "msi", "MSI-DIS": "msi_dis"}


@dataclasses.dataclass(frozen=True)
class Score(ScoreOptions):
    """Score the last checkpoints of a run as in Table 1, and write every score to a record.

    Attributes:
      workdir: Run folder; required.
      record: JSON file of the record; required.
    """

    workdir: Path | None = None
    record: Path | None = None


def published_config(system: Lin2021) -> str:
    """The config of the paper's own training of a system."""
    return f"lin2021:{VARIANTS[name_of(system)]}"


def main() -> None:
    options = console.parse(Score, "python -m benchmarks.papers.lin2021.score", EXAMPLE)
    if options.workdir is None or options.record is None:
        raise ValueError(f"--workdir and --record are needed. Example: {EXAMPLE}")
    console.need_positive(options, "checkpoints")
    console.cache_compilations()
    scored = score_run(options.workdir, options)
    by_step = {0: scored.bounds, **scored.by_step}
    scores = [{"step": step, **row} for step, rows in by_step.items() for row in rows]
    data = {**scored.facts, "sample_rate": scored.sample_rate}
    protocol = data.pop("protocol")
    config = published_config(scored.system)
    record = records.make_record("lin2021", scored.run, config, data=data, protocol=protocol, scores=scores)
    records.write_record(options.record, record)
    print(f"{len(scores)} scores written to {options.record}")


if __name__ == "__main__":
    console.run(main)
