"""The conditions of the training tracks by class, for class means and retrieval (Lee et al. 2019, 4.4 and 4.5)."""

import dataclasses
import itertools
import json
import zipfile
from collections.abc import Iterable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.files import atomic_write
from data_pipelines.names import choose
from qsep_jax.inference.conditions import cosine_distance, encode_windows, is_loud, mean
from qsep_jax.inference.model import Model
from qsep_jax.systems.base import Condition


@dataclasses.dataclass(frozen=True)
class Bank:
    """The conditions of the training tracks.

    Attributes:
      tracks: For each stem, the conditions by track, trees of `[1, …]`.
    """

    tracks: dict[str, dict[str, Condition]]

    def mean(self, stem: str) -> Condition:
        """The mean condition over the tracks of a stem, whose name is compared without regard to case.

        Raises:
          ValueError: if the bank does not have the stem; the message lists those that it has.
        """
        return mean(list(self.tracks[choose(stem, self.tracks)].values()))

    def nearest(self, stem: str, condition: Condition) -> str:
        """The training track whose condition for `stem` has the smallest cosine distance to `condition` (Eq. 8).

        Raises:
          ValueError: if the bank does not have the stem.
        """
        tracks = self.tracks[choose(stem, self.tracks)]
        return min(tracks, key=lambda track: cosine_distance(tracks[track], condition))

    def save(self, path: Path) -> None:
        """Write an `.npz` with one array per leaf and track, and their names as JSON; no pickles."""
        names = [[stem, track] for stem, tracks in self.tracks.items() for track in tracks]
        arrays = {}
        for index, (stem, track) in enumerate(names):
            for leaf, value in enumerate(jax.tree.leaves(self.tracks[stem][track])):
                arrays[f"{index}/{leaf}"] = np.asarray(value)
        with atomic_write(path) as unfinished, unfinished.open("wb") as file:
            np.savez(file, names=json.dumps(names), **arrays)

    @staticmethod
    def load(path: Path, like: Condition) -> "Bank":
        """Read a bank.

        Args:
          like: A tree with the structure of the conditions.

        Raises:
          ValueError: if the file is missing or damaged.
        """
        try:
            with path.open("rb") as file, np.load(file) as content:
                names, structure = json.loads(str(content["names"])), jax.tree.structure(like)
                tracks: dict[str, dict[str, Condition]] = {}
                for index, (stem, track) in enumerate(names):
                    leaves = [jnp.asarray(content[f"{index}/{leaf}"]) for leaf in range(structure.num_leaves)]
                    tracks.setdefault(stem, {})[track] = jax.tree.unflatten(structure, leaves)
            return Bank(tracks)
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"{path} cannot be read ({error}): the run has no class means; finish its training first"
            ) from None


def make_bank(model: Model, excerpts: Iterable[tuple[str, str, np.ndarray]]) -> Bank:
    """Encode excerpts of the training tracks; silent ones are skipped, and those of a track are averaged.

    Args:
      excerpts: `(stem, track, audio [query_samples, C])`.
    """
    conditions: dict[str, dict[str, list[Condition]]] = {}
    loud = (excerpt for excerpt in excerpts if is_loud(excerpt[2]))
    named, to_encode = itertools.tee(loud)
    encoded = encode_windows(model, (audio.mean(axis=1, keepdims=True) for _, _, audio in to_encode))
    for condition, (stem, track, _) in zip(encoded, named, strict=True):
        conditions.setdefault(stem, {}).setdefault(track, []).append(condition)
    return Bank(
        {stem: {track: mean(of_track) for track, of_track in by_track.items()} for stem, by_track in conditions.items()}
    )
