"""Places in a corpus where sources sound: seeded, songs in turn, no place twice."""

from collections import deque
from collections.abc import Collection, Iterator

import numpy as np

from data_pipelines.prepared.corpus import Corpus, Excerpt
from data_pipelines.testlist import is_audible

# One source each, all at the same time.
Place = tuple[Excerpt, ...]


def together(
    corpus: Corpus,
    stems: Collection[str],
    seconds: float,
    most: int,
    rng: np.random.Generator,
    without: Collection[str] = (),
) -> list[Place]:
    """At most `most` places of `seconds` in which all `stems` of a song can be heard, none overlapping another.

    Songs come in random order and in turn, those in `without` not at all; possibly there is no place.
    """
    samples = round(seconds * corpus.sample_rate)
    songs = sorted(set.intersection(*(set(corpus.tracks(stem)) for stem in stems)) - set(without))
    waiting = deque(_places(corpus, songs[index], stems, samples, rng) for index in rng.permutation(len(songs)))
    found: list[Place] = []
    while waiting and len(found) < most:
        places = waiting.popleft()
        place = next(places, None)
        if place is not None:
            found.append(place)
            waiting.append(places)
    return found


def _places(
    corpus: Corpus, song: str, stems: Collection[str], samples: int, rng: np.random.Generator
) -> Iterator[Place]:
    count = min(corpus.length(song, stem) for stem in stems) // samples
    for number in rng.permutation(count):
        place = tuple(Excerpt(song, stem, int(number) * samples, samples) for stem in stems)
        if all(is_audible(corpus.read(excerpt)) for excerpt in place):
            yield place


def apart(corpus: Corpus, stems: Collection[str], seconds: float, most: int, rng: np.random.Generator) -> list[Place]:
    """At most `most` times a place for each of the `stems`, all in different songs."""
    alone = [together(corpus, (stem,), seconds, most, rng) for stem in stems]
    found = [tuple(excerpt for (excerpt,) in place) for place in zip(*alone, strict=False)]
    return [place for place in found if len({excerpt.track for excerpt in place}) == len(place)]


def query_for(corpus: Corpus, place: Place, seconds: float, rng: np.random.Generator) -> Excerpt:
    """Where the first source of `place` can be heard in a song that is not in it.

    Raises:
      ValueError: if there is no such song.
    """
    songs = {excerpt.track for excerpt in place}
    found = together(corpus, (place[0].stem,), seconds, 1, rng, songs)
    if not found:
        raise ValueError(
            f"{corpus.folder}: no other {corpus.split} song has {seconds:g} s of {place[0].stem} to ask by"
        )
    return found[0][0]
