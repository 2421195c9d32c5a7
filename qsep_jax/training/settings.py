"""The settings of a training run, and the compute precision that they select.

`precision` concerns the network bodies and nothing else. Layers keep float32 parameters and cast them to the system's
`compute_dtype` where they are used; STFT, masks, losses and the statistics of norms stay float32. bfloat16 has the
exponent of float32, so no loss scaling is needed. On GPUs "float32" means XLA's default there, TF32 in matrix products;
`jax_default_matmul_precision` changes that.
"""

import dataclasses
from typing import Literal

from qsep_jax.systems.base import System

PRECISIONS = ("float32", "bfloat16")
# What the backward pass computes again instead of storing it: nothing, or all that lies between convolutions.
Remat = Literal["nothing", "between_convs"]


@dataclasses.dataclass(frozen=True)
class Train:
    """Settings of a run; every field can be given on the command line as `--train.field`.

    Attributes:
      steps: of training in all; a continued run stops at the same number. 0 keeps what the weights below are.
      batch_size: examples of a step over all devices together.
      seed: of the parameters, the noise in the losses and the mixtures.
      precision: of the network bodies. Parameters, STFT, masks, statistics and losses are float32 in any case.
      ema_decay: of the running average of the parameters that is kept beside them and used for inference (0: none).
      steps_per_dispatch: steps in one compiled call; more than 1 spares Python's time when steps are tiny.
      log_every: steps between lines of `metrics.jsonl`; nothing is fetched from the device in between.
      validate_every, validation_batches: steps between validations, and how many batches each takes (0: never).
      save_every: steps between checkpoints.
      keep: latest checkpoints to keep, besides the best.
      summary_every: steps between audio and spectrograms in TensorBoard (0: never).
      most_skipped: updates of a phase that may be skipped in a row, for a loss or gradient that is not finite, before
        the run stops.
      workers: processes that mix examples (0: within the training process).
      condition_windows: most windows of a training track that its condition, and so the class means, are taken from;
        evenly spread (0: all of them, as in the paper).
      weights: networks that do not start from scratch, by name: a run folder or a bundle that has the same network, or
        a file of published weights.
      patience: validations in a row that may fail to lower the loss before the run ends early (0: it never does). Needs
        validate_every and save_every to be the same.
      evaluate: whether the run ends with the experiment's evaluation.
      shard_parameters: whether parameters, optimizer state and averages are split over the devices instead of lying on
        each of them (FSDP): less memory, more to send.
      corpus_on_device: whether the corpus lies in the devices' memory and examples are drawn within the step, by the
        same recipe in other random numbers. Where it does not fit, the run says so and mixes on the host.
      remat: what the backward pass computes again instead of finding it stored: nothing, or all that lies between
        convolutions, which takes more time and less memory.
      xla_flags: options of XLA by which the step is compiled, by name without dashes.
      trace_from, trace_steps: which steps `jax.profiler` records into `trace` of the run folder (0 steps: none).
    """

    steps: int = 100_000
    batch_size: int = 5
    seed: int = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    ema_decay: float = 0.0
    steps_per_dispatch: int = 1
    log_every: int = 100
    validate_every: int = 1_000
    validation_batches: int = 20
    save_every: int = 1_000
    keep: int = 2
    summary_every: int = 5_000
    most_skipped: int = 10
    workers: int = 2
    condition_windows: int = 0
    weights: dict[str, str] = dataclasses.field(default_factory=dict)
    patience: int = 0
    evaluate: bool = False
    shard_parameters: bool = False
    corpus_on_device: bool = False
    remat: Remat = "nothing"
    xla_flags: dict[str, str] = dataclasses.field(default_factory=dict)
    trace_from: int = 10
    trace_steps: int = 0

    def __post_init__(self):
        if self.steps < 0:
            raise ValueError(f"train.steps must be 0 or more, not {self.steps}")
        for name in ("batch_size", "steps_per_dispatch", "log_every", "save_every", "keep", "most_skipped"):
            if getattr(self, name) < 1:
                raise ValueError(f"train.{name} must be at least 1, not {getattr(self, name)}")
        if self.patience < 0 or (self.patience and self.validate_every != self.save_every):
            raise ValueError(
                f"train.patience {self.patience} counts validations from 0 on, of which each is saved: give "
                f"train.save_every {self.save_every} and train.validate_every {self.validate_every} the same value"
            )
        if self.trace_from < 0 or self.trace_steps < 0:
            raise ValueError(
                f"train.trace_from and trace_steps must be 0 or more, not {self.trace_from} and {self.trace_steps}"
            )
        if not 0.0 <= self.ema_decay < 1.0:
            raise ValueError(f"train.ema_decay must be in [0, 1), not {self.ema_decay}")


# What the variant `debug` of a config trains with: everything happens at least once, within seconds.
DEBUG = Train(
    steps=4,
    batch_size=2,
    log_every=2,
    validate_every=2,
    validation_batches=1,
    save_every=2,
    summary_every=4,
    workers=0,
    condition_windows=1,
)


def with_precision(system: System, precision: str) -> System:
    """The same system computing its network bodies in `precision`."""
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision '{precision}'; there are {', '.join(PRECISIONS)}")
    return dataclasses.replace(system, compute_dtype=precision)  # pyright: ignore[reportArgumentType]
