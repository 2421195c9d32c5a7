"""Random excerpts of a corpus in which sources are audible: seeded, from all songs in turn, without overlaps."""

from collections import deque
from collections.abc import Collection, Iterator

import numpy as np

from data_pipelines.prepared.corpus import Corpus, Excerpt
from data_pipelines.testlist import is_audible

# One excerpt for each source of a mixture.
ExcerptGroup = tuple[Excerpt, ...]


def simultaneous(
    corpus: Corpus,
    stems: Collection[str],
    seconds: float,
    limit: int,
    rng: np.random.Generator,
    without: Collection[str] = (),
) -> list[ExcerptGroup]:
    """At most `limit` groups of simultaneous excerpts of one song in which all `stems` are audible, without overlaps.

    Songs are used in random order and in turn, except those in `without`. The list may be empty.
    """
    samples = round(seconds * corpus.sample_rate)
    songs = sorted(set.intersection(*(set(corpus.tracks(stem)) for stem in stems)) - set(without))
    queue = deque(_groups_of_song(corpus, songs[index], stems, samples, rng) for index in rng.permutation(len(songs)))
    groups: list[ExcerptGroup] = []
    while queue and len(groups) < limit:
        groups_of_song = queue.popleft()
        group = next(groups_of_song, None)
        if group is not None:
            groups.append(group)
            queue.append(groups_of_song)
    return groups


def _groups_of_song(
    corpus: Corpus, song: str, stems: Collection[str], samples: int, rng: np.random.Generator
) -> Iterator[ExcerptGroup]:
    count = min(corpus.length(song, stem) for stem in stems) // samples
    for number in rng.permutation(count):
        group = tuple(Excerpt(song, stem, int(number) * samples, samples) for stem in stems)
        if all(is_audible(corpus.read(excerpt)) for excerpt in group):
            yield group


def of_different_songs(
    corpus: Corpus, stems: Collection[str], seconds: float, limit: int, rng: np.random.Generator
) -> list[ExcerptGroup]:
    """At most `limit` groups with an excerpt of each of the `stems`, all from different songs."""
    excerpts_by_stem = [simultaneous(corpus, (stem,), seconds, limit, rng) for stem in stems]
    groups = [tuple(excerpt for (excerpt,) in group) for group in zip(*excerpts_by_stem, strict=False)]
    return [group for group in groups if len({excerpt.track for excerpt in group}) == len(group)]


def query_for(corpus: Corpus, group: ExcerptGroup, seconds: float, rng: np.random.Generator) -> Excerpt:
    """An excerpt of the first source of `group` from a song that is not in the group.

    Raises:
      ValueError: if no other song has such an excerpt.
    """
    songs = {excerpt.track for excerpt in group}
    queries = simultaneous(corpus, (group[0].stem,), seconds, 1, rng, songs)
    if not queries:
        raise ValueError(
            f"{corpus.folder}: no other {corpus.split} song has {seconds:g} s of {group[0].stem} for a query"
        )
    return queries[0][0]
