"""Accuracy records: one JSON file per trained run, with what was trained, on what, how it was scored, and every score.

The tables of the papers are made from records, so that no number stands without its record, and a run can be scored on
one machine and tabulated on another.
"""

import dataclasses
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.timing import rows
from benchmarks.timing.training_time import seconds_of
from data_pipelines.files import read_json, write_text
from qsep_jax.runs.bundle import SavedModel
from qsep_jax.runs.experiment import Experiment, load_config
from qsep_jax.runs.experiment_json import from_json, to_json
from qsep_jax.runs.folder import RunFolder

# Decimals of stored scores: more than any table shows.
DECIMALS = 4


@dataclasses.dataclass(frozen=True)
class Record:
    """The scores of a run, and all that they depend on.

    Attributes:
      paper: Name of the paper, `lin2021`.
      run: Name of the run, `msi-0`.
      config: The experiment, as in the run's `config.json`.
      budget: Steps, seconds of audio that the system was trained on, and the share of the paper's budget.
      training: Seconds of training, and the environment of each start.
      data: What the scores were computed on: corpus, fingerprint, split.
      protocol: How they were computed.
      scores: A row for each scored source.
      circumstances: Date, machine, versions, commit and command of the scoring.
    """

    paper: str
    run: str
    config: dict[str, Any]
    budget: dict[str, float]
    training: dict[str, Any]
    data: dict[str, Any]
    protocol: str
    scores: list[dict[str, Any]]
    circumstances: dict[str, Any]

    def experiment(self) -> Experiment:
        """The experiment of the run."""
        return from_json(json.dumps(self.config), f"the record of {self.run}")


def make_record(
    paper: str,
    saved: SavedModel,
    published_config: str,
    *,
    data: dict[str, Any],
    protocol: str,
    scores: Sequence[dict[str, Any]],
) -> Record:
    """The record of a run that has been scored.

    Args:
      published_config: The config of the paper's own training, `lin2021:msi`, to which the budget is compared.
    """
    experiment, published = saved.experiment(), load_config(published_config)
    metrics = saved.path / "metrics.jsonl"
    steps = trained_steps(metrics, experiment)
    heard, published_s = audio_seconds(experiment, steps), audio_seconds(published)
    # A share of 1 where the paper trains nothing either, as in experiment 19 of Slizovskaia 2021.
    budget = {"steps": steps, "audio_s": heard, "share_of_paper": heard / published_s if published_s else 1.0}
    starts = json.loads((saved.path / "environment.json").read_text()) if isinstance(saved, RunFolder) else []
    training = {"seconds": training_seconds(metrics, experiment), "starts": starts}
    return Record(
        paper,
        saved.path.resolve().name,
        json.loads(to_json(experiment)),
        budget,
        training,
        data,
        protocol,
        [_rounded(row) for row in scores],
        rows.circumstances("jax", "jaxlib", "flax", "optax", "numpy"),
    )


def audio_seconds(experiment: Experiment, steps: int | None = None) -> float:
    """The seconds of mixtures that a training hears: steps (by default all) × batch size × length of an example."""
    system, train = experiment.system, experiment.train
    steps = train.steps if steps is None else steps
    return steps * train.batch_size * system.example_samples / system.sample_rate


def trained_steps(metrics: Path, experiment: Experiment) -> int:
    """The steps that a training made: those in `metrics.jsonl` if it can end early, else those of the experiment."""
    if not experiment.train.patience or not metrics.is_file():
        return experiment.train.steps
    return max(json.loads(line)["step"] for line in metrics.read_text().splitlines())


def training_seconds(metrics: Path, experiment: Experiment) -> float | None:
    """The seconds of training steps in `metrics.jsonl`, with compilation and without validation; None without it."""
    if not metrics.is_file():
        return None
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    return max(seconds_of(lines, experiment.train.batch_size).values(), default=0.0)


def write_record(path: Path, record: Record) -> None:
    """Write a record, with one line for each score; the file appears only when it is complete."""
    head = {name: value for name, value in dataclasses.asdict(record).items() if name != "scores"}
    lines = ",\n  ".join(json.dumps(row) for row in record.scores)
    text = json.dumps(head, indent=1)
    write_text(path, f'{text[:-2]},\n "scores": [\n  {lines}\n ]\n}}\n')


def read_record(path: Path) -> Record:
    """Read a record.

    Raises:
      ValueError: if the file cannot be read or is no record.
    """
    content = read_json(path, "give a record that an experiment of benchmarks.papers has written")
    names = {field.name for field in dataclasses.fields(Record)}
    if not isinstance(content, dict) or set(content) != names:
        raise ValueError(f"{path} is no accuracy record: its fields must be {', '.join(sorted(names))}")
    return Record(**content)


def read_records(paths: Iterable[Path]) -> list[Record]:
    """Read the records in files and in folders of files, in the order of their names.

    Raises:
      ValueError: if there is none, or one cannot be read.
    """
    files = [file for path in paths for file in (sorted(path.glob("*.json")) if path.is_dir() else [path])]
    if not files:
        raise ValueError(f"{', '.join(map(str, paths))}: no record of a scored run: score a run first")
    return [read_record(file) for file in files]


def check_comparable(records: Sequence[Record]) -> None:
    """Check that records are of the same data and protocol.

    Raises:
      ValueError: if not.
    """
    for record in records[1:]:
        for name in ("data", "protocol"):
            value, other = getattr(record, name), getattr(records[0], name)
            if value != other:
                raise ValueError(f"{record.run} and {records[0].run} differ in {name}: {value} and {other}")


def by_seed(records: Sequence[Record]) -> dict[int, Record]:
    """The records of one system by the seed of their training.

    Raises:
      ValueError: if two have the same seed.
    """
    seeds: dict[int, Record] = {}
    for record in records:
        seed = record.config["train"]["seed"]
        if seed in seeds:
            raise ValueError(f"{record.run} and {seeds[seed].run} are the same system with the same seed: give one")
        seeds[seed] = record
    return seeds


def finite(score: float) -> float | None:
    """A score as a record has it: None for NaN and infinity, which JSON lacks."""
    return float(score) if math.isfinite(score) else None


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, DECIMALS) if isinstance(value, float) else value for name, value in row.items()}
