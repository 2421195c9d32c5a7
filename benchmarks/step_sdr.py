"""Measure quality over training time: `python -m benchmarks.step_sdr --config CONFIG --workdir RUN --json OUT.json`.

The benchmark trains a config, or uses a run that has kept its checkpoints, and scores each checkpoint on the test
excerpts of the run. It reports the improvement in SI-SDR over the mixture against seconds of training and against
seconds of audio that the network was trained on, because a faster step is no gain if it trains a worse model.
"""

from qsep_jax.command_line import huge_pages

if __name__ == "__main__":
    huge_pages.enable()

import dataclasses
import json
from pathlib import Path

import jax

from benchmarks.timing import rows
from benchmarks.timing.training_time import seconds_of
from qsep_jax.command_line import console
from qsep_jax.evaluation import excerpts
from qsep_jax.figures import spectrograms
from qsep_jax.runs.experiment import Experiment, load_config
from qsep_jax.runs.folder import RunFolder
from qsep_jax.train import train

EXAMPLE = "python -m benchmarks.step_sdr --config configs/quickstart.py --workdir runs/step_sdr --json step_sdr.json"
COLUMNS = ("step", "training_s", "audio_s", "si_sdr_improvement", "ci95", "targets")


@dataclasses.dataclass(frozen=True)
class StepSdr:
    """Train a config, or continue a run, and score all of its checkpoints.

    Attributes:
      config: Experiment, `configs/X.py[:VARIANT]`; its final evaluation is skipped.
      workdir: Run folder; an existing run is continued.
      json: JSON file to which the rows are added; by default they are only printed.
      root: Folder of the prepared corpora (by default, the config's).
      target: Improvement in dB; the command prints the first step that reaches it.
    """

    config: str = ""
    workdir: Path | None = None
    json: Path | None = None
    root: str = ""
    target: float = 3.0


def keep_all_checkpoints(experiment: Experiment, root: str) -> Experiment:
    """The experiment with settings that keep every checkpoint and skip the final evaluation."""
    settings = experiment.train
    count = -(-settings.steps // settings.save_every)
    data = dataclasses.replace(experiment.data, root=root or experiment.data.root)
    return dataclasses.replace(
        experiment, data=data, train=dataclasses.replace(settings, keep=max(count, 1), evaluate=False)
    )


def measure(run: RunFolder) -> list[rows.Row]:
    """One row per checkpoint, without `rows.circumstances`.

    Raises:
      ValueError: if a checkpoint's step was not logged.
    """
    experiment = run.experiment()
    settings, system = experiment.train, experiment.system
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    seconds, device = seconds_of(lines, settings.batch_size), jax.devices()[0]
    common = {"benchmark": "step_sdr", "system": type(system).__name__, "implementation": "jax"}
    common |= {"batch": settings.batch_size, "precision": settings.precision, "devices": jax.device_count()}
    common |= {"device": device.device_kind}
    measured = []
    for step in run.steps():
        if step not in seconds:
            raise ValueError(f"step {step} was not logged: make train.save_every a multiple of train.log_every")
        experiment, model = run.at(step).load()
        scores = excerpts.evaluate(run, experiment, model, run.path / "step_sdr" / str(step), audio=0)
        (gain,) = (
            row
            for row in scores
            if (row["estimate"], row["stem"], row["metric"]) == ("model", "all", "si_sdr_improvement")
        )
        audio_s = step * settings.batch_size * system.example_samples / system.sample_rate
        row: rows.Row = {**common, "protocol": gain["protocol"], "corpus": gain["corpus"], "split": gain["split"]}
        row |= {"step": step, "training_s": seconds[step], "audio_s": audio_s, "median_s": seconds[step] / step}
        row |= {"si_sdr_improvement": gain["mean"], "ci95": gain["ci95"], "targets": gain["count"]}
        measured.append(row)
    return measured


def time_to(measured: list[rows.Row], target: float) -> rows.Row | None:
    """The first row that reaches the target, or None."""
    return next((row for row in measured if row["si_sdr_improvement"] >= target), None)


def plot(measured: list[rows.Row], path: Path) -> None:
    """Plot the improvement with its confidence interval over seconds of training and over seconds of audio."""
    figure, (axes,) = spectrograms.subplots(1, 2, (10, 3.6), sharey=True)
    gains, intervals = ([row[name] for row in measured] for name in ("si_sdr_improvement", "ci95"))
    for axis, name, label in zip(
        axes, ("training_s", "audio_s"), ("seconds of training", "seconds of audio"), strict=True
    ):
        axis.errorbar([row[name] for row in measured], gains, intervals, marker="o", capsize=3)
        axis.set(xlabel=label)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("improvement in SI-SDR, dB")
    spectrograms.save_png(figure, path)


def main() -> None:
    options = console.parse(StepSdr, "python -m benchmarks.step_sdr", EXAMPLE)
    if options.workdir is None or not options.config:
        raise ValueError(f"--config and --workdir are needed. Example: {EXAMPLE}")
    rows.check_writable(options.json)
    console.cache_compilations()
    run = RunFolder(options.workdir)
    train(run, keep_all_checkpoints(load_config(options.config), options.root))
    measured = [{**row, "config": options.config} for row in measure(run)]
    circumstances = rows.circumstances("jax", "jaxlib", "flax", "optax", "numpy")
    rows.write(options.json, [row | circumstances for row in measured])
    plot(measured, run.path / "step_sdr" / "step_sdr.png")
    print(f"{measured[0]['corpus']}, {measured[0]['split']} split; {measured[0]['protocol']}")
    print(rows.table(measured, COLUMNS))
    reached = time_to(measured, options.target)
    result = (
        "is not reached" if reached is None else f"is reached by step {reached['step']}, {reached['training_s']:.0f} s"
    )
    print(f"{options.target:g} dB {result}; figure in {run.path / 'step_sdr'}")


if __name__ == "__main__":
    console.run(main)
