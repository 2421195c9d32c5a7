"""The test songs of Cantisani et al. 2021: each stem is silenced in a quarter of the song that is its own."""

from collections.abc import Iterator

import numpy as np
import scipy.signal

from data_pipelines.prepared.corpus import Corpus, Excerpt

# Hann windows of so many samples, as librosa has by default and so the authors' script.
WINDOW, HOP = 2048, 512


def silenced(stems: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`[S, T, C]` with the spectrogram of each stem set to zero in one of S equal parts, in random order.

    Published for four stems and quarters. Nothing is always active then, which is what adaptation learns from.
    """
    count, found = len(stems), []
    for stem, part in zip(stems, rng.permutation(count), strict=True):
        _, _, spectrogram = scipy.signal.stft(stem.T, nperseg=WINDOW, noverlap=WINDOW - HOP)
        frames = spectrogram.shape[-1]
        spectrogram[..., part * frames // count : (part + 1) * frames // count] = 0
        found.append(scipy.signal.istft(spectrogram, nperseg=WINDOW, noverlap=WINDOW - HOP)[1].T[: stem.shape[0]])
    return np.stack(found).astype(np.float32)


def of_corpus(corpus: Corpus, count: int, seconds: float, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """The first `count` songs by name with all their stems: name and silenced stems, `[S, T, C]` in the view's order.

    A song in which a stem is silent from beginning to end is left out, as published.

    Args:
      seconds: of each song, from its beginning; 0 takes the whole.
    """
    for number, track in enumerate(sorted(corpus.all_tracks)[:count]):
        if any(track not in corpus.tracks(stem) for stem in corpus.stems):
            continue
        length = max(corpus.length(track, stem) for stem in corpus.stems)
        length = min(length, round(seconds * corpus.sample_rate) or length)
        stems = np.stack([corpus.read(Excerpt(track, stem, 0, length)) for stem in corpus.stems])
        stems = silenced(stems, np.random.default_rng([seed, number]))
        if all(stem.any() for stem in stems):
            yield track, stems
