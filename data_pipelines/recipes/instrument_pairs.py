"""Pairs of instruments with their notes and queries: the training items of Lin et al. 2021."""

import dataclasses

import numpy as np

from data_pipelines.prepared.corpus import Corpus, Excerpt
from data_pipelines.recipes.mixing import SILENCE, rms
from data_pipelines.schema import NOTES, OTHERS, QUERIES, SOURCES


@dataclasses.dataclass(frozen=True)
class InstrumentPairs:
    """Two instruments, drawn with a chance that grows with their number of tracks, as in the authors' code.

    Of each a random track in a random pitch shift, from a whole second on; again the same track in another random
    shift, from the same second unless that was silent; and two queries of the same instrument, from any of its tracks
    in any shift, with everything left out that the notes call silent. Levels stay as they are stored.

    Attributes:
      shifts: semitones by which a source may be shifted up and down, of those that the corpus stores.
      most_notes: of an excerpt; the others are padded to as many.
    """

    shifts: int = 4
    most_notes: int = 64

    def __call__(self, rng: np.random.Generator, corpus: Corpus, samples: int) -> dict[str, np.ndarray]:
        """Draw `sources` and `others` `[2, T, C]`, `queries` `[2, 2, T, C]` and `notes` of the sources `[2, M, 3]`.

        Notes are rows of onset s and offset s, from the beginning of the excerpt on, and MIDI pitch; rows of zeros
        are none.

        Raises:
          ValueError: if the corpus has fewer than two instruments, or an excerpt more notes than `most_notes`.
        """
        self.check(corpus)
        counts = np.array([len(corpus.tracks(stem)) for stem in corpus.stems], float)
        pair = rng.choice(len(counts), 2, replace=False, p=counts / counts.sum())
        found: dict[str, list[np.ndarray]] = {SOURCES: [], OTHERS: [], QUERIES: [], NOTES: []}
        for stem in (corpus.stems[index] for index in pair):
            first = self._excerpt(rng, corpus, stem, samples)
            source = corpus.read(first)
            start = first.start if rms(source) > SILENCE else _start(rng, corpus, first.track, stem, samples)
            again = dataclasses.replace(first, stem=self._variant(rng, corpus, stem), start=start)
            found[SOURCES].append(source)
            found[OTHERS].append(corpus.read(again))
            found[NOTES].append(self._notes(corpus, first))
            queries = [self._excerpt(rng, corpus, stem, samples) for _ in range(2)]
            found[QUERIES].append(np.stack([_dense(rng, corpus, query) for query in queries]))
        return {name: np.stack(parts) for name, parts in found.items()}

    def check(self, corpus: Corpus) -> None:
        """Raise ValueError if the corpus has fewer than two instruments."""
        if len(corpus.stems) < 2:
            raise ValueError(f"pairs need two instruments, {corpus.folder} has only {', '.join(corpus.stems)}")

    def check_notes(self, count: int, stem: str, track: str, seconds: float) -> None:
        """Raise ValueError if so many notes of an excerpt are more than `most_notes`."""
        if count > self.most_notes:
            raise ValueError(
                f"{stem} of {track} has {count} notes in {seconds:g} s: raise most_notes, {self.most_notes}, of the "
                "recipe"
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
    """A copy of the notes `[n, 3]` that sound in so many seconds."""
    return notes[(notes[:, 0] < begin + seconds) & (notes[:, 1] > begin)].copy()


def _start(rng: np.random.Generator, corpus: Corpus, track: str, stem: str, samples: int) -> int:
    """A whole second at which an excerpt still fits."""
    room = max(corpus.length(track, stem) - samples, 0) // corpus.sample_rate
    return int(rng.integers(room + 1)) * corpus.sample_rate


def _dense(rng: np.random.Generator, corpus: Corpus, excerpt: Excerpt) -> np.ndarray:
    """As many samples of the same source as the excerpt has, from a random place of its sounding parts on."""
    parts = sounding_parts(corpus, excerpt.track, excerpt.stem)
    order = [Excerpt(excerpt.track, excerpt.stem, start, stop - start) for start, stop in parts]
    if not order:  # without notes nothing says where it sounds
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
    """First and last sample, that left out, of the parts of a source in which a note sounds, in order of time."""
    notes, length = corpus.notes(track, stem), corpus.length(track, stem)
    parts: list[tuple[int, int]] = []
    for onset, offset in np.rint(notes[np.argsort(notes[:, 0]), :2] * corpus.sample_rate).astype(int).tolist():
        start, stop = min(onset, length), min(offset, length)
        if parts and start <= parts[-1][1]:
            parts[-1] = (parts[-1][0], max(stop, parts[-1][1]))
        elif stop > start:
            parts.append((start, stop))
    return parts
