"""The settings of a training run, and the compute precision that they select.

`precision` only concerns the network bodies. Layers keep float32 parameters and cast them to the system's
`compute_dtype` where they use them; STFT, masks, losses and the statistics of norms are always float32. bfloat16 has
the exponent of float32, so it needs no loss scaling. On GPUs "float32" means XLA's default, which is TF32 in matrix
products; `jax_default_matmul_precision` changes it.
"""

import dataclasses
from typing import Literal

from qsep_jax.systems.base import System

PRECISIONS = ("float32", "bfloat16")
# What the backward pass recomputes instead of storing it: nothing, or all operations between convolutions.
Remat = Literal["nothing", "between_convs"]


@dataclasses.dataclass(frozen=True)
class Train:
    """Settings of a run; every field is an option `--train.field` of the command line.

    Attributes:
      steps: Number of training steps in all, including those before a continuation. With 0 the run only stores the
        initial weights.
      batch_size: Number of examples in a step, over all devices.
      seed: Seed of the parameters, of the noise in the losses and of the mixtures.
      precision: Compute precision of the network bodies. Parameters, STFT, masks, statistics of norms and losses are
        float32 in both cases.
      ema_decay: Decay of the exponential moving average of the parameters, which is used for inference (0: no average).
      steps_per_dispatch: Number of steps in one compiled call. More than 1 reduces the overhead of Python when steps
        are very short.
      log_every: Steps between lines of `metrics.jsonl`. Metrics are only fetched from the device after these steps.
      validate_every: Steps between validations (0: never).
      validation_batches: Number of batches in a validation.
      save_every: Steps between checkpoints.
      keep: Number of latest checkpoints to keep, in addition to the best one.
      summary_every: Steps between audio and spectrogram previews in TensorBoard (0: never).
      most_skipped: Number of consecutive updates of a phase that are skipped because loss or gradient is not finite,
        after which the run stops.
      workers: Number of processes that mix examples (0: the training process mixes them).
      condition_windows: Maximal number of windows, evenly spread over a training track, from which its condition and
        therefore the class means are computed (0: all windows, as in the paper).
      weights: Networks that start from existing weights, by name: a run folder or a bundle with the same network, or a
        file of published weights.
      requires_weights: Networks that `weights` must name. A run in which one of them would start from random values is
        refused.
      patience: Number of consecutive validations without a lower loss after which the run ends early (0: never). It
        requires that validate_every and save_every are equal.
      evaluate: Whether the run ends with the evaluation of the experiment.
      shard_parameters: Whether to split parameters, optimizer state and averages over the devices instead of
        replicating them (FSDP). This needs less memory and more communication between devices.
      corpus_on_device: Whether to hold the corpus in the devices' memory and to draw examples inside the step, by the
        same recipe with other random numbers. If the memory is too small, the run reports it and mixes on the host.
      remat: Activations that the backward pass recomputes instead of storing them: nothing, or everything between
        convolutions, which needs more time and less memory.
      xla_flags: XLA options for the compilation of the step, by name without dashes.
      trace_from: First step that `jax.profiler` records.
      trace_steps: Number of steps that `jax.profiler` records into the folder `trace` of the run (0: none).
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
    requires_weights: tuple[str, ...] = ()
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
                f"train.patience {self.patience} must be 0 or more, and needs a checkpoint at each validation: give "
                f"train.save_every {self.save_every} and train.validate_every {self.validate_every} the same value"
            )
        if self.trace_from < 0 or self.trace_steps < 0:
            raise ValueError(
                f"train.trace_from and trace_steps must be 0 or more, not {self.trace_from} and {self.trace_steps}"
            )
        if not 0.0 <= self.ema_decay < 1.0:
            raise ValueError(f"train.ema_decay must be in [0, 1), not {self.ema_decay}")


# Settings of the variant `debug` of a config: everything happens at least once, within seconds.
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
    """Return the system with another compute precision of its network bodies.

    Raises:
      ValueError: if the precision is unknown.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision '{precision}'; choose {' or '.join(PRECISIONS)}")
    return dataclasses.replace(system, compute_dtype=precision)  # pyright: ignore[reportArgumentType]
