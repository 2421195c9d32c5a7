"""Score a run on the excerpts of its experiment into a record.

`python -m benchmarks.papers.lee2019.score --workdir RUN --record FILE`
"""

import dataclasses
from pathlib import Path

from benchmarks.papers import records
from data_pipelines.files import read_json
from qsep_jax.command_line import console
from qsep_jax.evaluation import excerpts
from qsep_jax.runs.bundle import find_model

EXAMPLE = "python -m benchmarks.papers.lee2019.score --workdir runs/quickstart --record records/quickstart-0.json"
# The config of the paper's own training.
PUBLISHED = "lee2019"


@dataclasses.dataclass(frozen=True)
class Score:
    """Score the best checkpoint of a run on its test excerpts, and write every score to a record.

    Attributes:
      workdir: Run folder or bundle; required.
      record: JSON file of the record; required.
    """

    workdir: str = ""
    record: Path | None = None


def main() -> None:
    options = console.parse(Score, "python -m benchmarks.papers.lee2019.score", EXAMPLE)
    if not options.workdir or options.record is None:
        raise ValueError(f"--workdir and --record are needed. Example: {EXAMPLE}")
    console.cache_compilations()
    saved = find_model(options.workdir)
    experiment, model = saved.load()
    folder = saved.evaluation / "record"
    rows = excerpts.evaluate(saved, experiment, model, folder, audio=0)
    scores = [
        {"mixture": item["mixture"], "stem": item["stem"], **item["si_sdr"]}
        for item in read_json(folder / "list.json", "score the run again")
    ]
    corpus = experiment.judged.open(experiment.data.root, rows[0]["corpus"], model.system.sample_rate, "test")
    data = {"corpus": rows[0]["corpus"], "split": rows[0]["split"], "fingerprint": corpus.metadata.fingerprint}
    record = records.make_record(
        "lee2019", saved, PUBLISHED, data=data, protocol=rows[0]["protocol"] + ", in dB", scores=scores
    )
    records.write_record(options.record, record)
    print(f"{excerpts.table(rows)}\nwritten to {options.record}")


if __name__ == "__main__":
    console.run(main)
