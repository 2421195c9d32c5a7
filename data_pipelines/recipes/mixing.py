"""The papers' mixing recipes and augmentations: pure numpy on one example, random by the generator that comes in."""

import dataclasses

import numpy as np

from data_pipelines.prepared.corpus import Corpus, Excerpt
from data_pipelines.schema import MIXTURE, QUERY, SOURCES, TARGET

# Root mean square below which an excerpt counts as silent (-80 dB re full scale; int16 ends at -90).
SILENCE = 1e-4
MOST_DRAWS = 1000


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What may happen to a source before it is mixed. Everything is off by default.

    Attributes:
      channel_swap: probability that the channels are reversed.
      polarity: probability that the sign is flipped.
      gain_db: range of a uniform random gain in decibels.
    """

    channel_swap: float = 0.0
    polarity: float = 0.0
    gain_db: tuple[float, float] = (0.0, 0.0)

    def draw(self, rng: np.random.Generator) -> tuple[bool, float]:
        """Whether to reverse the channels, and what to multiply by."""
        swap = bool(self.channel_swap) and rng.random() < self.channel_swap
        scale = -1.0 if self.polarity and rng.random() < self.polarity else 1.0
        if self.gain_db != (0.0, 0.0):
            scale *= 10.0 ** (rng.uniform(*self.gain_db) / 20.0)
        return swap, scale


@dataclasses.dataclass(frozen=True)
class RandomSplit:
    """Lee et al. 2019, §3.2.1: the classes are split at random into target and rest.

    Each class comes from a random track of its own, is present with probability `presence` and is scaled by a gain
    from `gain`. An example whose target or mixture is silent, because no class was drawn or the excerpts are rests, is
    drawn again from the start: a silent query has no instance statistics, and a silent mixture nothing to learn.
    The paper leaves open how likely each split is; here every class goes to either side with equal chance.

    Attributes:
      classes: how many classes take part in an example, drawn at random; all of them by default (0).
      targets: how many of those are the target; a random number by default (0).
      other_query: how likely a single target is asked for with an excerpt of the same class from another track. The
        paper always asks with the target itself (0), which lets the query say more than what kind of sound is wanted;
        that is lost on a query from elsewhere.
    """

    presence: float = 0.5
    gain: tuple[float, float] = (0.25, 1.25)
    classes: int = 0
    targets: int = 0
    other_query: float = 0.0
    augmentation: Augmentation = Augmentation()

    def __call__(self, rng: np.random.Generator, corpus: Corpus, samples: int) -> dict[str, np.ndarray]:
        """Draw `{mixture, target}`, and `query` where it is another excerpt, each float32 `[samples, C]`.

        Raises:
          ValueError: if the corpus has fewer classes than are asked for, or nothing but silence.
        """
        self.check(corpus)
        for _ in range(MOST_DRAWS):
            example = self._draw(rng, corpus, samples)
            if example is not None:
                return example
        raise ValueError(f"{MOST_DRAWS} draws from {corpus.folder} gave only silent targets or mixtures")

    def check(self, corpus: Corpus) -> None:
        """Raise ValueError if the corpus has fewer classes than are asked for, or none could be asked for."""
        if self.other_query and self.targets != 1:
            raise ValueError(f"a query from another track needs a single target, not targets = {self.targets}")
        if self.classes > len(corpus.stems) or self.targets > (self.classes or len(corpus.stems)):
            raise ValueError(
                f"the recipe asks for {self.targets} targets of {self.classes} classes, but the corpus has "
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
        """Add an excerpt to `out`, augmented and with a random gain."""
        swap, scale = self.augmentation.draw(rng)
        corpus.add(excerpt, scale * rng.uniform(*self.gain), out[:, ::-1] if swap else out)


@dataclasses.dataclass(frozen=True)
class Remix:
    """Défossez et al. 2019: songs with all their stems, each stem shifted, flipped, swapped and from another song.

    Published, the stems of `songs` examples of a batch are dealt out anew. Here an example draws so many places of
    random tracks and takes each stem from one of them, which comes to the same.

    Attributes:
      songs: to take the stems from; with 1 they belong together.
      shift: most seconds by which stems may be apart from one another.
    """

    songs: int = 4
    shift: float = 1.0
    augmentation: Augmentation = Augmentation(channel_swap=0.5, polarity=0.5)

    def __call__(self, rng: np.random.Generator, corpus: Corpus, samples: int) -> dict[str, np.ndarray]:
        """Draw `mixture` `[T, C]` and `sources` `[S, T, C]`, S in the order of the view; a missing stem is silent."""
        slack = round(self.shift * corpus.sample_rate)
        places = [anywhere(rng, corpus, samples + slack) for _ in range(self.songs)]
        sources = np.zeros((len(corpus.stems), samples, corpus.channels), np.float32)
        for stem, out in zip(corpus.stems, sources, strict=True):
            track, start = places[rng.integers(len(places))]
            start += int(rng.integers(slack + 1))
            swap, scale = self.augmentation.draw(rng)
            if track in corpus.tracks(stem):
                corpus.add(Excerpt(track, stem, start, samples), scale, out[:, ::-1] if swap else out)
        return {MIXTURE: sources.sum(0), SOURCES: sources}


def anywhere(rng: np.random.Generator, corpus: Corpus, samples: int) -> tuple[str, int]:
    """A random track, and where in it so many samples begin; 0 where it is shorter."""
    track = corpus.all_tracks[rng.integers(len(corpus.all_tracks))]
    present = [stem for stem in corpus.stems if track in corpus.tracks(stem)]
    room = max(corpus.length(track, stem) for stem in present) - samples
    return track, int(rng.integers(room + 1)) if room > 0 else 0


def rms(audio: np.ndarray) -> float:
    """Root mean square over samples and channels."""
    flat = audio.reshape(-1)
    return float(np.sqrt(np.dot(flat, flat) / max(flat.size, 1)))
