"""The conditions of the training tracks by class, for class means and retrieval (Lee et al. 2019, 4.4 and 4.5)."""

import dataclasses
import itertools
import json
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.files import atomic_write
from data_pipelines.names import choose
from data_pipelines.npz import read_npz
from data_pipelines.schema import check_name
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
    def load(path: Path, like: Condition, remedy: str) -> "Bank":
        """Read a bank.

        Args:
          like: The shapes of a condition, a tree of `[1, …]`.
          remedy: What the user can do about a file that is damaged; it ends the message.

        Raises:
          ValueError: if the file is missing, damaged, or holds conditions of another form.
        """
        if not path.is_file():
            raise ValueError(f"there is no {path}: the run has no class means; finish its training first")
        try:
            content = read_npz(path)
            names, structure = _names(content), jax.tree.structure(like)
            tracks: dict[str, dict[str, Condition]] = {}
            for index, (stem, track) in enumerate(names):
                arrays = [content[f"{index}/{leaf}"] for leaf in range(structure.num_leaves)]
                for array, leaf in zip(arrays, jax.tree.leaves(like), strict=True):
                    _check_condition(array, leaf, f"{stem}, {track}")
                condition = jax.tree.unflatten(structure, [jnp.asarray(array) for array in arrays])
                tracks.setdefault(stem, {})[track] = condition
            return Bank(tracks)
        except KeyError as error:
            raise ValueError(f"{path} cannot be read (it lacks {error}): {remedy}") from None
        except (OSError, ValueError) as error:
            raise ValueError(f"{path} cannot be read ({error}): {remedy}") from None


def _names(content: dict[str, np.ndarray]) -> list[list[str]]:
    """The stem and the track of each condition in a file."""
    try:
        names = json.loads(str(content["names"]))
    except RecursionError:
        raise ValueError("its names are no JSON") from None
    is_table = isinstance(names, list) and all(isinstance(row, list) and len(row) == 2 for row in names)
    if not is_table or not all(isinstance(name, str) for row in names for name in row):
        raise ValueError("its names are no pairs of a stem and a track")
    for stem, track in names:
        check_name(stem, "the name of a stem")
        if any(unicodedata.category(mark)[0] == "C" for mark in track):
            raise ValueError(f"the name {track[:80]!r} of a track has control characters")
    return names


def _check_condition(array: np.ndarray, like: jax.ShapeDtypeStruct, where: str) -> None:
    if array.shape != like.shape or array.dtype != like.dtype:
        raise ValueError(
            f"the condition of {where} is {array.dtype} {list(array.shape)}, this model has {like.dtype} "
            f"{list(like.shape)}"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"the condition of {where} holds values that are not finite")


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
