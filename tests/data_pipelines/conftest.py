"""Fixtures with tiny prepared corpora whose samples are all known."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from data_pipelines import prepare
from data_pipelines.corpora.base import Stem
from data_pipelines.prepared import store
from data_pipelines.prepared.corpus import Corpus, View, open_corpus

RATE = 8000
PARENTS = {"kick": "drums", "hat": "drums"}


@dataclasses.dataclass(frozen=True)
class Toy:
    """The prepared corpus `toy`: stereo noise at 8 kHz.

    Attributes:
      root: Folder of prepared corpora that holds it.
      audio: Original int16 samples by split, track and stem.
      notes: Notes that every stem has.
    """

    root: Path
    audio: dict[tuple[str, str, str], np.ndarray]
    notes: np.ndarray

    @property
    def folder(self) -> Path:
        return store.corpus_folder(self.root, "toy", RATE)

    def open(self, split: str = "train", view: View | None = None, channels: int = 0) -> Corpus:
        return open_corpus(self.root, "toy", RATE, split, view, channels)


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """Four stems and two sub-stems in each of 6 training and 4 test tracks of 3.1 to 5 s; `t0` lacks the bass."""
    rng = np.random.default_rng(0)
    notes = np.array([[0.0, 1.0, 60.0], [1.4, 1.6, 62.0], [2.0, 2.5, 64.0]], np.float32)
    audio, tracks = {}, {"train": [], "test": []}
    for split, count in {"train": 6, "test": 4}.items():
        for number in range(count):
            track, samples = f"{'t' if split == 'train' else 'e'}{number}", 24_800 + 2_537 * number
            stems = [name for name in ("bass", "vocals", "other") if (track, name) != ("t0", "bass")]
            noise = {name: rng.integers(-3000, 3000, (samples, 2)).astype(np.int16) for name in [*stems, *PARENTS]}
            noise["drums"] = noise["kick"] + noise["hat"]
            audio |= {(split, track, name): samples for name, samples in noise.items()}
            loaded = [Stem(name, noise[name], PARENTS.get(name, ""), notes) for name in noise]
            tracks[split].append(store.segments(track, loaded, RATE))
    root = tmp_path_factory.mktemp("toy")
    folder = store.corpus_folder(root, "toy", RATE)
    by_split = {split: iter(members) for split, members in tracks.items()}
    store.write(folder, "toy", RATE, 2, by_split, fingerprint="0123", options={"kind": "toy"})
    return Toy(root, audio, notes)


@pytest.fixture
def write_corpus(tmp_path: Path) -> Callable[..., Corpus]:
    """A function that writes a corpus of training tracks `{track: {stem: float [T, C]}}` and opens it."""

    def write(tracks: dict[str, dict[str, np.ndarray]]) -> Corpus:
        def members() -> Iterator[list[store.Record]]:
            for track, stems in tracks.items():
                loaded = [Stem(name, np.int16(np.rint(audio * 32767))) for name, audio in stems.items()]
                yield store.segments(track, loaded, RATE)

        channels = next(iter(next(iter(tracks.values())).values())).shape[1]
        folder = store.corpus_folder(tmp_path / "prepared", "own", RATE)
        store.write(folder, "own", RATE, channels, {"train": members()}, fingerprint="0123", options={})
        return open_corpus(tmp_path / "prepared", "own", RATE, "train")

    return write


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load tracks in the process of the test, which saves the start of a worker."""
    monkeypatch.setattr(prepare, "worker_pool", lambda workers: contextlib.nullcontext(map))
