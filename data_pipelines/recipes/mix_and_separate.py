"""Mix and separate: sources of several instruments in slots, with what is seen of their players."""

import dataclasses
from typing import Literal

import numpy as np

from data_pipelines.prepared.corpus import Corpus, Excerpt
from data_pipelines.recipes.mixing import MOST_DRAWS, SILENCE
from data_pipelines.schema import FEATURES, FRAMES, SLOTS, SOURCES


@dataclasses.dataclass(frozen=True)
class MixAndSeparate:
    """Slizovskaia et al. 2021, §IV-A: `fewest` to `most` different instruments, each from a track of its own.

    How many is drawn first, each number with equal chance, then which, then of each a random track and place. What is
    silent or constant there is drawn again. Whoever trains sums the sources: with the published levels the mixture is
    their sum over their number.

    Attributes:
      fewest, most: instruments of an example; never more than the corpus has.
      slots: places for sources in an example, the same for all; those left over are empty.
      scaling: `range` maps the lowest and highest sample of each excerpt to −1 and 1, as published, which shifts the
        mean, too; `none` leaves levels as they are stored.
      frames: of each source, the first at the beginning of the excerpt; by default none.
      spacing: seconds from one frame to the next.
      size: height and width of frames in pixels.
      features: name of cached features to give in place of frames; by default the frames themselves.
    """

    fewest: int = 2
    most: int = 7
    slots: int = 7
    scaling: Literal["range", "none"] = "range"
    frames: int = 0
    spacing: float = 1.2
    size: int = 224
    features: str = ""

    def __post_init__(self):
        if not 1 <= self.fewest <= self.most <= self.slots:
            raise ValueError(
                f"fewest {self.fewest}, most {self.most} and slots {self.slots} of the recipe: from 1 on, none may be "
                "less than the one before"
            )
        if self.scaling not in ("range", "none"):
            raise ValueError(f"scaling of the recipe is 'range' or 'none', not '{self.scaling}'")
        if self.frames < 0 or self.spacing < 0 or self.size < 1:
            raise ValueError(
                f"frames {self.frames} and spacing {self.spacing:g} of the recipe must not be negative, "
                f"size {self.size} must be positive"
            )
        if self.features and not self.frames:
            raise ValueError(f"features '{self.features}' are of frames: set frames of the recipe, too")

    def __call__(self, rng: np.random.Generator, corpus: Corpus, samples: int) -> dict[str, np.ndarray]:
        """Draw `sources` `[S, T, C]`, `slots` `[S]`, and `frames` `[S, n, H, W, 3]` or `features` `[S, n, D]`.

        Raises:
          ValueError: if the corpus has fewer instruments than `fewest`, nothing but silence of one, or no frames.
        """
        self.check(corpus)
        count = int(rng.integers(self.fewest, min(self.most, len(corpus.stems)) + 1))
        chosen = rng.permutation(len(corpus.stems))[:count]
        sources = np.zeros((self.slots, samples, corpus.channels), np.float32)
        excerpts = [
            self._draw(rng, corpus, corpus.stems[stem], out) for stem, out in zip(chosen, sources, strict=False)
        ]
        slots = np.full(self.slots, -1, np.int32)
        slots[:count] = chosen
        example = {SOURCES: sources, SLOTS: slots}
        if self.frames:
            seen = np.stack([self._see(corpus, excerpt) for excerpt in excerpts])
            empty = np.zeros((self.slots - count, *seen.shape[1:]), seen.dtype)
            example[FEATURES if self.features else FRAMES] = np.concatenate([seen, empty])
        return example

    def check(self, corpus: Corpus) -> None:
        """Raise ValueError if the corpus has fewer instruments than `fewest`."""
        if len(corpus.stems) < self.fewest:
            raise ValueError(
                f"{corpus.folder} has {len(corpus.stems)} instruments, the recipe mixes {self.fewest} at least"
            )

    def _draw(self, rng: np.random.Generator, corpus: Corpus, stem: str, out: np.ndarray) -> Excerpt:
        """Put an excerpt that is not constant into `out`, zeros `[T, C]`, at its level."""
        for _ in range(MOST_DRAWS):
            excerpt = corpus.draw(rng, stem, len(out))
            out[:] = 0.0
            corpus.add(excerpt, 1.0, out)
            if out.std() > SILENCE:
                break
        else:
            raise ValueError(f"{MOST_DRAWS} draws of '{stem}' from {corpus.folder} gave only silence")
        if self.scaling == "range":
            low, high = out.min(), out.max()
            out -= low
            out *= 2.0 / (high - low)
            out -= 1.0
        return excerpt

    def _see(self, corpus: Corpus, excerpt: Excerpt) -> np.ndarray:
        """Frames or features of an excerpt's player."""
        times = excerpt.start / corpus.sample_rate + self.spacing * np.arange(self.frames)
        if self.features:
            return corpus.features(excerpt.track, excerpt.stem, times, self.features)
        return corpus.frames(excerpt.track, excerpt.stem, times, self.size)
