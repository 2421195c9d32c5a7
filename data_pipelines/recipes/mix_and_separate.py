"""The mix-and-separate recipe: sources of several instruments in slots, with frames of their players."""

import dataclasses
from typing import Literal

import numpy as np

from data_pipelines.prepared.corpus import Corpus, Excerpt
from data_pipelines.recipes.mixing import MOST_DRAWS, SILENCE
from data_pipelines.schema import FEATURES, FRAMES, SLOTS, SOURCES


@dataclasses.dataclass(frozen=True)
class MixAndSeparate:
    """The mixing of Slizovskaia et al. 2021, §IV-A: `fewest` to `most` different instruments from independent tracks.

    The number of instruments is drawn first, uniformly, then the instruments, then a random track and position of each.
    Silent and constant excerpts are drawn again. The training step sums the sources: with the published levels, the
    mixture is their sum divided by their number.

    Attributes:
      fewest: Smallest number of instruments in an example.
      most: Largest number of instruments in an example; at most those of the corpus are used.
      slots: Number of slots for sources, the same in all examples; unused slots are empty.
      scaling: `range` maps the lowest and the highest sample of each excerpt to −1 and 1, as published, which also
        changes the mean; `none` keeps the stored levels.
      frames: Number of video frames of each source, the first one at the beginning of the excerpt; 0 gives none.
      spacing: Time between two frames in s.
      size: Height and width of the frames in pixels.
      features: Name of stored features to give instead of frames; if empty, the frames themselves.
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
                f"the recipe needs 1 ≤ fewest ≤ most ≤ slots, not fewest = {self.fewest}, most = {self.most}, "
                f"slots = {self.slots}"
            )
        if self.scaling not in ("range", "none"):
            raise ValueError(f"scaling of the recipe must be 'range' or 'none', not '{self.scaling}'")
        if self.frames < 0 or self.spacing < 0 or self.size < 1:
            raise ValueError(
                f"frames {self.frames} and spacing {self.spacing:g} of the recipe must not be negative, and "
                f"size {self.size} must be positive"
            )
        if self.features and not self.frames:
            raise ValueError(f"features '{self.features}' need frames: set the number of frames of the recipe")

    def __call__(self, rng: np.random.Generator, corpus: Corpus, samples: int) -> dict[str, np.ndarray]:
        """Draw `sources` `[S, T, C]`, `slots` `[S]`, and `frames` `[S, N, H, W, 3]` or `features` `[S, N, D]`.

        Raises:
          ValueError: if the corpus has fewer instruments than `fewest`, only silence of an instrument, or no frames.
        """
        self.check(corpus)
        count = int(rng.integers(self.fewest, min(self.most, len(corpus.stems)) + 1))
        instruments = rng.permutation(len(corpus.stems))[:count]
        sources = np.zeros((self.slots, samples, corpus.channels), np.float32)
        excerpts = [
            self._draw(rng, corpus, corpus.stems[stem], out) for stem, out in zip(instruments, sources, strict=False)
        ]
        slots = np.full(self.slots, -1, np.int32)
        slots[:count] = instruments
        example = {SOURCES: sources, SLOTS: slots}
        if self.frames:
            video = np.stack([self._video(corpus, excerpt) for excerpt in excerpts])
            empty = np.zeros((self.slots - count, *video.shape[1:]), video.dtype)
            example[FEATURES if self.features else FRAMES] = np.concatenate([video, empty])
        return example

    def check(self, corpus: Corpus) -> None:
        """Raise ValueError if the corpus has fewer instruments than `fewest`."""
        if len(corpus.stems) < self.fewest:
            raise ValueError(
                f"{corpus.folder} has {len(corpus.stems)} instruments, but the recipe mixes at least {self.fewest}"
            )

    def _draw(self, rng: np.random.Generator, corpus: Corpus, stem: str, out: np.ndarray) -> Excerpt:
        """Draw an excerpt of `stem` that is not constant and store its scaled samples in `out` `[T, C]`."""
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

    def _video(self, corpus: Corpus, excerpt: Excerpt) -> np.ndarray:
        """The frames of the player of an excerpt, or their features."""
        times = excerpt.start / corpus.sample_rate + self.spacing * np.arange(self.frames)
        if self.features:
            return corpus.features(excerpt.track, excerpt.stem, times, self.features)
        return corpus.frames(excerpt.track, excerpt.stem, times, self.size)
