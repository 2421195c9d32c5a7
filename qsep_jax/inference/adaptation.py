"""Adapting a trained model to songs: each gets its own copy of what is trained, and many go through one program."""

import dataclasses
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import NamedSharding, PartitionSpec

from data_pipelines.schema import ACTIVE, MIXTURE, UNIT
from qsep_jax.inference.model import Model
from qsep_jax.nn import xla
from qsep_jax.systems.base import RANGER, Condition, System, Variables
from qsep_jax.systems.capabilities import Adaptable
from qsep_jax.systems.one_shot import CONDITION, Adaptation, phase
from qsep_jax.training import optimizers
from qsep_jax.training.partition import Flat, replace, select
from qsep_jax.training.settings import Train
from qsep_jax.training.sharding import make_mesh, replicated
from qsep_jax.training.state import TrainState
from qsep_jax.training.step import step_of

# How songs share a program: with a leading axis in every operation, or one after the other in a loop.
How = Literal["vmap", "map"]
# Learning rate of a condition, which has far fewer parameters than a network.
CONDITION_RATE = 1e-2
# Share of an accelerator's memory that songs may fill.
ROOM = 0.8


@dataclasses.dataclass(frozen=True)
class Song:
    """What a model is adapted to, at its sample rate.

    Attributes:
      mixture: float32 `[T, C]`, C as the system hears them.
      active: where each stem sounds, bool `[S, T]` or `[S, T, C]`.
    """

    name: str
    mixture: np.ndarray
    active: np.ndarray


@dataclasses.dataclass(frozen=True)
class Adapted:
    """What came of a song.

    Attributes:
      parameters: those that were trained, by path under `params`.
      losses: of each update, by name: `loss`, `reconstruction`, `silent`.
      skipped: updates that were not made because something was not finite.
    """

    name: str
    parameters: dict[str, np.ndarray]
    losses: dict[str, np.ndarray]
    skipped: int


def adapt(
    model: Model,
    songs: Sequence[Song],
    adaptation: Adaptation,
    *,
    conditions: Condition = None,
    seed: int = 42,
    together: int = 0,
    how: How = "map",
    advance: Callable[[int], None] = lambda updates: None,
) -> Iterator[Adapted]:
    """Adapt the model to each of the songs by itself; the results in their order.

    A song's result does not depend on the others, but for rounding: each begins from the model's own parameters, and
    draws from a generator of its own.

    Args:
      conditions: of the stems, for a system that is told what to separate: a tree of `[S, …]`.
      seed: of the pitch shifts.
      together: songs that share a program and its memory; 0: one on CPU, and as many as the memory holds elsewhere.
      how: whether songs pass one after the other within the program (`map`) or side by side (`vmap`).
      advance: told how many updates were made, of all songs together.

    Raises:
      ValueError: if a song is shorter than a chunk or silent, or `adaptation.trainable` names nothing.
    """
    plans = [_Plan(song, model.system, adaptation, seed) for song in songs]
    variables = model.variables
    if conditions is not None:
        variables = {**variables, "params": {**variables["params"], CONDITION: conditions}}
    if not plans:
        return
    program = _Program(model.system, variables, adaptation, how)
    together = together or program.fitting(plans[0], len(plans))
    together = -(-min(together, len(plans)) // program.devices) * program.devices
    for first in range(0, len(plans), together):
        yield from program.run(plans[first : first + together], together, advance)


def updates_of(songs: Sequence[Song], system: System, adaptation: Adaptation) -> int:
    """How many updates `adapt` makes, of all songs together.

    Raises:
      ValueError: if a song is shorter than a chunk or silent.
    """
    return sum(_Plan(song, system, adaptation, 0).updates for song in songs)


class _Plan:
    """The batches of one song, in the order in which it sees them."""

    def __init__(self, song: Song, system: System, adaptation: Adaptation, seed: int):
        self.song, self._rate, self._adaptation = song, system.sample_rate, adaptation
        self._samples = round(adaptation.seconds * self._rate) or system.chunk_samples
        self._hop = round(adaptation.hop * self._rate)
        length = len(song.mixture)
        if length < self._samples:
            raise ValueError(
                f"{song.name} is {length / self._rate:.2f} s long, shorter than the chunks of "
                f"{self._samples / self._rate:.2f} s that it would be adapted on: give a longer song, or shorter chunks"
            )
        self._unit = song.mixture.mean(axis=1).std(keepdims=True)
        if not self._unit[0] > 0:
            raise ValueError(f"{song.name} is silent: there is nothing to adapt to")
        self._starts = range(0, length - self._samples + 1, self._hop)
        self._seed = [seed, zlib.crc32(song.name.encode())]
        self.updates = adaptation.epochs * len(self._starts) * (1 + adaptation.shifts)

    def batches(self) -> Iterator[dict[str, np.ndarray]]:
        """Of a single example each: `mixture` `[1, T, C]`, `active` `[1, S, T, 1 or C]`, `unit` `[1]`."""
        rng, active = np.random.default_rng(self._seed), self.song.active
        active = active[..., None] if active.ndim == 2 else active
        for _ in range(self._adaptation.epochs):
            for start in self._starts:
                chunk = self.song.mixture[start : start + self._samples]
                sounds = active[:, start : start + self._samples]
                for copy in range(1 + self._adaptation.shifts):
                    heard = chunk if not copy else self._shifted(chunk, rng)
                    yield {MIXTURE: heard[None], ACTIVE: sounds[None], UNIT: self._unit}

    def _shifted(self, chunk: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        import librosa  # takes a second to import

        most = self._adaptation.semitones
        semitones = int(rng.integers(-most, most + 1))
        return librosa.effects.pitch_shift(chunk.T, sr=self._rate, n_steps=semitones).T.astype(np.float32)


class _Program:
    """One update of several songs, compiled; the songs are split over all local devices."""

    def __init__(self, system: System, variables: Variables, adaptation: Adaptation, how: How):
        self._phase, self._how = phase(system, adaptation), how
        self._mesh = make_mesh(jax.local_devices())
        self.devices = self._mesh.size
        everywhere = replicated(self._mesh)
        self._variables = jax.tree.map(lambda leaf: jax.device_put(leaf, everywhere), variables)
        self._step = step_of((self._phase,), Train())
        songs, same = PartitionSpec("data"), PartitionSpec()
        many = jax.shard_map(
            self._many, mesh=self._mesh, in_specs=(songs, same, songs, songs), out_specs=songs, check_vma=False
        )
        self._update = jax.jit(many, donate_argnums=0, compiler_options=xla.options())
        self._spread = NamedSharding(self._mesh, songs)

    def run(self, plans: list[_Plan], places: int, advance: Callable[[int], None]) -> Iterator[Adapted]:
        """Adapt to a group of songs in so many places, of which those that are too many do nothing."""
        state, said = self._begin(places), []
        updates = np.array([plan.updates for plan in plans] + [0] * (places - len(plans)))
        sources = [plan.batches() for plan in plans]
        batches = [next(source) for source in sources]
        batches += batches[-1:] * (places - len(plans))
        for number in range(max(updates)):
            live = number < updates
            if number:
                for place in np.flatnonzero(live):
                    batches[place] = next(sources[place])
            batch = jax.tree.map(lambda *leaves: np.stack(leaves), *batches)
            state, metrics = self._update(state, self._variables, *jax.device_put((batch, live), self._spread))
            said.append(metrics)
            advance(int(live.sum()))
        finished = jax.device_get(jax.jit(self._finished)(state))
        names = [name for name in said[0] if name not in ("gradient_norm", "skipped")]
        fetched = jax.device_get(said)
        for place, plan in enumerate(plans):
            losses = {name: np.array([each[name][place] for each in fetched[: plan.updates]]) for name in names}
            parameters = {path: np.array(leaf[place]) for path, leaf in finished.items()}
            yield Adapted(plan.song.name, parameters, losses, int(state["skipped"][place]))

    def fitting(self, plan: _Plan, songs: int) -> int:
        """How many songs fit into the memory of the devices; one on CPU, where more at once gain nothing."""
        device = self._mesh.devices.flat[0]
        if device.platform == "cpu":
            return 1
        batch = jax.tree.map(lambda leaf: np.stack([leaf] * self.devices), next(plan.batches()))
        args = (self._begin(self.devices), self._variables, batch, np.ones(self.devices, bool))
        needed = self._update.lower(*args).compile().memory_analysis()
        limit = (device.memory_stats() or {}).get("bytes_limit")
        if needed is None or limit is None:
            raise ValueError("this device does not say how much memory it has: give --together")
        room = ROOM * limit - sum(leaf.nbytes for leaf in jax.tree.leaves(self._variables))
        own = needed.temp_size_in_bytes + 2 * needed.output_size_in_bytes
        return max(1, min(songs, int(room // own) * self.devices))

    def _begin(self, places: int) -> dict[str, Any]:
        """A fresh state for each song: `{part, optimizer, step, skipped}`, every leaf `[K, …]`."""

        def begin() -> dict[str, Any]:
            part = select(self._variables["params"], self._phase.trainable)
            none = jnp.zeros((), jnp.int32)
            rule = optimizers.build(self._phase.optimizer, 1)
            one = {"part": part, "optimizer": rule.init(part), "step": none, "skipped": none}
            return jax.tree.map(lambda leaf: jnp.repeat(leaf[None], places, axis=0), one)

        return jax.jit(begin, out_shardings=self._spread)()

    def _many(self, state: dict[str, Any], variables: Variables, batch: dict[str, Array], live: Array):
        def one(state: dict[str, Any], batch: dict[str, Array], live: Array):
            params = replace(variables["params"], state["part"])
            opts = {self._phase.name: state["optimizer"]}
            full = TrainState(state["step"], {**variables, "params": params}, opts, {}, state["skipped"])
            full, metrics = self._step(full, {self._phase.name: batch}, jax.random.key(0))
            part = select(full.variables["params"], self._phase.trainable)
            new = {"part": part, "optimizer": full.optimizer[self._phase.name], "step": full.step}
            new["skipped"] = full.skipped
            new = jax.tree.map(lambda a, b: jnp.where(live, a, b), new, state)
            return new, {name.partition("/")[2]: value for name, value in metrics.items()}

        if self._how == "vmap":
            return jax.vmap(one)(state, batch, live)
        return lax.map(lambda each: one(*each), (state, batch, live))

    def _finished(self, state: dict[str, Any]) -> Flat:
        """What the songs are separated with: the slow copy of a lookahead, or the parameters themselves."""
        slow = jax.vmap(partial(optimizers.slow_parameters, optimizer=self._phase.optimizer))(state["optimizer"])
        return state["part"] if slow is None else slow


def with_parameters(model: Model, parameters: dict[str, Any]) -> Model:
    """The model with other parameters in their places; it shares all others with the one that it was made of."""
    params = model.variables["params"]
    known = {CONDITION: None, **params}
    unknown = {path.split("/")[0] for path in parameters} - set(known)
    if unknown:
        raise ValueError(f"the model has no network '{min(unknown)}', but {', '.join(params)}")
    return Model(model.system, {**model.variables, "params": replace(params, parameters)})


def moved(model: Model, parameters: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Those of the parameters that differ from the model's by a bit or more, and any that it does not have."""
    before = select(model.variables["params"], tuple(model.variables["params"]))
    return {
        path: leaf
        for path, leaf in parameters.items()
        if path not in before or not np.array_equal(leaf, np.asarray(before[path]))
    }


def changes(model: Model, adapted: Adapted, conditions: Condition | None) -> dict[str, np.ndarray]:
    """The parameters that an adaptation changed, by path under `params`.

    The conditions `[S, …]` of a query-based model are among them, whether they were trained or not.
    """
    changed = moved(model, adapted.parameters)
    if conditions is not None and CONDITION not in changed:
        changed[CONDITION] = np.asarray(conditions)
    return changed


def settings_for(
    system: System,
    preset: str = "",
    *,
    trainable: tuple[str, ...] = (),
    learning_rate: float | None = None,
    **fields: Any,
) -> Adaptation:
    """How a system is adapted: by its own settings, or those for the condition of a query-based system, with changes.

    Args:
      preset: Which parameters are trained: a strategy of the system's paper.
      trainable: The same as path prefixes under `params`.
      fields: Other fields of `Adaptation`; None leaves one as it is.

    Raises:
      ValueError: if the system does not have the preset, or a value is out of its range.
    """
    if isinstance(system, Adaptable):
        settings = system.adaptation
    elif "query" in system.cues or trainable:
        # Not centralised: the mean over stems would not move.
        rule = dataclasses.replace(RANGER, learning_rate=CONDITION_RATE, centralize=False)
        settings = Adaptation((CONDITION,), seconds=0.0, optimizer=rule)
    else:
        raise ValueError(f"{type(system).__name__} does not say what to adapt: name trainable parameters")
    if preset:
        presets = system.adaptation_presets() if isinstance(system, Adaptable) else {}
        if preset not in presets:
            known = ", ".join(presets) or "none"
            raise ValueError(f"unknown split '{preset}': {type(system).__name__} has {known}")
        settings = settings.changed(trainable=presets[preset])
    unknown = set(fields) - {field.name for field in dataclasses.fields(Adaptation)}
    if unknown:
        raise ValueError(f"an adaptation has no field '{min(unknown)}'")
    return settings.changed(learning_rate, trainable=trainable or None, **fields)
