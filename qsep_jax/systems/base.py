"""The contract of every system: what training, inference and evaluation call.

What only some systems can do is in `qsep_jax.systems.capabilities`.
"""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from data_pipelines.schema import MIXTURE, TARGET, check_name
from qsep_jax.systems.bounds import check_fields

# {collection: {network: tree}}, float32.
Variables = dict[str, Any]
# {stream: {key: [B, T, C]}}, or [R, B, T, C] where the phase repeats R > 1 times. A spec has the same tree of shapes.
Batch = Mapping[str, Any]
BatchSpec = Mapping[str, Any]
# A tree of [B, …]; () for a system that takes no condition.
Condition = Any

# Largest sample rate in Hz, number of channels, and length of a chunk or an example: 25 minutes at 44.1 kHz.
MOST_RATE, MOST_CHANNELS, MOST_SAMPLES = 2**20, 1024, 2**26


class Aux(NamedTuple):
    """What a loss returns besides its value: scalars to log, and new values of collections.

    Attributes:
      metrics: Scalars by name.
      updates: `{collection: {network: tree}}`, such as batch norm statistics.
    """

    metrics: dict[str, Array]
    updates: dict[str, Any] = {}  # noqa: RUF012 (a NamedTuple's default, never written to)


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """The settings of an optimizer and of its learning rate over time, from which training builds an optax optimizer.

    Attributes:
      name: Update rule; `radam` is Adam with a rectified learning rate, plain momentum in the first updates.
      learning_rate: Learning rate before warm-up and schedule.
      b1: Decay of the first moment of Adam and its kin; momentum of `sgd`.
      b2: Decay of the second moment.
      epsilon: Number added to the root of the second moment.
      weight_decay: Decoupled weight decay, as in AdamW.
      l2: Coupled weight decay: this factor times the parameters is added to their gradient, as PyTorch's
        `weight_decay` does.
      centralize: Whether gradients of arrays of rank 2 and more lose their mean over all axes but the last, the output
        axis.
      lookahead: Number of updates after which the slow parameters move towards the trained ones by the fraction
        `slow_rate`, and training continues from there (0: never).
      slow_rate: Fraction by which lookahead moves the slow parameters.
      rates: Factors of the learning rate for parameters whose path begins with a prefix, in whole names:
        `("resnet", 0.1)`.
      clip_norm: Largest global norm of the gradient; larger gradients are scaled down to it (0: never).
      warmup: Number of updates over which the learning rate grows linearly from 0, before the schedule.
      schedule: Course of the learning rate. `constant`. `drops`: after `drop_after` updates it falls by `drop` every
        `drop_every` updates, never below 0. `cosine`: it falls to `final_fraction` of its start at the last update.
        `plateau`: it is multiplied by `factor` after `patience` updates in which the validation loss did not fall by
        more than `threshold` below its lowest value. `milestones`: it is multiplied by `factor` after each of the
        numbers of updates in `milestones`.
      drop_after: Number of updates before the first drop of `drops`.
      drop_every: Number of updates between drops.
      drop: Decrement of a drop.
      final_fraction: Fraction of the learning rate at the end of `cosine`.
      factor: Factor of `plateau` and `milestones`.
      patience: Number of updates without improvement after which `plateau` lowers the learning rate. PyTorch's
        `ReduceLROnPlateau` with a patience of p epochs lowers it after the epoch p + 1.
      threshold: Improvement of the validation loss that `plateau` counts.
      threshold_mode: Whether `threshold` is a difference of losses (`absolute`) or a fraction of the lowest loss
        (`relative`), as by default in PyTorch.
      milestones: Numbers of updates after which `milestones` lowers the learning rate, in ascending order.
    """

    name: Literal["adam", "amsgrad", "radam", "sgd"] = "adam"
    learning_rate: float = 1e-3
    b1: float = 0.9
    b2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    l2: float = 0.0
    centralize: bool = False
    lookahead: int = 0
    slow_rate: float = 0.5
    rates: tuple[tuple[str, float], ...] = ()
    clip_norm: float = 0.0
    warmup: int = 0
    schedule: Literal["constant", "drops", "cosine", "plateau", "milestones"] = "constant"
    drop_after: int = 0
    drop_every: int = 1
    drop: float = 0.0
    final_fraction: float = 0.0
    factor: float = 0.5
    patience: int = 0
    threshold: float = 0.0
    threshold_mode: Literal["absolute", "relative"] = "absolute"
    milestones: tuple[int, ...] = ()


# The defaults of lessw2020/Ranger-Deep-Learning-Optimizer, at the learning rate of UGOSA (Cantisani et al. 2021).
RANGER = Optimizer("radam", 1e-5, b1=0.95, b2=0.999, epsilon=1e-5, centralize=True, lookahead=6)


@dataclasses.dataclass(frozen=True)
class Phase:
    """One update within a training step.

    Attributes:
      name: Name of the phase; its metrics are logged as `name/metric`.
      trainable: Path prefixes of the trained parameters under `params`, in whole names: `"separator"`,
        `"tasnet/repeat_4"`.
      loss: Function `(variables, batch of the stream, key) → (float32 scalar, Aux)`.
      optimizer: Optimizer of the trained parameters.
      repeats: Number of updates per step, each on a batch of its own.
      stream: Part of the batch that the loss takes, by default the one with the phase's name. With several streams the
        loss takes `{stream: tree}`.
    """

    name: str
    trainable: tuple[str, ...]
    loss: Callable[[Variables, Any, Array], tuple[Array, Aux]]
    optimizer: Optimizer
    repeats: int = 1
    stream: str | tuple[str, ...] = ""

    @property
    def streams(self) -> tuple[str, ...]:
        """The names of the streams that the loss takes."""
        return self.stream if isinstance(self.stream, tuple) else (self.stream or self.name,)

    def take(self, batch: Batch) -> Any:
        """Return the part of a batch that the loss takes."""
        if isinstance(self.stream, tuple):
            return {name: batch[name] for name in self.stream}
        return batch[self.stream or self.name]

    def spec(self, batch: BatchSpec) -> Any:
        """Return the shapes that the loss of one update takes, from the shapes of a batch."""
        part = self.take(batch)
        if self.repeats == 1:
            return part
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), part)


class System(abc.ABC):
    """A separation method: its networks, losses and phases. A frozen dataclass that is its own config.

    A subclass registers itself and is stored in `config.json` by the name `module:Class` (`qsep_jax.systems.registry`).
    Its numbers are checked when it is created (`qsep_jax.systems.bounds`).

    Attributes:
      registered: Every subclass by its name `module:Class`.
      cues: Condition inputs that the system accepts: `query`, `labels`, `frames`, `score`.
      stems: Names of the outputs; of a query-based system, the classes that it was trained on.
      sample_rate: Sample rate in Hz.
      compute_dtype: dtype of the network bodies, `"float32"` or `"bfloat16"`; parameters and losses stay float32.
    """

    registered: ClassVar[dict[str, type["System"]]] = {}
    cues: ClassVar[tuple[str, ...]]
    stems: tuple[str, ...]
    sample_rate: int
    compute_dtype: str

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__(**options)
        System.registered[f"{cls.__module__}:{cls.__qualname__}"] = cls
        checks_of_class: Callable[..., None] = cls.__post_init__

        # The numbers are checked before the checks of the class, which compute with them, and so in every class.
        def checked_post_init(self: System, *arguments: Any) -> None:
            if type(self) is cls:
                check_fields(self)
            checks_of_class(self, *arguments)
            if type(self) is cls:
                self._check_contract()

        cls.__post_init__ = checked_post_init

    def __post_init__(self, *arguments: Any) -> None:  # noqa: B027 (a class need not have checks of its own)
        """Check the fields; a class that has checks of its own overrides it."""

    def _check_contract(self) -> None:
        """Check the names of the stems, and the sizes that training and inference allocate.

        Raises:
          ValueError: if a name is no plain name or occurs twice, or a size is out of its bounds.
        """
        for stem in self.stems:
            check_name(stem, "the name of a stem in system.stems")
        if len(set(self.stems)) < len(self.stems):
            raise ValueError(f"system.stems has a name twice: {', '.join(self.stems)}")
        sizes = {
            "sample_rate": (1, MOST_RATE, self.sample_rate),
            "input_channels": (1, MOST_CHANNELS, self.input_channels),
            "chunk_samples": (1, MOST_SAMPLES, self.chunk_samples),
            "example_samples": (1, MOST_SAMPLES, self.example_samples),
            "query_samples": (1, MOST_SAMPLES, self.query_samples),
            "context_samples": (0, MOST_SAMPLES, self.context_samples),
        }
        for name, (least, most, size) in sizes.items():
            if not least <= size <= most:
                raise ValueError(f"{name} of the system must be {least} to {most}, not {size}")

    @property
    @abc.abstractmethod
    def chunk_samples(self) -> int:
        """The T of `separate`."""

    @property
    def example_samples(self) -> int:
        """The T of training examples; `chunk_samples` by default."""
        return self.chunk_samples

    @property
    def input_channels(self) -> int:
        """Number of audio channels that `separate` takes together; with 1, channels pass one by one."""
        return 1

    @property
    def query_samples(self) -> int:
        """The T of a query; `chunk_samples` by default."""
        return self.chunk_samples

    @property
    def context_samples(self) -> int:
        """Number of samples at both ends of a chunk whose estimates lack context.

        Long signals are cut into overlapping chunks so that these estimates are discarded.
        """
        return self.chunk_samples // 8

    @property
    def validation_streams(self) -> tuple[str, ...]:
        """The streams that `validate` and `preview` take; all by default."""
        return tuple(dict.fromkeys(stream for phase in self.phases() for stream in phase.streams))

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks of inference, which are names of methods; `qsep_jax.systems.capabilities` has further ones."""
        return ("separate",)

    def noise(self, rng: np.random.Generator, batch_size: int) -> Batch:
        """Return a batch of noise in the shapes of training, for timing and comparisons."""
        batch = {}
        for phase in self.phases():
            repeats = () if phase.repeats == 1 else (phase.repeats,)
            shape = (*repeats, batch_size, self.example_samples, 1)
            for stream in phase.streams:
                target, rest = (0.1 * rng.standard_normal(shape, np.float32) for _ in range(2))
                batch[stream] = {MIXTURE: target + rest, TARGET: target}
        return batch

    @abc.abstractmethod
    def init(self, key: Array, spec: BatchSpec) -> Variables:
        """Return the initial variables for batches of shapes `spec`. Can be jit-compiled."""

    @abc.abstractmethod
    def phases(self) -> tuple[Phase, ...]:
        """Return the updates of a training step, in order of execution."""

    @abc.abstractmethod
    def validate(self, variables: Variables, batch: Batch, key: Array) -> dict[str, Array]:
        """Return scalars of one batch, among them `"loss"`, with running statistics and without dropout."""

    def observe(self, variables: Variables, loss: Array, updates: Array) -> Variables:
        """Return the variables after a validation, such as with a curriculum that advances; unchanged by default.

        Args:
          loss: Validation loss.
          updates: Number of steps since the previous validation.
        """
        return variables

    def warnings(self, validation: Mapping[str, float]) -> tuple[str, ...]:
        """Return what a user should know about the means of a validation, one line each; nothing by default."""
        return ()

    def stage(self, variables: Variables) -> Array:
        """Return the number of the stage of training, such as that of a curriculum; always 0 by default.

        Validation losses of two stages cannot be compared: the first validation of a stage counts as an improvement,
        and the best checkpoint is the one with the lowest loss of the last stage that was validated.
        """
        return jnp.zeros(())

    def from_file(self, network: str, path: Path) -> Variables:
        """Return the published weights of a network in a local file, `{collection: tree}`.

        Raises:
          ValueError: if this project can read no published weights of the network, or the file does not hold them.
        """
        raise ValueError(f"{path}: there are no published weights of '{network}': give a run folder or a bundle")

    @abc.abstractmethod
    def preview(self, variables: Variables, batch: Batch) -> dict[str, Array]:
        """Return named waveforms `[B, T, C]`, among them `mixture`, that are logged during training."""

    @abc.abstractmethod
    def condition(self, variables: Variables, cues: dict[str, Array]) -> Condition:
        """Return the condition of `separate`, a tree of `[B, …]`, from cues by name, each `[B, …]`.

        Conditions are averaged and interpolated leaf by leaf.
        """

    @abc.abstractmethod
    def separate(self, variables: Variables, mixture: Array, condition: Condition) -> Array:
        """Separate mixtures of T = `chunk_samples` samples: `[B, T, C]` → `[B, S, T, C]`.

        S is in the order of `stems`, or 1 for the source that a query selects.
        """


def parameter_count(tree: Any) -> int:
    """Return the number of elements of all leaves."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))
