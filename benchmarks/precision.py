"""Compare training in bfloat16 with float32: `python -m benchmarks.precision --config configs/quickstart.py --json …`.

The benchmark trains a config with several seeds, in float32 and with network bodies in bfloat16, and compares the
validation losses. Runs with the same seed have the same initial parameters and the same examples. The spread of float32
between seeds shows how large a difference must be to mean anything.
"""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np

from benchmarks.timing import rows
from qsep_jax.command_line import console
from qsep_jax.figures import spectrograms
from qsep_jax.runs.experiment import Experiment, load_config
from qsep_jax.runs.folder import RunFolder
from qsep_jax.train import train

EXAMPLE = "python -m benchmarks.precision --config configs/quickstart.py --steps 800 --json precision.json"
PRECISIONS = ("float32", "bfloat16")
COLUMNS = ("step", "float32", "between_seeds", "bfloat16", "difference", "of_noise")


@dataclasses.dataclass(frozen=True)
class Precision:
    """Train a config in both precisions and compare the validation losses.

    Attributes:
      config: Experiment, `configs/X.py[:VARIANT]`; its final evaluation is skipped.
      json: JSON file to which the rows are added; by default they are only printed.
      workdir: Folder of the runs; existing runs are continued.
      root: Folder of the prepared corpora (by default, the config's).
      steps: Number of steps of each run (0: the config's).
      seeds: Number of seeds, counted from 0; at least 2.
    """

    config: str = ""
    json: Path | None = None
    workdir: Path = Path("runs/precision")
    root: str = ""
    steps: int = 0
    seeds: int = 3

    def check(self) -> None:
        """Raise ValueError for invalid options. A constructor would not do: tyro draws a box around its errors."""
        if self.seeds < 2:
            raise ValueError(f"--seeds must be at least 2, not {self.seeds}: a single seed shows no spread")
        if self.steps < 0:
            raise ValueError(f"--steps must be 0 or more, not {self.steps}")


def run_experiment(experiment: Experiment, options: Precision, precision: str, seed: int) -> Experiment:
    """The experiment of one run."""
    settings = experiment.train
    data = dataclasses.replace(experiment.data, root=options.root or experiment.data.root)
    changed = dataclasses.replace(
        settings, steps=options.steps or settings.steps, precision=precision, seed=seed, evaluate=False
    )
    return dataclasses.replace(experiment, data=data, train=changed)


def losses_of(folder: Path) -> dict[int, float]:
    """The validation losses of a run, by step."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["validation/loss"] for line in lines if "validation/loss" in line}


def comparison_rows(losses: dict[str, list[dict[int, float]]]) -> list[rows.Row]:
    """One row per validation step.

    `between_seeds` is the standard deviation of the float32 losses over the seeds, `difference` the mean difference
    between bfloat16 and float32 with the same seed, and `of_noise` the ratio of its absolute value to `between_seeds`.

    Args:
      losses: Validation losses by step, for each run of each precision.
    """
    table = []
    for step in losses["float32"][0]:
        step_losses = {precision: np.array([run[step] for run in runs]) for precision, runs in losses.items()}
        spread = float(step_losses["float32"].std(ddof=1))
        difference = float((step_losses["bfloat16"] - step_losses["float32"]).mean())
        row: rows.Row = {"step": step, **{precision: float(values.mean()) for precision, values in step_losses.items()}}
        noise = abs(difference) / spread if spread else float("inf")
        table.append(row | {"between_seeds": spread, "difference": difference, "of_noise": noise})
    return table


def plot(losses: dict[str, list[dict[int, float]]], path: Path) -> None:
    """Plot the validation losses of all runs over the steps."""
    figure, ((axis,),) = spectrograms.subplots(1, 1, (6, 3.6))
    for number, (precision, runs) in enumerate(losses.items()):
        for seed, run in enumerate(runs):
            style = {"color": f"C{number}", "linestyle": ("-", "--")[number], "alpha": 0.8}
            axis.plot(list(run), list(run.values()), label=precision if seed == 0 else None, **style)
    axis.set(xlabel="steps", ylabel="validation loss", yscale="log")
    axis.legend()
    axis.grid(alpha=0.3)
    spectrograms.save_png(figure, path)


def main() -> None:
    options = console.parse(Precision, "python -m benchmarks.precision", EXAMPLE)
    if not options.config:
        raise ValueError(f"--config is needed. Example: {EXAMPLE}")
    options.check()
    rows.check_writable(options.json)
    console.cache_compilations()
    experiment = load_config(options.config)
    losses: dict[str, list[dict[int, float]]] = {precision: [] for precision in PRECISIONS}
    for seed in range(options.seeds):
        for precision in PRECISIONS:
            run = RunFolder(options.workdir / f"{precision}_{seed}")
            train(run, run_experiment(experiment, options, precision, seed))
            losses[precision].append(losses_of(run.path))
    measured = comparison_rows(losses)
    common = {"benchmark": "precision", "system": type(experiment.system).__name__, "config": options.config}
    common |= {"implementation": "jax", "batch": experiment.train.batch_size, "seeds": options.seeds}
    common |= {"devices": jax.device_count(), "device": jax.devices()[0].device_kind}
    circumstances = rows.circumstances("jax", "jaxlib", "flax", "optax", "numpy")
    rows.write(options.json, [common | row | circumstances for row in measured])
    plot(losses, options.workdir / "precision.png")
    print(f"validation loss of {options.config}, {options.seeds} seeds")
    print(rows.table(measured, COLUMNS))
    print(f"figure in {options.workdir}")


if __name__ == "__main__":
    console.run(main)
