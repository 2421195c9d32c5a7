"""What quality costs: `python -m benchmarks.step_sdr --config configs/quickstart.py --workdir runs/q --json OUT.json`.

Trains a config, or takes a run that has kept its checkpoints, and scores each of them on the run's own test excerpts:
the improvement in SI-SDR against seconds of training and against seconds of audio that were heard. Speed that costs
quality is no speed.
"""

from qsep_jax.command_line import huge_pages

if __name__ == "__main__":
    huge_pages.enable()

import dataclasses
import json
from pathlib import Path

import jax

from benchmarks.timing import rows
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
    """Score the checkpoints of a run, trained for the purpose unless it is there.

    Attributes:
      config: the experiment, `configs/X.py[:VARIANT]`; its last evaluation is left out.
      workdir: of the run; continued if it is there.
      json: file to add the rows to.
      root: folder of the prepared corpora; the config's own if left out.
      target: improvement in dB whose time is told.
    """

    config: str = ""
    workdir: Path | None = None
    json: Path | None = None
    root: str = ""
    target: float = 3.0


def kept(experiment: Experiment, root: str) -> Experiment:
    """The experiment, keeping every checkpoint."""
    settings = experiment.train
    count = -(-settings.steps // settings.save_every)
    data = dataclasses.replace(experiment.data, root=root or experiment.data.root)
    return dataclasses.replace(
        experiment, data=data, train=dataclasses.replace(settings, keep=max(count, 1), evaluate=False)
    )


def seconds_of(lines: list[dict[str, float]], batch_size: int) -> dict[int, float]:
    """Seconds of training up to each logged step, with compilation and without validation, of lines of metrics."""
    found, before, total = {}, 0, 0.0
    for line in lines:
        if "examples_per_second" in line:
            total += (line["step"] - before) * batch_size / line["examples_per_second"]
            before = int(line["step"])
            found[before] = total
    return found


def measure(run: RunFolder) -> list[rows.Row]:
    """A row per checkpoint, without circumstances.

    Raises:
      ValueError: if a checkpoint's step was not logged.
    """
    experiment = run.experiment()
    settings, system = experiment.train, experiment.system
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    spent, device = seconds_of(lines, settings.batch_size), jax.devices()[0]
    common = {"benchmark": "step_sdr", "system": type(system).__name__, "implementation": "jax"}
    common |= {"batch": settings.batch_size, "precision": settings.precision, "devices": jax.device_count()}
    common |= {"device": device.device_kind}
    found = []
    for step in run.steps():
        if step not in spent:
            raise ValueError(f"step {step} was not logged: let train.save_every be a multiple of train.log_every")
        experiment, model = run.load(step)
        scores = excerpts.evaluate(run, experiment, model, run.path / "step_sdr" / str(step), audio=0)
        (gain,) = (
            row
            for row in scores
            if (row["estimate"], row["stem"], row["metric"]) == ("model", "all", "si_sdr_improvement")
        )
        heard = step * settings.batch_size * system.example_samples / system.sample_rate
        row: rows.Row = {**common, "protocol": gain["protocol"], "corpus": gain["corpus"], "split": gain["split"]}
        row |= {"step": step, "training_s": spent[step], "audio_s": heard, "median_s": spent[step] / step}
        row |= {"si_sdr_improvement": gain["mean"], "ci95": gain["ci95"], "targets": gain["count"]}
        found.append(row)
    return found


def time_to(measured: list[rows.Row], target: float) -> rows.Row | None:
    """The first row that is as good as the target, None if none is."""
    return next((row for row in measured if row["si_sdr_improvement"] >= target), None)


def picture(measured: list[rows.Row], path: Path) -> None:
    figure, (line,) = spectrograms.subplots(1, 2, (10, 3.6), sharey=True)
    gains, spread = ([row[name] for row in measured] for name in ("si_sdr_improvement", "ci95"))
    for axis, name, label in zip(
        line, ("training_s", "audio_s"), ("seconds of training", "seconds of audio"), strict=True
    ):
        axis.errorbar([row[name] for row in measured], gains, spread, marker="o", capsize=3)
        axis.set(xlabel=label)
        axis.grid(alpha=0.3)
    line[0].set_ylabel("improvement in SI-SDR, dB")
    spectrograms.save_png(figure, path)


def main() -> None:
    options = console.parse(StepSdr, "python -m benchmarks.step_sdr", EXAMPLE)
    if options.workdir is None or options.json is None or not options.config:
        raise ValueError(f"--config, --workdir and --json are needed. Example: {EXAMPLE}")
    rows.check_writable(options.json)
    console.cache_compilations()
    run = RunFolder(options.workdir)
    train(run, kept(load_config(options.config), options.root))
    measured = [{**row, "config": options.config} for row in measure(run)]
    around = rows.circumstances("jax", "jaxlib", "flax", "optax", "numpy")
    rows.write(options.json, [row | around for row in measured])
    picture(measured, run.path / "step_sdr" / "step_sdr.png")
    print(f"{measured[0]['corpus']}, {measured[0]['split']} split; {measured[0]['protocol']}")
    print(rows.table(measured, COLUMNS))
    reached = time_to(measured, options.target)
    said = (
        "is not reached" if reached is None else f"is reached by step {reached['step']}, {reached['training_s']:.0f} s"
    )
    print(f"{options.target:g} dB {said}; picture in {run.path / 'step_sdr'}")


if __name__ == "__main__":
    console.run(main)
