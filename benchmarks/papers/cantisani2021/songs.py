"""The test songs of Cantisani et al. 2021: each stem is silenced in a quarter of the song, each in a different one."""

from collections.abc import Iterator

import numpy as np
import scipy.signal

from data_pipelines.prepared.corpus import Corpus, Excerpt

# Length and hop of the Hann windows in samples: the defaults of librosa, which the authors' script uses.
WINDOW, HOP = 2048, 512


def silence_parts(stems: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The stems `[S, T, C]` with the spectrogram of each set to zero in one of S equal parts, in random order.

    The paper has four stems and quarters. No stem is active all the time then, which adaptation needs.
    """
    count, silenced = len(stems), []
    for stem, part in zip(stems, rng.permutation(count), strict=True):
        _, _, spectrogram = scipy.signal.stft(stem.T, nperseg=WINDOW, noverlap=WINDOW - HOP)
        frames = spectrogram.shape[-1]
        spectrogram[..., part * frames // count : (part + 1) * frames // count] = 0
        silenced.append(scipy.signal.istft(spectrogram, nperseg=WINDOW, noverlap=WINDOW - HOP)[1].T[: stem.shape[0]])
    return np.stack(silenced).astype(np.float32)


def test_songs(corpus: Corpus, count: int, seconds: float, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yield name and silenced stems `[S, T, C]` of the first `count` songs by name, in the order of the corpus's stems.

    A song in which a stem is missing or completely silent is excluded, as in the published code.

    Args:
      seconds: Length of the excerpt from the beginning of each song (0: the complete song).
    """
    for number, track in enumerate(sorted(corpus.all_tracks)[:count]):
        if any(track not in corpus.tracks(stem) for stem in corpus.stems):
            continue
        length = max(corpus.length(track, stem) for stem in corpus.stems)
        length = min(length, round(seconds * corpus.sample_rate) or length)
        stems = np.stack([corpus.read(Excerpt(track, stem, 0, length)) for stem in corpus.stems])
        stems = silence_parts(stems, np.random.default_rng([seed, number]))
        if all(stem.any() for stem in stems):
            yield track, stems
