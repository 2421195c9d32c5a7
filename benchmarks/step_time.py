"""What a training step costs: `python -m benchmarks.step_time --config configs/lee2019.py --batch 2 --json OUT.json`.

Times the whole step of a config's system, all phases with their optimizers, as training compiles it, on noise. With
`--compare torch` its PyTorch twin takes turns with it, in both memory layouts; the better one counts. The twin counts
only if it gives the same loss and gradients from the same weights, which is checked first. `--compare torch-compile`
lets it run by `torch.compile` as well; where memory is short, `torch-compile-only` lets it do nothing else. A matrix
product and a copy take turns with them: what the machine can do.
"""

import dataclasses
import tempfile
from pathlib import Path
from typing import Literal

import jax
import numpy as np

from benchmarks.timing import rows
from benchmarks.timing.agreement import agreement, need_peer
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
# Examples by which a twin is held against its system: in float64, all of a batch may not fit into memory.
COMPARED = 4
# The twins of each comparison.
COMPARISONS = {
    "nothing": (),
    "torch": ("torch",),
    "torch-compile": ("torch", "torch-compile"),
    "torch-compile-only": ("torch-compile",),
}
# What the machine can do, and how many modules of a step are listed.
PRODUCT, COPY, LARGEST = "matrix product", "copy", 12


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
      small_pages: time it with the kernel's pages of 4 KiB, too: the step before `qsep_jax.command_line.huge_pages`.
      xla_flags: time it compiled with these options of XLA, too, as `train.xla_flags`.
      rounds: how often each implementation is timed, in turns.
      devices: how many to use (0: all; 1 in a comparison).
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
    devices: int = 0

    def check(self) -> None:
        """Raise ValueError for what cannot be measured; not on construction, where tyro would draw a box around it."""
        for name, least in (("rounds", 1), ("batch", 0), ("devices", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"--{name} must be at least {least}, not {getattr(self, name)}")
        if self.compare != "nothing" and self.devices > 1:
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
    with_torch = options.compare != "nothing"
    # Without images there is one layout only.
    layouts = getattr(twin_of(system), "LAYOUTS", LAYOUTS) if with_torch else ()
    arguments = (system, train, options.devices or int(with_torch))
    facts: rows.Row = {}
    with tempfile.TemporaryDirectory() as folder:
        if with_torch:
            weights = Path(folder) / "weights.pt"
            facts = need_peer(system, min(batch, COMPARED), weights)
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
                    given = (system, train, layout, weights, machine["platform"], kind == "torch-compile")
                    contestants.append(Contestant(f"{kind} {layout}", make_torch, *given))
        yardsticks = [
            Contestant(PRODUCT, make_product, precision, arguments[2]),
            Contestant(COPY, make_copy, arguments[2]),
        ]
        made = {contestant.name: contestant.facts for contestant in (*contestants, *yardsticks)}
        times = in_turns([*contestants, *yardsticks], options.rounds)
    rates = made[PRODUCT]["flops"] / np.median(times.pop(PRODUCT)), made[COPY]["bytes"] / np.median(times.pop(COPY))
    common = {"benchmark": "step_time", "system": type(system).__name__, "config": options.config}
    common |= {"batch": batch, "precision": precision, "devices": machine["devices"], "device": machine["device"]}
    common |= {"parameters": machine["parameters"]}
    costs = costs_of(system, batch)
    return [
        common | row | efficiency(system, batch, costs, row["median_s"], *rates) for row in compared(times, facts, made)
    ]


def costs_of(system: System, batch: int) -> cost.Costs:
    """What a step costs, by module."""
    spec = abstract(noise_batch(system, batch))
    variables = jax.eval_shape(lambda: system.init(jax.random.key(0), spec))
    return cost.step(system, variables, spec)


def efficiency(
    system: System, batch: int, costs: cost.Costs, seconds: float, flops_per_s: float, bytes_per_s: float
) -> rows.Row:
    """Rates of a step of so many seconds, beside what the machine can do.

    `mfu` is the rate of the step's operations (`training.cost.step`) relative to the rate of a matrix product,
    `roofline` the lower bound of the step's time relative to its measured time, `modules` that bound for each module.
    """
    modules, flops = bounds(costs, flops_per_s, bytes_per_s), cost.total(costs).flops
    return {
        "examples_per_s": batch / seconds,
        "audio_s_per_s": batch * system.example_samples / system.sample_rate / seconds,
        "gflop": flops / 1e9,
        "mfu": flops / seconds / flops_per_s,
        "roofline": sum(each["least_s"] for each in modules) / seconds,
        "machine_gflop_per_s": flops_per_s / 1e9,
        "machine_gb_per_s": bytes_per_s / 1e9,
        "modules": modules[:LARGEST],
    }


def compared(times: dict[str, list[float]], facts: rows.Row, made: dict[str, rows.Row]) -> list[rows.Row]:
    """A row per implementation with its ratios to the others; of the layouts of the twin the one that is faster.

    Args:
      facts: of how far the twin agrees.
      made: what each contestant said when it was made.
    """
    kinds: dict[str, dict[str, list[float]]] = {}
    for name, seconds in times.items():
        kind, _, layout = name.partition(" ")
        kinds.setdefault(kind, {})[layout] = seconds
    best = {kind: min(layouts, key=lambda name: np.median(layouts[name])) for kind, layouts in kinds.items()}
    counted = {kind: kinds[kind][layout] for kind, layout in best.items()}
    table = []
    for kind, seconds in counted.items():
        said = made.get(f"{kind} {best[kind]}".strip(), {})
        row: rows.Row = {"implementation": kind, **rows.summary(seconds)}
        row |= {f"ratio_to_{other}": rows.paired_ratio(seconds, counted[other]) for other in counted if other != kind}
        row |= {name: said[name] for name in ("first_step_s", "peak_mib") if name in said}
        if kind.startswith("torch"):
            medians = {name: float(np.median(each)) for name, each in kinds[kind].items()}
            row |= {"layout": best[kind], "layouts_median_s": medians, **facts}
        table.append(row)
    return table


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
            print(f"{row['implementation']}: {layouts}; {agreement(row)}")
    first = measured[0]
    machine = f"{first['machine_gflop_per_s']:,.0f} GFLOP/s, {first['machine_gb_per_s']:.1f} GB/s"
    print(f"the machine in the same rounds: {machine}; the step's parts by what binds them at best:")
    print(rows.table(first["modules"], ("module", "flops", "bytes", "bound", "least_s")))
    print(f"written to {options.json}")


if __name__ == "__main__":
    console.run(main)
