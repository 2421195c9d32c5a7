"""Time the forward and backward pass of Conv-TasNet beside PyTorch: `python -m benchmarks.passes --json OUT.json`.

The benchmark computes the loss of one example of noise and its gradients, either of all parameters or of those that an
adaptation strategy trains, without an optimizer. The network and its PyTorch twin take turns, each in a process of its
own, so that the memory of each can be measured.
"""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from benchmarks.timing import rows
from benchmarks.timing.agreement import agreement, require_peer
from benchmarks.timing.contestants import Facts, Run, noise_batch, use_all_cores
from benchmarks.timing.memory import MIB, check_memory, memory, settle
from benchmarks.timing.rounds import Contestant, in_turns
from qsep_jax.command_line import console
from qsep_jax.runs.experiment import load_config
from qsep_jax.systems.cantisani2021 import SPLITS, Cantisani2021
from qsep_jax.training.partition import replace, select

EXAMPLE = "python -m benchmarks.passes --seconds 10 --trained l3 --json passes.json"
COLUMNS = ("implementation", "seconds", "trained", "median_s", "p90_s", "ratio_to_torch", "peak_mib", "above_idle_mib")
# Length of the example by which the twin is compared with the network; the parameters do not depend on the length.
COMPARED_S = 0.25


@dataclasses.dataclass(frozen=True)
class Passes:
    """Time the forward and backward pass of Conv-TasNet and of its PyTorch twin.

    Attributes:
      json: JSON file to which the rows are added; by default they are only printed.
      config: Variant of configs/cantisani2021.py.
      seconds: Length of the example in seconds.
      trained: Parameters whose gradients are computed: all, or those that an adaptation strategy trains.
      keep: Activations of each block that are stored for the backward pass (by default, the config's choice).
      rounds: Number of times that each implementation is timed, in turns.
    """

    json: Path | None = None
    config: str = "configs/cantisani2021.py"
    seconds: float = 2.0
    trained: Literal["all", "l1", "l2", "l3", "l4", "l5"] = "all"
    keep: Literal["config", "all", "hidden", "none"] = "config"
    rounds: int = 3


def prefixes_of(system: Cantisani2021, trained: str) -> tuple[str, ...]:
    """The path prefixes under `params` of the parameters that are trained."""
    return system.adaptation_presets()[trained] if trained in SPLITS else ("tasnet",)


def make_jax(system: Cantisani2021, trained: str) -> tuple[Run, Facts]:
    """Both passes of the network in JAX (`rounds.Make`)."""
    console.cache_compilations()
    params = jax.jit(lambda: system.init(jax.random.key(0), {}))()["params"]
    trained_params = select(params, prefixes_of(system, trained))
    batch = jax.device_put(noise_batch(system, 1)["separation"])

    def loss(trained_params, params, batch):
        return system.loss({"params": replace(params, trained_params)}, batch, jax.random.key(0))[0]

    passes = jax.jit(jax.value_and_grad(loss))
    planned = passes.lower(trained_params, params, batch).compile().memory_analysis()

    def run() -> None:
        jax.block_until_ready(passes(trained_params, params, batch))

    facts = {"planned_temporaries_mib": planned.temp_size_in_bytes / MIB} if planned else {}
    return run, {**facts, **_peak(run), "gradients": sum(leaf.size for leaf in trained_params.values())}


def make_torch(system: Cantisani2021, trained: str, weights: Path) -> tuple[Run, Facts]:
    """Both passes of the twin (`rounds.Make`), with the weights that `agreement.compare` wrote."""
    import torch  # pyright: ignore[reportMissingImports]

    from benchmarks.torch_twins.cantisani2021 import Twin

    use_all_cores(torch)
    twin = Twin(system)
    twin.load_state_dict(torch.load(weights, weights_only=True))
    trained_names = _names(system, trained, twin)
    for name, parameter in twin.named_parameters():
        parameter.requires_grad_(name in trained_names)
    batch = jax.tree.map(torch.from_numpy, noise_batch(system, 1)["separation"])

    def run() -> None:
        twin.zero_grad()
        twin.losses("separation", batch).backward()

    facts = {"threads": torch.get_num_threads(), **_peak(run)}
    gradients = [parameter.grad for parameter in twin.parameters() if parameter.grad is not None]
    return run, {**facts, "gradients": sum(gradient.numel() for gradient in gradients)}


def measure(options: Passes) -> list[rows.Row]:
    """One row per implementation, without `rows.circumstances`.

    Raises:
      ValueError: if the config is of another system, or if the twin does not agree with the system.
    """
    system = load_config(options.config).system
    if not isinstance(system, Cantisani2021):
        raise ValueError(f"{options.config} is for {type(system).__name__}: give a variant of configs/cantisani2021.py")
    if options.keep != "config":
        system = dataclasses.replace(system, keep=options.keep)
    short, system = (
        dataclasses.replace(system, samples=round(seconds * system.sample_rate))
        for seconds in (min(COMPARED_S, options.seconds), options.seconds)
    )
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.pt"
        twin_facts = require_peer(short, 1, weights)
        contestants = [
            Contestant("jax", make_jax, system, options.trained),
            Contestant("torch", make_torch, system, options.trained, weights),
        ]
        facts = {contestant.name: contestant.facts for contestant in contestants}
        times = in_turns(contestants, options.rounds)
    ratio = {"jax": {"ratio_to_torch": rows.paired_ratio(times["jax"], times["torch"])}, "torch": twin_facts}
    common = {"benchmark": "passes", "config": options.config, "seconds": options.seconds, "trained": options.trained}
    common |= {"system": type(system).__name__, "keep": system.keep, "batch": 1, "precision": system.compute_dtype}
    return [
        {**common, "implementation": name, **rows.summary(times[name]), **facts[name], **ratio[name]} for name in times
    ]


def _names(system: Cantisani2021, trained: str, twin: Any) -> set[str]:
    """The names of the twin's parameters that are trained."""
    spec = jax.eval_shape(lambda: system.init(jax.random.key(0), {}))["params"]
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, bool), spec)
    ones: Any = {path: np.ones(leaf.shape, bool) for path, leaf in select(zeros, prefixes_of(system, trained)).items()}
    return {name for name, mask in twin.named(replace(zeros, ones)) if mask.any()}


def _peak(run: Run) -> Facts:
    """The peak memory of the process during a run, after a first run has compiled and allocated everything."""
    run()
    idle = settle()
    run()
    peak = memory("VmHWM")
    return {"peak_mib": peak, "above_idle_mib": peak - idle}


def main() -> None:
    options = console.parse(Passes, "python -m benchmarks.passes", EXAMPLE)
    if options.rounds < 1 or options.seconds <= 0:
        raise ValueError("--rounds must be at least 1 and --seconds more than 0")
    check_memory()
    rows.check_writable(options.json)
    measured = measure(options)
    circumstances = rows.circumstances("jax", "jaxlib", "flax", "torch", "numpy")
    rows.write(options.json, [row | circumstances for row in measured])
    print(f"forward and backward pass of Conv-TasNet, {options.config}, {options.rounds} rounds in turns")
    print(rows.table(measured, COLUMNS))
    print(f"twin: {agreement(measured[1])}")


if __name__ == "__main__":
    console.run(main)
