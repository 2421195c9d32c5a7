"""Does bfloat16 cost quality? `python -m benchmarks.precision --config configs/quickstart.py --json precision.json`.

Trains a config from several seeds, in float32 and with bfloat16 bodies, and sets the validation losses side by side:
the same seed begins with the same parameters and sees the same examples. What tells whether a difference means anything
is how far float32 differs from itself between seeds.
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
    """Train in both precisions and compare what validation says.

    Attributes:
      config: the experiment, `configs/X.py[:VARIANT]`; its last evaluation is left out.
      json: file to add the rows to.
      workdir: folder of the runs, which are continued if they are there.
      root: folder of the prepared corpora; the config's own if left out.
      steps: of each run (0: the config's).
      seeds: how many, from 0 on; at least 2.
    """

    config: str = ""
    json: Path | None = None
    workdir: Path = Path("runs/precision")
    root: str = ""
    steps: int = 0
    seeds: int = 3

    def check(self) -> None:
        """Raise ValueError for what cannot be measured; not on construction, where tyro would draw a box around it."""
        if self.seeds < 2:
            raise ValueError(f"--seeds must be at least 2, not {self.seeds}: one does not tell how far they differ")
        if self.steps < 0:
            raise ValueError(f"--steps must be 0 or more, not {self.steps}")


def of_run(experiment: Experiment, options: Precision, precision: str, seed: int) -> Experiment:
    """The experiment of one run."""
    settings = experiment.train
    data = dataclasses.replace(experiment.data, root=options.root or experiment.data.root)
    changed = dataclasses.replace(
        settings, steps=options.steps or settings.steps, precision=precision, seed=seed, evaluate=False
    )
    return dataclasses.replace(experiment, data=data, train=changed)


def losses_of(folder: Path) -> dict[int, float]:
    """Validation loss by step."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["validation/loss"] for line in lines if "validation/loss" in line}


def compared(losses: dict[str, list[dict[int, float]]]) -> list[rows.Row]:
    """A row per validation, of the losses of each precision, by seed.

    `between_seeds` is the standard deviation of float32 over the seeds, `difference` the mean one of bfloat16 to
    float32 of the same seed, `of_noise` its size as a share of that.
    """
    table = []
    for step in losses["float32"][0]:
        of_step = {precision: np.array([run[step] for run in runs]) for precision, runs in losses.items()}
        spread = float(of_step["float32"].std(ddof=1))
        difference = float((of_step["bfloat16"] - of_step["float32"]).mean())
        row: rows.Row = {"step": step, **{precision: float(values.mean()) for precision, values in of_step.items()}}
        noise = abs(difference) / spread if spread else float("inf")
        table.append(row | {"between_seeds": spread, "difference": difference, "of_noise": noise})
    return table


def picture(losses: dict[str, list[dict[int, float]]], path: Path) -> None:
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
    if not options.config or options.json is None:
        raise ValueError(f"--config and --json are needed. Example: {EXAMPLE}")
    options.check()
    rows.check_writable(options.json)
    console.cache_compilations()
    experiment = load_config(options.config)
    losses: dict[str, list[dict[int, float]]] = {precision: [] for precision in PRECISIONS}
    for seed in range(options.seeds):
        for precision in PRECISIONS:
            run = RunFolder(options.workdir / f"{precision}_{seed}")
            train(run, of_run(experiment, options, precision, seed))
            losses[precision].append(losses_of(run.path))
    measured = compared(losses)
    common = {"benchmark": "precision", "system": type(experiment.system).__name__, "config": options.config}
    common |= {"implementation": "jax", "batch": experiment.train.batch_size, "seeds": options.seeds}
    common |= {"devices": jax.device_count(), "device": jax.devices()[0].device_kind}
    around = rows.circumstances("jax", "jaxlib", "flax", "optax", "numpy")
    rows.write(options.json, [common | row | around for row in measured])
    picture(losses, options.workdir / "precision.png")
    print(f"validation loss of {options.config}, {options.seeds} seeds")
    print(rows.table(measured, COLUMNS))
    print(f"picture in {options.workdir}")


if __name__ == "__main__":
    console.run(main)
