"""Mixing recipes and augmentations of the papers, in numpy, for one example and a given random generator."""

import dataclasses

import numpy as np

from data_pipelines.prepared.corpus import Corpus, Excerpt
from data_pipelines.schema import MIXTURE, QUERY, SOURCES, TARGET

# Root mean square below which an excerpt counts as silent (-80 dB relative to full scale; one step of int16 is -90 dB).
SILENCE = 1e-4
MOST_DRAWS = 1000


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Random changes of a source before it is mixed. By default, nothing is changed.

    Attributes:
      channel_swap: Probability that the order of the channels is reversed.
      polarity: Probability that the sign is inverted.
      gain_db: Range of a uniformly distributed gain in dB.
    """

    channel_swap: float = 0.0
    polarity: float = 0.0
    gain_db: tuple[float, float] = (0.0, 0.0)

    def draw(self, rng: np.random.Generator) -> tuple[bool, float]:
        """Draw whether to reverse the channels, and the factor by which to multiply the source."""
        swap = bool(self.channel_swap) and rng.random() < self.channel_swap
        scale = -1.0 if self.polarity and rng.random() < self.polarity else 1.0
        if self.gain_db != (0.0, 0.0):
            scale *= 10.0 ** (rng.uniform(*self.gain_db) / 20.0)
        return swap, scale


@dataclasses.dataclass(frozen=True)
class RandomSplit:
    """The mixing of Lee et al. 2019, §3.2.1: the classes are split at random into the target and the rest.

    Each class comes from an independently drawn track, is present with probability `presence` and is scaled by a gain
    from the range `gain`. If the target or the mixture is silent, because no class was drawn or all excerpts are rests,
    the example is drawn again: a silent query has no instance statistics, and nothing can be learned from a silent
    mixture. The paper does not state the probability of each split; here, each class is in the target with probability
    1/2.

    Attributes:
      presence: Probability that a class is present.
      gain: Range of the uniformly distributed gain of each class.
      classes: Number of randomly drawn classes in an example; 0 uses all of them.
      targets: Number of classes in the target; 0 draws it at random.
      other_query: Probability that the query of a single target is an excerpt of the same class from another track. In
        the paper it is 0: the query is the target itself, which may give the model more information than the class.
        A query from another track does not contain that information.
      augmentation: Random changes of each source.
    """

    presence: float = 0.5
    gain: tuple[float, float] = (0.25, 1.25)
    classes: int = 0
    targets: int = 0
    other_query: float = 0.0
    augmentation: Augmentation = Augmentation()

    def __call__(self, rng: np.random.Generator, corpus: Corpus, samples: int) -> dict[str, np.ndarray]:
        """Draw `mixture` and `target`, with `other_query` also `query`, each float32 `[T, C]` with T = `samples`.

        Raises:
          ValueError: if the corpus has too few classes, or all draws are silent.
        """
        self.check(corpus)
        for _ in range(MOST_DRAWS):
            example = self._draw(rng, corpus, samples)
            if example is not None:
                return example
        raise ValueError(f"{MOST_DRAWS} draws from {corpus.folder} gave only silent targets or mixtures")

    def check(self, corpus: Corpus) -> None:
        """Raise ValueError if the corpus has too few classes, or `other_query` is used with several targets."""
        if self.other_query and self.targets != 1:
            raise ValueError(f"a query from another track needs a single target, not targets = {self.targets}")
        if self.classes > len(corpus.stems) or self.targets > (self.classes or len(corpus.stems)):
            raise ValueError(
                f"the recipe requires {self.targets} targets of {self.classes} classes, but the corpus has "
                f"{len(corpus.stems)}: {', '.join(corpus.stems)}"
            )

    def _draw(self, rng: np.random.Generator, corpus: Corpus, samples: int) -> dict[str, np.ndarray] | None:
        count = self.classes or len(corpus.stems)
        chosen = rng.permutation(len(corpus.stems))[:count]
        is_target = np.arange(count) < self.targets if self.targets else rng.random(count) < 0.5
        is_present = rng.random(count) < self.presence
        if not (is_target & is_present).any():
            return None
        target = np.zeros((samples, corpus.channels), np.float32)
        rest, example = np.zeros_like(target), {}
        for index, to_target, present in zip(chosen, is_target, is_present, strict=True):
            if present:
                excerpt = corpus.draw(rng, corpus.stems[index], samples)
                self._add(rng, corpus, excerpt, target if to_target else rest)
                if to_target and self.other_query:
                    example[QUERY] = target
                    if rng.random() < self.other_query:
                        example[QUERY] = np.zeros_like(target)
                        other = corpus.draw(rng, excerpt.stem, samples, excerpt.track)
                        self._add(rng, corpus, other, example[QUERY])
        example |= {MIXTURE: np.add(target, rest, out=rest), TARGET: target}
        return None if any(rms(audio) < SILENCE for audio in example.values()) else example

    def _add(self, rng: np.random.Generator, corpus: Corpus, excerpt: Excerpt, out: np.ndarray) -> None:
        """Add an excerpt to `out`, with the augmentation and a random gain."""
        swap, scale = self.augmentation.draw(rng)
        corpus.add(excerpt, scale * rng.uniform(*self.gain), out[:, ::-1] if swap else out)


@dataclasses.dataclass(frozen=True)
class Remix:
    """The mixing of Défossez et al. 2019: each stem is shifted, augmented and taken from a randomly drawn song.

    In the published code, the stems of `songs` examples of a batch are permuted. Here, an example draws `songs`
    positions in random tracks and takes each stem from one of them, which gives the same distribution for each example.

    Attributes:
      songs: Number of songs from which the stems are drawn; with 1, all stems belong to the same song.
      shift: Largest difference in s between the positions of two stems.
      augmentation: Random changes of each stem.
    """

    songs: int = 4
    shift: float = 1.0
    augmentation: Augmentation = Augmentation(channel_swap=0.5, polarity=0.5)

    def __call__(self, rng: np.random.Generator, corpus: Corpus, samples: int) -> dict[str, np.ndarray]:
        """Draw `mixture` `[T, C]` and `sources` `[S, T, C]`, in the order of the view; missing stems are silent."""
        slack = round(self.shift * corpus.sample_rate)
        positions = [random_position(rng, corpus, samples + slack) for _ in range(self.songs)]
        sources = np.zeros((len(corpus.stems), samples, corpus.channels), np.float32)
        for stem, out in zip(corpus.stems, sources, strict=True):
            track, start = positions[rng.integers(len(positions))]
            start += int(rng.integers(slack + 1))
            swap, scale = self.augmentation.draw(rng)
            if track in corpus.tracks(stem):
                corpus.add(Excerpt(track, stem, start, samples), scale, out[:, ::-1] if swap else out)
        return {MIXTURE: sources.sum(0), SOURCES: sources}


def random_position(
    rng: np.random.Generator, corpus: Corpus, samples: int, *, by_duration: bool = False
) -> tuple[str, int]:
    """Draw a track and the start of an excerpt of `samples` in it; the start is 0 if the track is shorter.

    Args:
      by_duration: whether tracks are drawn in proportion to their duration; otherwise all are equally likely.
    """
    if by_duration:
        lengths = track_lengths(corpus)
        number = rng.choice(len(lengths), p=lengths / lengths.sum())
    else:
        number = rng.integers(len(corpus.all_tracks))
    track = corpus.all_tracks[number]
    room = track_length(corpus, track) - samples
    return track, int(rng.integers(room + 1)) if room > 0 else 0


def track_length(corpus: Corpus, track: str) -> int:
    """The length of a track in samples: that of its longest stem of the view."""
    return max(corpus.length(track, stem) for stem in corpus.stems if track in corpus.tracks(stem))


def track_lengths(corpus: Corpus) -> np.ndarray:
    """The lengths of all tracks in samples, in the order of `corpus.all_tracks`."""
    return np.array([track_length(corpus, track) for track in corpus.all_tracks], float)


def rms(audio: np.ndarray) -> float:
    """The root mean square over samples and channels."""
    flat = audio.reshape(-1)
    return float(np.sqrt(np.dot(flat, flat) / max(flat.size, 1)))
