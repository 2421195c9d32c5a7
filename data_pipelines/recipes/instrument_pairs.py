"""Pairs of instruments with their notes and queries, as in the training of Lin et al. 2021."""

import dataclasses

import numpy as np

from data_pipelines.prepared.corpus import Corpus, Excerpt
from data_pipelines.recipes.mixing import SILENCE, rms
from data_pipelines.schema import NOTES, OTHERS, QUERIES, SOURCES


@dataclasses.dataclass(frozen=True)
class InstrumentPairs:
    """Two instruments, drawn with a probability proportional to their number of tracks, as in the authors' code.

    For each instrument, the recipe draws three things. The first is a source: a random track with a random pitch shift,
    starting at a whole second. The second is the same track with another random pitch shift, starting at the same
    second unless the source is silent there. The third are two queries of the same instrument, from any of its tracks
    and with any pitch shift, without the sections that are silent according to the notes. The levels are those of the
    corpus.

    Attributes:
      shifts: Largest pitch shift in semitones, up and down; only stored shifts are used.
      most_notes: Largest number of notes in an excerpt, to which all are padded.
    """

    shifts: int = 4
    most_notes: int = 64

    def __call__(self, rng: np.random.Generator, corpus: Corpus, samples: int) -> dict[str, np.ndarray]:
        """Draw `sources` and `others` `[2, T, C]`, `queries` `[2, 2, T, C]` and `notes` of the sources `[2, M, 3]`.

        Notes are rows of onset (s) and offset (s), from the beginning of the excerpt on, and MIDI pitch, padded with
        rows of zeros.

        Raises:
          ValueError: if the corpus has fewer than two instruments, or an excerpt has more notes than `most_notes`.
        """
        self.check(corpus)
        counts = np.array([len(corpus.tracks(stem)) for stem in corpus.stems], float)
        pair = rng.choice(len(counts), 2, replace=False, p=counts / counts.sum())
        example: dict[str, list[np.ndarray]] = {SOURCES: [], OTHERS: [], QUERIES: [], NOTES: []}
        for stem in (corpus.stems[index] for index in pair):
            first = self._excerpt(rng, corpus, stem, samples)
            source = corpus.read(first)
            start = first.start if rms(source) > SILENCE else _start(rng, corpus, first.track, stem, samples)
            other = dataclasses.replace(first, stem=self._variant(rng, corpus, stem), start=start)
            example[SOURCES].append(source)
            example[OTHERS].append(corpus.read(other))
            example[NOTES].append(self._notes(corpus, first))
            queries = [self._excerpt(rng, corpus, stem, samples) for _ in range(2)]
            example[QUERIES].append(np.stack([_dense(rng, corpus, query) for query in queries]))
        return {name: np.stack(parts) for name, parts in example.items()}

    def check(self, corpus: Corpus) -> None:
        """Raise ValueError if the corpus has fewer than two instruments."""
        if len(corpus.stems) < 2:
            raise ValueError(f"pairs need two instruments, but {corpus.folder} has only {', '.join(corpus.stems)}")

    def check_notes(self, count: int, stem: str, track: str, seconds: float) -> None:
        """Raise ValueError if an excerpt with `count` notes has more than `most_notes`."""
        if count > self.most_notes:
            raise ValueError(
                f"{stem} of {track} has {count} notes in {seconds:g} s: increase most_notes of the recipe, which is "
                f"{self.most_notes}"
            )

    def _excerpt(self, rng: np.random.Generator, corpus: Corpus, stem: str, samples: int) -> Excerpt:
        tracks = corpus.tracks(stem)
        track = tracks[rng.integers(len(tracks))]
        return Excerpt(track, self._variant(rng, corpus, stem), _start(rng, corpus, track, stem, samples), samples)

    def _variant(self, rng: np.random.Generator, corpus: Corpus, stem: str) -> str:
        shifts = [shift for shift in corpus.shifts(stem) if abs(shift) <= self.shifts]
        return corpus.variant(stem, shifts[rng.integers(len(shifts))])

    def _notes(self, corpus: Corpus, excerpt: Excerpt) -> np.ndarray:
        begin, seconds = excerpt.start / corpus.sample_rate, excerpt.samples / corpus.sample_rate
        notes = corpus.notes(excerpt.track, excerpt.stem)
        notes = notes_between(notes, begin, seconds)
        self.check_notes(len(notes), excerpt.stem, excerpt.track, seconds)
        notes[:, :2] = np.clip(notes[:, :2] - begin, 0.0, seconds)
        return np.pad(notes, ((0, self.most_notes - len(notes)), (0, 0)))


def notes_between(notes: np.ndarray, begin: float, seconds: float) -> np.ndarray:
    """A copy of the notes `[n, 3]` that sound between `begin` and `begin` + `seconds`."""
    return notes[(notes[:, 0] < begin + seconds) & (notes[:, 1] > begin)].copy()


def _start(rng: np.random.Generator, corpus: Corpus, track: str, stem: str, samples: int) -> int:
    """Draw a whole second, in samples, such that the excerpt ends within the track."""
    room = max(corpus.length(track, stem) - samples, 0) // corpus.sample_rate
    return int(rng.integers(room + 1)) * corpus.sample_rate


def _dense(rng: np.random.Generator, corpus: Corpus, excerpt: Excerpt) -> np.ndarray:
    """Read as many samples as the excerpt has from the sounding parts of its source, from a random position on."""
    parts = sounding_parts(corpus, excerpt.track, excerpt.stem)
    order = [Excerpt(excerpt.track, excerpt.stem, start, stop - start) for start, stop in parts]
    if not order:  # without notes, the sounding parts are unknown
        return corpus.read(excerpt)
    skipped = int(rng.integers(sum(part.samples for part in order)))
    pieces, missing, number = [], excerpt.samples, 0
    while missing:
        part = order[number % len(order)]
        start, samples = part.start + min(skipped, part.samples), max(part.samples - skipped, 0)
        skipped, number = max(skipped - part.samples, 0), number + 1
        if samples:
            pieces.append(corpus.read(dataclasses.replace(part, start=start, samples=min(samples, missing))))
            missing -= len(pieces[-1])
    return np.concatenate(pieces)


def sounding_parts(corpus: Corpus, track: str, stem: str) -> list[tuple[int, int]]:
    """The parts of a source in which a note sounds, as first and last sample (exclusive), in order of time."""
    notes, length = corpus.notes(track, stem), corpus.length(track, stem)
    parts: list[tuple[int, int]] = []
    for onset, offset in np.rint(notes[np.argsort(notes[:, 0]), :2] * corpus.sample_rate).astype(int).tolist():
        start, stop = min(onset, length), min(offset, length)
        if parts and start <= parts[-1][1]:
            parts[-1] = (parts[-1][0], max(stop, parts[-1][1]))
        elif stop > start:
            parts.append((start, stop))
    return parts
