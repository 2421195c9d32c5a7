"""The contract between a paper's system and everything else: what training and inference may ask of it."""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import numpy as np
from jax import Array

from data_pipelines.schema import MIXTURE, TARGET

# {collection: {network: tree}}, float32.
Variables = dict[str, Any]
# {stream: {key: [B, T, C]}}, or [R, B, T, C] where the phase repeats R > 1 times. A spec has the same tree of shapes.
Batch = Mapping[str, Any]
BatchSpec = Mapping[str, Any]
# Any tree of [B, …]; () where a system takes no condition.
Condition = Any


class Aux(NamedTuple):
    """What a loss says besides its value: scalars to log, and new collections `{collection: {network: tree}}`."""

    metrics: dict[str, Array]
    updates: dict[str, Any] = {}  # noqa: RUF012 (a NamedTuple's default, never written to)


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """An optimizer and its learning rate over time; training turns it into optax.

    Attributes:
      name: of the rule; `radam` is Adam with a rectified rate, plain momentum in the first updates.
      clip_norm: largest global norm of the gradient; larger ones are scaled down (0: never).
      weight_decay: decoupled, as in AdamW.
      l2: coupled decay: so many times the parameters are added to their gradient, as PyTorch's `weight_decay` does.
      centralize: gradients of arrays of rank > 1 lose their mean over all axes but the last, the output's.
      lookahead: every so many updates the slow parameters move towards the trained ones by `slow_rate` of the way, and
        the trained ones go on from there (0: none).
      rates: factors of the rate for the parameters whose path begins with a prefix, whole names: `("resnet", 0.1)`.
      schedule: `constant`; `drops`: after `drop_after` updates minus `drop` every `drop_every` updates, never below 0;
        `cosine`: down to `final_fraction` of the rate at the last update; `plateau`: times `factor` after each
        `patience` updates in which the validation loss did not fall by more than `threshold` below its lowest.
      warmup: updates over which the rate grows linearly from 0, before any schedule.
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
    schedule: Literal["constant", "drops", "cosine", "plateau"] = "constant"
    drop_after: int = 0
    drop_every: int = 1
    drop: float = 0.0
    final_fraction: float = 0.0
    factor: float = 0.5
    patience: int = 0
    threshold: float = 0.0


# The defaults of lessw2020/Ranger-Deep-Learning-Optimizer at the rate that UGOSA (Cantisani 2021) adapts with.
RANGER = Optimizer("radam", 1e-5, b1=0.95, b2=0.999, epsilon=1e-5, centralize=True, lookahead=6)


@dataclasses.dataclass(frozen=True)
class Phase:
    """One update within a step.

    Attributes:
      name: of the phase, and of its metrics: `name/metric`.
      trainable: path prefixes under `params`, whole names: `"separator"`, `"tasnet/repeat_4"`.
      loss: `(variables, batch of the stream, key) → (float32 scalar, Aux)`.
      repeats: updates per step, each on a batch of its own.
      stream: which part of the batch; the phase's name by default. Of several, the loss gets `{stream: tree}`.
    """

    name: str
    trainable: tuple[str, ...]
    loss: Callable[[Variables, Any, Array], tuple[Array, Aux]]
    optimizer: Optimizer
    repeats: int = 1
    stream: str | tuple[str, ...] = ""

    @property
    def streams(self) -> tuple[str, ...]:
        """The names of what it takes of a batch."""
        return self.stream if isinstance(self.stream, tuple) else (self.stream or self.name,)

    def take(self, batch: Batch) -> Any:
        """What its loss gets of a batch."""
        if isinstance(self.stream, tuple):
            return {name: batch[name] for name in self.stream}
        return batch[self.stream or self.name]

    def spec(self, batch: BatchSpec) -> Any:
        """The shapes that the loss of one of its updates gets of a batch of shapes."""
        taken = self.take(batch)
        if self.repeats == 1:
            return taken
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), taken)


class System(abc.ABC):
    """A paper's method: which networks, which losses, which phases. A frozen dataclass that is its own config.

    Attributes:
      stems: names of the outputs; for a system that is asked by example, the classes that it was trained on.
      sample_rate: Hz.
      compute_dtype: of the network bodies, `"float32"` or `"bfloat16"`; parameters and losses stay float32.
      cues: the condition inputs that it accepts: `query`, `labels`, `frames`, `score`.
    """

    # Every subclass, by the name `module:Class` that is stored in `config.json`.
    registered: ClassVar[dict[str, type["System"]]] = {}
    cues: ClassVar[tuple[str, ...]]
    stems: tuple[str, ...]
    sample_rate: int
    compute_dtype: str

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__(**options)
        System.registered[f"{cls.__module__}:{cls.__qualname__}"] = cls

    @property
    @abc.abstractmethod
    def chunk_samples(self) -> int:
        """The T of `separate`."""

    @property
    def example_samples(self) -> int:
        """The T of training examples; as long as a chunk by default."""
        return self.chunk_samples

    @property
    def input_channels(self) -> int:
        """Audio channels that `separate` hears together; with 1, channels pass one by one."""
        return 1

    @property
    def query_samples(self) -> int:
        """The T of a query; as long as a chunk by default."""
        return self.chunk_samples

    @property
    def context_samples(self) -> int:
        """At both ends of a chunk, where `separate` knows too little: long signals are cut so that these are unused."""
        return self.chunk_samples // 8

    @property
    def validation_streams(self) -> tuple[str, ...]:
        """The streams that `validate` and `preview` take."""
        return tuple(dict.fromkeys(stream for phase in self.phases() for stream in phase.streams))

    @property
    def tasks(self) -> tuple[str, ...]:
        """What it can be used for: methods of the system; some also `transcribe`, `synthesize`."""
        return ("separate",)

    def noise(self, rng: np.random.Generator, batch_size: int) -> Batch:
        """A batch of noise of the shapes that it trains on, for timing and comparisons."""
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
        """Fresh variables; jit-able."""

    @abc.abstractmethod
    def phases(self) -> tuple[Phase, ...]:
        """In order of execution."""

    @abc.abstractmethod
    def validate(self, variables: Variables, batch: Batch, key: Array) -> dict[str, Array]:
        """Scalars of one batch, with running statistics and no dropout; holds `"loss"`."""

    def observe(self, variables: Variables, loss: Array, updates: Array) -> Variables:
        """What a validation loss changes, `updates` steps after the one before, such as how hard examples are."""
        return variables

    def from_file(self, network: str, path: Path) -> Variables:
        """Published weights of a network in a local file, `{collection: tree}`.

        Raises:
          ValueError: if the network has none that this project can read, or the file is no good.
        """
        raise ValueError(f"{path}: no file of weights is known for '{network}': give a run folder or a bundle")

    @abc.abstractmethod
    def preview(self, variables: Variables, batch: Batch) -> dict[str, Array]:
        """What to look at and listen to while it trains: named waveforms `[B, T, C]`, among them `mixture`."""

    @abc.abstractmethod
    def condition(self, variables: Variables, cues: dict[str, Array]) -> Condition:
        """What `separate` is steered by, a tree of `[B, …]`; means and interpolations are tree maps over it."""

    @abc.abstractmethod
    def separate(self, variables: Variables, mixture: Array, condition: Condition) -> Array:
        """`[B, T, C]` → `[B, S, T, C]`, T = `chunk_samples`, S in the order of `stems`, or 1 for a queried source."""


def parameter_count(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))
