"""Adaptation of a trained model to songs (Cantisani et al. 2021).

Each song has its own copy of the trained parameters, and one compiled program updates the copies of several songs.
"""

import dataclasses
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import NamedSharding, PartitionSpec

from data_pipelines.schema import ACTIVE, MIXTURE, UNIT
from qsep_jax.inference.model import Model
from qsep_jax.nn import xla
from qsep_jax.systems.base import Condition, System, Variables
from qsep_jax.systems.one_shot import CONDITION, Adaptation, phase
from qsep_jax.training import optimizers
from qsep_jax.training.partition import Flat, replace, select
from qsep_jax.training.settings import Train
from qsep_jax.training.sharding import make_mesh, replicated
from qsep_jax.training.state import TrainState
from qsep_jax.training.step import step_of

# How one program updates several songs: every operation has an axis over songs (`vmap`), or a loop runs over them
# (`map`).
Batching = Literal["vmap", "map"]
# Fraction of the memory of an accelerator that the songs of a group may use.
MEMORY_FRACTION = 0.8


@dataclasses.dataclass(frozen=True)
class Song:
    """A song that a model is adapted to, at the model's sample rate.

    Attributes:
      name: Name of the song; the seed of its pitch shifts depends on it.
      mixture: float32 `[T, C]`, with the channels that the system separates together.
      active: Whether each stem is active, bool `[S, T]` or `[S, T, C]`.
    """

    name: str
    mixture: np.ndarray
    active: np.ndarray


@dataclasses.dataclass(frozen=True)
class Adapted:
    """The result of the adaptation to a song.

    Attributes:
      name: Name of the song.
      parameters: The trained parameters after the adaptation, by path under `params`.
      losses: Values of each update by name: `loss`, `reconstruction`, `silent`.
      skipped: Number of updates that were skipped because a loss or gradient was not finite.
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
    how: Batching = "map",
    advance: Callable[[int], None] = lambda updates: None,
) -> Iterator[Adapted]:
    """Adapt the model to each song separately; yield the results in the order of the songs.

    The result of a song does not depend on the other songs, except for rounding: each adaptation starts from the
    model's parameters and has its own random generator.

    Args:
      conditions: Conditions of the stems of a query-based system, a tree of `[S, …]`.
      seed: Seed of the pitch shifts.
      together: Number of songs in a group, which one call of the program updates. 0 means one song on a CPU, and as
        many as fit into memory on an accelerator.
      how: How the program updates the songs of a group: one after the other (`map`) or side by side (`vmap`).
      advance: Receives the number of updates since the last call, summed over songs.

    Raises:
      ValueError: if a song is shorter than a chunk or silent, or no parameter matches `adaptation.trainable`.
    """
    songs_batches = [_SongBatches(song, model.system, adaptation, seed) for song in songs]
    variables = model.variables
    if conditions is not None:
        variables = {**variables, "params": {**variables["params"], CONDITION: conditions}}
    if not songs_batches:
        return
    trainer = _GroupTrainer(model.system, variables, adaptation, how)
    together = together or trainer.largest_group(songs_batches[0], len(songs_batches))
    together = -(-min(together, len(songs_batches)) // trainer.devices) * trainer.devices
    for first in range(0, len(songs_batches), together):
        yield from trainer.run(songs_batches[first : first + together], together, advance)


def count_updates(songs: Sequence[Song], system: System, adaptation: Adaptation) -> int:
    """The number of updates that `adapt` makes, summed over songs.

    Raises:
      ValueError: if a song is shorter than a chunk or silent.
    """
    return sum(_SongBatches(song, system, adaptation, 0).updates for song in songs)


class _SongBatches:
    """The batches of one song, in the order of its updates.

    Attributes:
      song: The song.
      updates: Number of batches.
    """

    def __init__(self, song: Song, system: System, adaptation: Adaptation, seed: int):
        self.song, self._rate, self._adaptation = song, system.sample_rate, adaptation
        self._samples = round(adaptation.seconds * self._rate) or system.chunk_samples
        hop, length = round(adaptation.hop * self._rate), len(song.mixture)
        if length < self._samples:
            raise ValueError(
                f"{song.name} is {length / self._rate:.2f} s long, shorter than the chunks of "
                f"{self._samples / self._rate:.2f} s that it would be adapted on: give a longer song, or shorter chunks"
            )
        self._unit = song.mixture.mean(axis=1).std(keepdims=True)
        if not self._unit[0] > 0:
            raise ValueError(f"{song.name} is silent: there is nothing to adapt to")
        self._starts = range(0, length - self._samples + 1, hop)
        self._seed = [seed, zlib.crc32(song.name.encode())]
        self.updates = adaptation.epochs * len(self._starts) * (1 + adaptation.pitch_copies)

    def batches(self) -> Iterator[dict[str, np.ndarray]]:
        """Yield batches of one example: `mixture` `[1, T, C]`, `active` `[1, S, T, 1 or C]`, `unit` `[1]`."""
        rng, active = np.random.default_rng(self._seed), self.song.active
        active = active[..., None] if active.ndim == 2 else active
        for _ in range(self._adaptation.epochs):
            for start in self._starts:
                chunk = self.song.mixture[start : start + self._samples]
                chunk_active = active[:, start : start + self._samples]
                for copy in range(1 + self._adaptation.pitch_copies):
                    mixture = self._pitch_shifted(chunk, rng) if copy else chunk
                    yield {MIXTURE: mixture[None], ACTIVE: chunk_active[None], UNIT: self._unit}

    def _pitch_shifted(self, chunk: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        import librosa  # takes a second to import

        most = self._adaptation.semitones
        semitones = int(rng.integers(-most, most + 1))
        return librosa.effects.pitch_shift(chunk.T, sr=self._rate, n_steps=semitones).T.astype(np.float32)


class _GroupTrainer:
    """The compiled program that makes one update of each song of a group; songs are split over all local devices.

    The state of a group is `{part, optimizer, step, skipped}`, with an axis over the K songs in every leaf. `part`
    holds the trained parameters.

    Attributes:
      devices: Number of local devices, which must divide the number of songs in a group.
    """

    def __init__(self, system: System, variables: Variables, adaptation: Adaptation, how: Batching):
        self._phase, self._how = phase(system, adaptation), how
        self._mesh = make_mesh(jax.local_devices())
        self.devices = self._mesh.size
        on_every_device = replicated(self._mesh)
        self._variables = jax.tree.map(lambda leaf: jax.device_put(leaf, on_every_device), variables)
        self._step = step_of((self._phase,), Train())
        split, same = PartitionSpec("data"), PartitionSpec()
        update_songs = jax.shard_map(
            self._update_songs, mesh=self._mesh, in_specs=(split, same, split, split), out_specs=split, check_vma=False
        )
        self._update = jax.jit(update_songs, donate_argnums=0, compiler_options=xla.options())
        self._sharding = NamedSharding(self._mesh, split)

    def run(self, group: list[_SongBatches], size: int, advance: Callable[[int], None]) -> Iterator[Adapted]:
        """Adapt to a group of songs. The program has `size` places for songs; those left over make no updates."""
        state, metrics_of_updates = self._initial_state(size), []
        updates = np.array([song.updates for song in group] + [0] * (size - len(group)))
        sources = [song.batches() for song in group]
        batches = [next(source) for source in sources]
        batches += batches[-1:] * (size - len(group))
        for update in range(max(updates)):
            is_running = update < updates
            if update:
                for place in np.flatnonzero(is_running):
                    batches[place] = next(sources[place])
            batch = jax.tree.map(lambda *leaves: np.stack(leaves), *batches)
            state, metrics = self._update(state, self._variables, *jax.device_put((batch, is_running), self._sharding))
            metrics_of_updates.append(metrics)
            advance(int(is_running.sum()))
        # Lookahead also keeps a slow copy, which lacks the updates since the last multiple of six: all of a short run.
        # The published code separates with the trained parameters, too.
        final: Flat = jax.device_get(state["part"])
        names = [name for name in metrics_of_updates[0] if name not in ("gradient_norm", "skipped")]
        fetched = jax.device_get(metrics_of_updates)
        for place, song in enumerate(group):
            losses = {name: np.array([metrics[name][place] for metrics in fetched[: song.updates]]) for name in names}
            parameters = {path: np.array(leaf[place]) for path, leaf in final.items()}
            yield Adapted(song.song.name, parameters, losses, int(state["skipped"][place]))

    def largest_group(self, song: _SongBatches, songs: int) -> int:
        """The number of songs, of `songs`, that fit into the memory of the devices.

        It is one on a CPU, where larger groups are not faster.

        Raises:
          ValueError: if the device does not report its memory.
        """
        device = self._mesh.devices.flat[0]
        if device.platform == "cpu":
            return 1
        batch = jax.tree.map(lambda leaf: np.stack([leaf] * self.devices), next(song.batches()))
        args = (self._initial_state(self.devices), self._variables, batch, np.ones(self.devices, bool))
        analysis = self._update.lower(*args).compile().memory_analysis()
        limit = (device.memory_stats() or {}).get("bytes_limit")
        if analysis is None or limit is None:
            raise ValueError("this device does not report how much memory it has: give --together")
        available = MEMORY_FRACTION * limit - sum(leaf.nbytes for leaf in jax.tree.leaves(self._variables))
        per_song = analysis.temp_size_in_bytes + 2 * analysis.output_size_in_bytes
        return max(1, min(songs, int(available // per_song) * self.devices))

    def _initial_state(self, songs: int) -> dict[str, Any]:
        def initial_state() -> dict[str, Any]:
            part = select(self._variables["params"], self._phase.trainable)
            zero = jnp.zeros((), jnp.int32)
            optimizer = optimizers.build(self._phase.optimizer, 1)
            of_song = {"part": part, "optimizer": optimizer.init(part), "step": zero, "skipped": zero}
            return jax.tree.map(lambda leaf: jnp.repeat(leaf[None], songs, axis=0), of_song)

        return jax.jit(initial_state, out_shardings=self._sharding)()

    def _update_songs(self, state: dict[str, Any], variables: Variables, batch: dict[str, Array], is_running: Array):
        """Make one update of each song `[K, …]` for which `is_running` `[K]` is true: the state and metrics by name."""

        def update_song(state: dict[str, Any], batch: dict[str, Array], is_running: Array):
            params = replace(variables["params"], state["part"])
            opts = {self._phase.name: state["optimizer"]}
            full = TrainState(state["step"], {**variables, "params": params}, opts, {}, state["skipped"])
            full, metrics = self._step(full, {self._phase.name: batch}, jax.random.key(0))
            part = select(full.variables["params"], self._phase.trainable)
            new = {"part": part, "optimizer": full.optimizer[self._phase.name], "step": full.step}
            new["skipped"] = full.skipped
            new = jax.tree.map(lambda after, before: jnp.where(is_running, after, before), new, state)
            return new, {name.partition("/")[2]: value for name, value in metrics.items()}

        if self._how == "vmap":
            return jax.vmap(update_song)(state, batch, is_running)
        return lax.map(lambda song: update_song(*song), (state, batch, is_running))


def with_parameters(model: Model, parameters: dict[str, Any]) -> Model:
    """The model with some parameters replaced; the two models share all others.

    Raises:
      ValueError: if a parameter belongs to no network of the model.
    """
    params = model.variables["params"]
    unknown = {path.split("/")[0] for path in parameters} - {CONDITION, *params}
    if unknown:
        raise ValueError(f"the model has no network '{min(unknown)}', but {', '.join(params)}")
    return Model(model.system, {**model.variables, "params": replace(params, parameters)})


def changed_parameters(model: Model, parameters: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The parameters that differ from those of the model in at least one bit, or that the model does not have."""
    before = select(model.variables["params"], tuple(model.variables["params"]))
    return {
        path: leaf
        for path, leaf in parameters.items()
        if path not in before or not np.array_equal(leaf, np.asarray(before[path]))
    }


def delta_parameters(model: Model, adapted: Adapted, conditions: Condition | None) -> dict[str, np.ndarray]:
    """The parameters by which the adapted model differs from `model`, by path under `params`.

    They include the conditions `[S, …]` of a query-based model, even if these were not trained.
    """
    changed = changed_parameters(model, adapted.parameters)
    if conditions is not None and CONDITION not in changed:
        changed[CONDITION] = np.asarray(conditions)
    return changed
