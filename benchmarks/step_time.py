"""What a training step costs: `python -m benchmarks.step_time --config configs/lee2019.py --batch 2 --json OUT.json`.

Times the whole step of a config's system, all phases with their optimizers, as training compiles it, on noise. With
`--compare torch` its PyTorch twin takes turns with it, in both memory layouts; the better one counts. The twin counts
only if it gives the same loss and gradients from the same weights, which is checked first.
"""

import dataclasses
import tempfile
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks import rows
from benchmarks.contestants import compare, make_jax, make_torch, twin_of
from benchmarks.rounds import Contestant, facts_of, in_turns
from qsep_jax import console
from qsep_jax.experiment import Experiment, load_config
from qsep_jax.training.precision import with_precision

EXAMPLE = "python -m benchmarks.step_time --config configs/lee2019.py --batch 2 --compare torch --json step.json"
COLUMNS = ("implementation", "batch", "precision", "devices", "median_s", "p90_s", "ratio_to_torch", "ratio_to_jax")
LAYOUTS = ("contiguous", "channels_last")
# Examples by which a twin is held against its system: in float64, all of a batch may not fit into memory.
COMPARED = 4


@dataclasses.dataclass(frozen=True)
class StepTime:
    """Time the whole training step of a config's system.

    Attributes:
      config: the experiment, `configs/X.py[:VARIANT]`.
      json: file to write the rows to.
      batch: examples of a step (0: the config's).
      precision: of the network bodies.
      compare: with which other implementation; it has one device, so JAX takes one as well.
      native_convs: time XLA's own convolution gradients, too: the step before `qsep_jax.nn.conv` made them fast.
      rounds: how often each implementation is timed, in turns.
      devices: how many to use (0: all; 1 in a comparison).
    """

    config: str = ""
    json: Path | None = None
    batch: int = 0
    precision: Literal["config", "float32", "bfloat16"] = "config"
    compare: Literal["nothing", "torch"] = "nothing"
    native_convs: bool = False
    rounds: int = 10
    devices: int = 0

    def check(self) -> None:
        """Raise ValueError for what cannot be measured; not on construction, where tyro would draw a box around it."""
        for name, least in (("rounds", 1), ("batch", 0), ("devices", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"--{name} must be at least {least}, not {getattr(self, name)}")
        if self.compare == "torch" and self.devices > 1:
            raise ValueError(f"the PyTorch twin has one device: compare with --devices 1, not {self.devices}")


def measure(experiment: Experiment, options: StepTime) -> list[rows.Row]:
    """One row per implementation, without circumstances.

    Raises:
      ValueError: if the twin is missing or is none, or the devices do not divide the batch.
    """
    batch = options.batch or experiment.train.batch_size
    precision = experiment.train.precision if options.precision == "config" else options.precision
    train = dataclasses.replace(experiment.train, batch_size=batch, precision=precision)
    system = with_precision(experiment.system, precision)
    with_torch = options.compare == "torch"
    if with_torch:
        twin_of(system)
    arguments = (system, train, options.devices or int(with_torch))
    facts: rows.Row = {}
    with tempfile.TemporaryDirectory() as folder:
        if with_torch:
            weights = Path(folder) / "weights.pt"
            facts = facts_of("comparison with the PyTorch twin", compare, system, min(batch, COMPARED), weights)
            if not facts["is_peer"]:
                raise ValueError(f"the PyTorch twin is no peer: {agreement(facts)}")
        contestants = [Contestant("jax", make_jax, *arguments, False)]
        if options.native_convs:
            contestants.append(Contestant("jax-native", make_jax, *arguments, True))
        machine = contestants[0].facts
        if with_torch:
            for layout in LAYOUTS:
                name = f"torch {layout}"
                contestants.append(Contestant(name, make_torch, system, train, layout, weights, machine["platform"]))
        times = in_turns(contestants, options.rounds)
    common = {"benchmark": "step_time", "system": type(system).__name__, "config": options.config}
    common |= {"batch": batch, "precision": precision, "devices": machine["devices"], "device": machine["device"]}
    common |= {"parameters": machine["parameters"]}
    return [common | row for row in compared(times, facts)]


def compared(times: dict[str, list[float]], facts: rows.Row) -> list[rows.Row]:
    """A row per implementation with its ratios to the others; of the layouts of the twin the one that is faster."""
    layouts = {name.removeprefix("torch "): seconds for name, seconds in times.items() if name.startswith("torch ")}
    named: dict[str, rows.Row] = {name: {} for name in times if name.startswith("jax")}
    seconds = {name: times[name] for name in named}
    if layouts:
        best = min(layouts, key=lambda name: np.median(layouts[name]))
        seconds["torch"] = layouts[best]
        medians = {name: float(np.median(each)) for name, each in layouts.items()}
        named["torch"] = {"layout": best, "layouts_median_s": medians, **facts}
    table = []
    for name, more in named.items():
        ratios = {
            f"ratio_to_{other}": rows.paired_ratio(seconds[name], seconds[other])
            for other in ("jax", "torch")
            if other in seconds and other != name
        }
        table.append({"implementation": name, **rows.summary(seconds[name]), **ratios, **more})
    return table


def agreement(facts: rows.Row) -> str:
    """In words how far the system and its twin are apart."""
    wide = facts.get("float64_relative_difference")
    kinks = "" if wide is None else f"; in float64, where no sign hangs on rounding, by at most {wide:.1e}"
    return (
        f"its loss differs by {facts['loss_relative_difference']:.1e}, its gradients by at most "
        f"{facts['max_relative_difference']:.1e} ({facts['where']}), its own rounding is up to "
        f"{facts['twin_rounding']:.1e}{kinks}"
    )


def main() -> None:
    options = console.parse(StepTime, "python -m benchmarks.step_time", EXAMPLE)
    if not options.config or options.json is None:
        raise ValueError(f"--config and --json are needed. Example: {EXAMPLE}")
    options.check()
    experiment = load_config(options.config)
    rows.check_writable(options.json)
    measured = measure(experiment, options)
    around = rows.circumstances("jax", "jaxlib", "flax", "optax", "torch", "numpy")
    rows.write(options.json, [row | around for row in measured])
    print(f"training step of {measured[0]['system']}, {options.config}, {options.rounds} rounds in turns")
    print(rows.table(measured, COLUMNS))
    for row in measured:
        if "layouts_median_s" in row:
            layouts = ", ".join(f"{name} {seconds:.4g} s" for name, seconds in row["layouts_median_s"].items())
            print(f"twin: {layouts}; {agreement(row)}")
    print(f"written to {options.json}")


if __name__ == "__main__":
    console.run(main)
