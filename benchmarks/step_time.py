"""Measure a training step: `python -m benchmarks.step_time --config configs/lee2019.py --batch 2 --json OUT.json`.

The benchmark times the complete step of a config's system, all phases with their optimizers, as training compiles it,
on noise. With `--compare torch` its PyTorch twin takes turns with it, in both memory layouts; the faster one counts.
The twin must first give the same loss and gradients from the same weights. `--compare torch-compile` times the twin
with `torch.compile` as well, and `torch-compile-only`, which needs less memory, times it only so. A matrix product and
a copy take turns with the steps; they measure the peak rates of the machine.
"""

import dataclasses
import sys
import tempfile
from pathlib import Path
from typing import Literal

import jax
import numpy as np

from benchmarks.timing import rows
from benchmarks.timing.agreement import agreement, require_peer
from benchmarks.timing.contestants import make_jax, make_torch, noise_batch, twin_of
from benchmarks.timing.machine import bounds, make_copy, make_product
from benchmarks.timing.rounds import Contestant, in_turns
from qsep_jax.command_line import console, huge_pages
from qsep_jax.runs.experiment import Experiment, load_config
from qsep_jax.systems.base import System
from qsep_jax.training import cost
from qsep_jax.training.settings import with_precision
from qsep_jax.training.sharding import abstract

EXAMPLE = "python -m benchmarks.step_time --config configs/lee2019.py --batch 2 --compare torch --json step.json"
COLUMNS = ("implementation", "batch", "precision", "devices", "median_s", "p90_s")
COLUMNS += ("ratio_to_jax-small-pages", "ratio_to_jax-xla-flags")
COLUMNS += ("ratio_to_torch", "ratio_to_torch-compile", "ratio_to_jax")
COLUMNS += ("examples_per_s", "audio_s_per_s", "first_step_s", "peak_mib", "gflop", "mfu", "roofline")
LAYOUTS = ("contiguous", "channels_last")
# Number of examples in the comparison of a twin with its system; in float64, a full batch may not fit into memory.
COMPARED = 4
# The twins that each comparison times.
COMPARISONS = {
    "nothing": (),
    "torch": ("torch",),
    "torch-compile": ("torch", "torch-compile"),
    "torch-compile-only": ("torch-compile",),
}
# Names of the measurements of the machine, and the number of modules that a row lists.
PRODUCT, COPY, LARGEST = "matrix product", "copy", 12


@dataclasses.dataclass(frozen=True)
class StepTime:
    """Time the complete training step of a config's system.

    Attributes:
      config: Experiment, `configs/X.py[:VARIANT]`.
      json: JSON file to which the rows are added; by default they are only printed.
      batch: Number of examples in a step (0: the config's batch size).
      precision: Precision of the network bodies.
      compare: Other implementations to time; they use one device, so JAX uses one as well.
      native_convs: Also time the step with XLA's own gradients of convolutions, that is, without `qsep_jax.nn.conv`.
      small_pages: Also time the step with pages of 4 KiB, that is, without `qsep_jax.command_line.huge_pages`.
      xla_flags: Also time the step compiled with these options of XLA (see `train.xla_flags`).
      rounds: Number of times that each implementation is timed, in turns.
      limit: Seconds that a twin may take for its first steps, and for each turn; a twin that takes longer or fails is
        left out, by name.
      devices: Number of devices to use (0: all; 1 in a comparison).
    """

    config: str = ""
    json: Path | None = None
    batch: int = 0
    precision: Literal["config", "float32", "bfloat16"] = "config"
    compare: Literal["nothing", "torch", "torch-compile", "torch-compile-only"] = "nothing"
    native_convs: bool = False
    small_pages: bool = False
    xla_flags: dict[str, str] = dataclasses.field(default_factory=dict)
    rounds: int = 10
    limit: float = 900.0
    devices: int = 0

    def check(self) -> None:
        """Raise ValueError for invalid options. A constructor would not do: tyro draws a box around its errors."""
        for name, minimum in (("rounds", 1), ("batch", 0), ("devices", 0)):
            if getattr(self, name) < minimum:
                raise ValueError(f"--{name} must be at least {minimum}, not {getattr(self, name)}")
        if self.limit <= 0:
            raise ValueError(f"--limit must be above 0 s, not {self.limit:g}")
        if self.compare != "nothing" and self.devices > 1:
            raise ValueError(f"the PyTorch twin has one device: compare with --devices 1, not {self.devices}")


def measure(experiment: Experiment, options: StepTime) -> list[rows.Row]:
    """One row per implementation, without `rows.circumstances`.

    Raises:
      ValueError: if the twin does not exist or does not agree, or if the batch cannot be split over the devices.
    """
    batch = options.batch or experiment.train.batch_size
    precision = experiment.train.precision if options.precision == "config" else options.precision
    train = dataclasses.replace(experiment.train, batch_size=batch, precision=precision)
    system = with_precision(experiment.system, precision)
    with_torch = options.compare != "nothing"
    # Twins that do not compute on images have a single layout.
    layouts = getattr(twin_of(system), "LAYOUTS", LAYOUTS) if with_torch else ()
    arguments = (system, train, options.devices or int(with_torch))
    twin_facts: rows.Row = {}
    with tempfile.TemporaryDirectory() as folder:
        if with_torch:
            print("comparing losses and gradients with the PyTorch twin", file=sys.stderr, flush=True)
            weights = Path(folder) / "weights.pt"
            twin_facts = require_peer(system, min(batch, COMPARED), weights)
        contestants = [Contestant("jax", make_jax, *arguments, False)]
        if options.native_convs:
            contestants.append(Contestant("jax-native", make_jax, *arguments, True))
        if options.small_pages:
            small = {huge_pages.VARIABLE: f"{huge_pages.OPTION}=0"}
            contestants.append(Contestant("jax-small-pages", make_jax, *arguments, False, environment=small))
        if options.xla_flags:
            flagged = dataclasses.replace(train, xla_flags=options.xla_flags)
            contestants.append(Contestant("jax-xla-flags", make_jax, system, flagged, arguments[2], False))
        machine = contestants[0].facts
        if with_torch:
            for kind in COMPARISONS[options.compare]:
                for layout in layouts:
                    twin = (system, train, layout, weights, machine["platform"], kind == "torch-compile")
                    contestants.append(Contestant(f"{kind} {layout}", make_torch, *twin, limit_s=options.limit))
        contestants += [
            Contestant(PRODUCT, make_product, precision, arguments[2]),
            Contestant(COPY, make_copy, arguments[2]),
        ]
        peers = [contestant.name for contestant in contestants if contestant.name.startswith("torch")]
        times = in_turns(contestants, options.rounds, peers=peers)
        facts = {contestant.name: contestant.facts for contestant in contestants if contestant.name in times}
    rates = facts[PRODUCT]["flops"] / np.median(times.pop(PRODUCT)), facts[COPY]["bytes"] / np.median(times.pop(COPY))
    common = {"benchmark": "step_time", "system": type(system).__name__, "config": options.config}
    common |= {"batch": batch, "precision": precision, "devices": machine["devices"], "device": machine["device"]}
    common |= {"parameters": machine["parameters"]}
    costs = costs_of(system, batch)
    return [
        common | row | efficiency(system, batch, costs, row["median_s"], *rates)
        for row in comparison_rows(times, twin_facts, facts)
    ]


def costs_of(system: System, batch: int) -> cost.Costs:
    """The operations and bytes of a step, by module."""
    spec = abstract(noise_batch(system, batch))
    variables = jax.eval_shape(lambda: system.init(jax.random.key(0), spec))
    return cost.step(system, variables, spec)


def efficiency(
    system: System, batch: int, costs: cost.Costs, seconds: float, flops_per_s: float, bytes_per_s: float
) -> rows.Row:
    """The rates of a step that takes `seconds`, absolute and relative to the peak rates of the machine.

    `mfu` is the rate of the step's operations (`training.cost.step`) relative to the rate of a matrix product,
    `roofline` the lower bound of the step's time relative to its measured time, and `modules` the bound of each module.
    """
    modules, flops = bounds(costs, flops_per_s, bytes_per_s), cost.total(costs).flops
    return {
        "examples_per_s": batch / seconds,
        "audio_s_per_s": batch * system.example_samples / system.sample_rate / seconds,
        "gflop": flops / 1e9,
        "mfu": flops / seconds / flops_per_s,
        "roofline": sum(module["least_s"] for module in modules) / seconds,
        "machine_gflop_per_s": flops_per_s / 1e9,
        "machine_gb_per_s": bytes_per_s / 1e9,
        "modules": modules[:LARGEST],
    }


def comparison_rows(times: dict[str, list[float]], twin_facts: rows.Row, facts: dict[str, rows.Row]) -> list[rows.Row]:
    """A row per implementation with its ratios to the others; the faster layout of each twin counts.

    Args:
      twin_facts: Facts of the comparison between twin and system (`agreement.compare`).
      facts: Facts of each contestant.
    """
    kinds: dict[str, dict[str, list[float]]] = {}
    for name, seconds in times.items():
        kind, _, layout = name.partition(" ")
        kinds.setdefault(kind, {})[layout] = seconds
    best = {kind: min(layouts, key=lambda name: np.median(layouts[name])) for kind, layouts in kinds.items()}
    best_times = {kind: kinds[kind][layout] for kind, layout in best.items()}
    table = []
    for kind, seconds in best_times.items():
        row: rows.Row = {"implementation": kind, **rows.summary(seconds)}
        row |= {
            f"ratio_to_{other}": rows.paired_ratio(seconds, other_seconds)
            for other, other_seconds in best_times.items()
            if other != kind
        }
        kind_facts = facts.get(f"{kind} {best[kind]}".strip(), {})
        row |= {name: kind_facts[name] for name in ("first_step_s", "peak_mib") if name in kind_facts}
        if kind.startswith("torch"):
            medians = {name: float(np.median(seconds)) for name, seconds in kinds[kind].items()}
            row |= {"layout": best[kind], "layouts_median_s": medians, **twin_facts}
        table.append(row)
    return table


def main() -> None:
    options = console.parse(StepTime, "python -m benchmarks.step_time", EXAMPLE)
    if not options.config:
        raise ValueError(f"--config is needed. Example: {EXAMPLE}")
    options.check()
    experiment = load_config(options.config)
    rows.check_writable(options.json)
    measured = measure(experiment, options)
    circumstances = rows.circumstances("jax", "jaxlib", "flax", "optax", "torch", "numpy")
    rows.write(options.json, [row | circumstances for row in measured])
    print(f"training step of {measured[0]['system']}, {options.config}, {options.rounds} rounds in turns")
    print(rows.table(measured, COLUMNS))
    for row in measured:
        if "layouts_median_s" in row:
            layouts = ", ".join(f"{name} {seconds:.4g} s" for name, seconds in row["layouts_median_s"].items())
            print(f"{row['implementation']}: {layouts}; {agreement(row)}")
    first = measured[0]
    machine = f"{first['machine_gflop_per_s']:,.0f} GFLOP/s, {first['machine_gb_per_s']:.1f} GB/s"
    print(f"peak rates of the machine in the same rounds: {machine}")
    print("modules with the highest lower bounds of their time, and whether compute or memory sets the bound:")
    print(rows.table(first["modules"], ("module", "flops", "bytes", "bound", "least_s")))
    if options.json:
        print(f"written to {options.json}")


if __name__ == "__main__":
    console.run(main)
