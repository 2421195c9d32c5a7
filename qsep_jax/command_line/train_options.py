"""The options of `train`: the fields of a config, which depend on the config, and those of the command itself."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro

from data_pipelines.testlist import TestList
from qsep_jax.command_line import console
from qsep_jax.command_line.overrides import Overrides, entry_options
from qsep_jax.runs.experiment import Experiment, load_config
from qsep_jax.training import targets
from qsep_jax.training.settings import Train
from qsep_jax.training.targets import Target

EXAMPLE = "qsep train --config configs/quickstart.py --workdir runs/quickstart"


@dataclasses.dataclass(frozen=True)
class Distributed:
    """How the processes of a run on several hosts find each other.

    Attributes:
      enabled: Whether the run has several processes; on TPU pods and under Slurm the other options are not needed.
      coordinator: HOST:PORT of the first process.
      processes: Number of processes.
      process: Number of this process, from 0.
    """

    enabled: bool = False
    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """Train the system of a config, or continue the run in --workdir.

    Every field of the config is an option: `qsep train --config NAME --help` lists those of `--system` and `--data`,
    too. An entry of a dictionary is set by --train.weights.NAME VALUE, and all of them by --train.weights NAME VALUE ….

    Attributes:
      config: Path of a config file or name of an installed config, with a variant after a colon.
      workdir: Run folder, which is created or continued.
      plan: Print what a step takes of each device, instead of training: `8` devices of this machine or simulated ones,
        `h100:8`, `h100:8x8` (hosts × GPUs), `tpu-v5e:4x4`, `tpu-v5p:2x2x1` or `tpu-v6e:2x4`. The step is compiled for
        accelerators that need not be here (the extra `aot`).
      distributed: How the processes of a run on several hosts find each other.
      train: Settings of the run.
      evaluation: Test mixtures.
      system: The paper's method.
      data: Corpora and mixing recipes.
    """

    config: str
    workdir: Path | None = None
    plan: str = ""
    distributed: Distributed = Distributed()
    train: Train = Train()
    evaluation: TestList = TestList()


@dataclasses.dataclass(frozen=True)
class _Config:
    config: str = ""


def parse(arguments: Sequence[str]) -> tuple[Path | None, Experiment, Distributed, Target | None]:
    """The run folder, the experiment of the config with its overrides, and for which devices to plan it (None: run it).

    Raises:
      ValueError: For a missing config or run folder, an unknown variant, or a field or value that does not exist.
    """
    with console.one_line_errors("qsep train", arguments):
        first, _ = tyro.cli(_Config, args=arguments, return_unknown_args=True, add_help=False)
    if not first.config:
        if {"-h", "--help"} & {*arguments}:
            console.parse(TrainOptions, "qsep train", EXAMPLE, ("--help",))
        raise ValueError(f"--config is missing. Example: {EXAMPLE}")
    overrides = Overrides(arguments)
    options = _parse(overrides.apply(load_config(first.config)), overrides)
    fields = {field.name: getattr(options, field.name) for field in dataclasses.fields(Experiment)}
    target = targets.parse(options.plan) if options.plan else None
    if options.workdir is None and target is None:
        raise ValueError(f"--workdir is missing. Example: {EXAMPLE}")
    return options.workdir, Experiment(**fields), options.distributed, target


def _parse(default: Experiment, overrides: Overrides) -> Any:
    """The options of a config; each field of `default` that the arguments do not name keeps its value."""
    fields: list[Any] = [
        (f"class{number}", choice.option, dataclasses.field(default=choice.selected))
        for number, choice in enumerate(overrides.choices)
    ]
    for field in dataclasses.fields(default):
        value = getattr(default, field.name)
        fields.append((field.name, type(value), dataclasses.field(default_factory=lambda value=value: value)))
    kind = dataclasses.make_dataclass("Training", fields, bases=(TrainOptions,), frozen=True)
    kind.__doc__ = TrainOptions.__doc__
    # Each union holds the class of its default: `Overrides` chose it.
    markers = (tyro.conf.AvoidSubcommands,)
    return console.parse(kind, "qsep train", EXAMPLE, overrides.rest, config=markers, registry=entry_options())
