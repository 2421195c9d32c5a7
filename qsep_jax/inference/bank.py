"""Conditions of the training tracks by class, for class means and retrieval (Lee et al. 2019, §4.4 and 4.5)."""

import dataclasses
import itertools
import json
import zipfile
from collections.abc import Iterable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from qsep_jax.inference.conditions import cosine_distance, encode_all, is_loud, mean
from qsep_jax.inference.model import Model
from qsep_jax.systems.base import Condition


@dataclasses.dataclass(frozen=True)
class Bank:
    """The conditions of the training tracks: for each stem `{track: tree of [1, …]}`."""

    tracks: dict[str, dict[str, Condition]]

    def mean(self, stem: str) -> Condition:
        """The mean over the tracks of a stem.

        Raises:
          ValueError: for a stem that the model was not trained on; names those that it was.
        """
        if stem not in self.tracks:
            raise ValueError(f"unknown label '{stem}'; this model knows {', '.join(self.tracks)}")
        return mean(list(self.tracks[stem].values()))

    def nearest(self, stem: str, condition: Condition) -> str:
        """The training track whose condition for `stem` is nearest by cosine distance (Eq. 8)."""
        self.mean(stem)
        return min(self.tracks[stem], key=lambda track: cosine_distance(self.tracks[stem][track], condition))

    def save(self, path: Path) -> None:
        """One array per leaf and track in an `.npz`, names in a JSON beside them; no pickles."""
        names = [[stem, track] for stem, tracks in self.tracks.items() for track in tracks]
        arrays = {}
        for number, (stem, track) in enumerate(names):
            for leaf, value in enumerate(jax.tree.leaves(self.tracks[stem][track])):
                arrays[f"{number}/{leaf}"] = np.asarray(value)
        unfinished = path.with_suffix(".part")
        with unfinished.open("wb") as file:
            np.savez(file, names=json.dumps(names), **arrays)
        unfinished.replace(path)

    @staticmethod
    def load(path: Path, like: Condition) -> "Bank":
        """Read a bank whose conditions have the structure of `like`.

        Raises:
          ValueError: if the file is missing or damaged.
        """
        try:
            with path.open("rb") as file, np.load(file) as content:
                names, structure = json.loads(str(content["names"])), jax.tree.structure(like)
                tracks: dict[str, dict[str, Condition]] = {}
                for number, (stem, track) in enumerate(names):
                    leaves = [jnp.asarray(content[f"{number}/{leaf}"]) for leaf in range(structure.num_leaves)]
                    tracks.setdefault(stem, {})[track] = jax.tree.unflatten(structure, leaves)
            return Bank(tracks)
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"{path} cannot be read ({error}): the run has no class means; finish its training first"
            ) from None


def make_bank(model: Model, excerpts: Iterable[tuple[str, str, np.ndarray]]) -> Bank:
    """The bank of `(stem, track, audio [query_samples, C])`, the excerpts of a track averaged, silent ones left out."""
    gathered: dict[str, dict[str, list[Condition]]] = {}
    loud = (excerpt for excerpt in excerpts if is_loud(excerpt[2]))
    named, sounding = itertools.tee(loud)
    encoded = encode_all(model, (audio.mean(axis=1, keepdims=True) for _, _, audio in sounding))
    for condition, (stem, track, _) in zip(encoded, named, strict=True):
        gathered.setdefault(stem, {}).setdefault(track, []).append(condition)
    return Bank({stem: {track: mean(found) for track, found in tracks.items()} for stem, tracks in gathered.items()})
