"""Table I: `python -m benchmarks.papers.slizovskaia2021.corpus --train solos --test urmp_pieces`.

The table counts, for each instrument, the recordings of the training set and the test pieces by number of instruments.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.papers import published
from benchmarks.papers.slizovskaia2021.paper import CORPORA
from data_pipelines.prepared.corpus import Corpus, open_corpus
from data_pipelines.prepared.store import Row
from data_pipelines.schema import FAMILIES
from qsep_jax.command_line import console

EXAMPLE = "python -m benchmarks.papers.slizovskaia2021.corpus --train chamber --test chamber --out runs/corpus"
INSTRUMENTS = [stem for family in FAMILIES.values() for stem in family]


@dataclasses.dataclass(frozen=True)
class Corpora:
    """Count recordings, pieces and minutes of each instrument in prepared corpora, as in Table I.

    Attributes:
      train: Corpus whose training and validation recordings are counted.
      test: Corpus whose test pieces are counted.
      root: Folder of the prepared corpora.
      sample_rate: Sample rate of the prepared copies in Hz.
      out: Folder for the table and its rows.
    """

    train: str = "chamber"
    test: str = "chamber"
    root: str = "data"
    sample_rate: int = 11_025
    out: Path = Path("runs/corpus")


def recordings(rows: Iterable[Row], rate: int) -> dict[str, dict[str, float]]:
    """The seconds of each instrument by track, without augmented variants and sub-stems."""
    seconds: dict[str, dict[str, float]] = {stem: {} for stem in INSTRUMENTS}
    for row in rows:
        if not row.parent and row.stem in seconds:
            seconds[row.stem][row.track] = row.samples / rate
    return seconds


def pieces(seconds: dict[str, dict[str, float]]) -> dict[str, int]:
    """The number of instruments of each track that has two or more."""
    counts: dict[str, int] = {}
    for tracks in seconds.values():
        for track in tracks:
            counts[track] = counts.get(track, 0) + 1
    return {track: count for track, count in counts.items() if count > 1}


def statistics(train: Corpus, test: Corpus) -> list[dict[str, Any]]:
    """A row for each instrument and one for `all`; durations are in seconds or None.

    `pieces_of` has the number of test pieces by number of instruments.
    """
    index, rate = train.metadata.index, train.sample_rate
    train_seconds = recordings((row for split in ("train", "validation") for row in index.get(split, [])), rate)
    test_seconds = recordings(test.metadata.index["test"], test.sample_rate)
    counts, longest = pieces(test_seconds), {}
    for tracks in test_seconds.values():
        for track, seconds in tracks.items():
            longest[track] = max(seconds, longest.get(track, 0.0))
    sizes = range(2, max(counts.values(), default=2) + 1)

    def row(stem: str, recorded: Sequence[float], played: dict[str, float]) -> dict[str, Any]:
        sizes_of_pieces = [counts[track] for track in played]
        return {
            "instrument": stem,
            "recordings": len(recorded),
            "recorded_s": _mean(recorded),
            "pieces": len(sizes_of_pieces),
            "pieces_of": {size: sizes_of_pieces.count(size) for size in sizes},
            "played_s": _mean(list(played.values())),
        }

    rows = []
    for stem in INSTRUMENTS:
        played = {track: seconds for track, seconds in test_seconds[stem].items() if track in counts}
        rows.append(row(stem, list(train_seconds[stem].values()), played))
    all_recordings = [seconds for tracks in train_seconds.values() for seconds in tracks.values()]
    return [*rows, row("all", all_recordings, {track: longest[track] for track in counts})]


def _mean(seconds: Sequence[float]) -> float | None:
    return sum(seconds) / len(seconds) if seconds else None


def duration(seconds: float | None) -> str:
    """A duration in minutes and seconds, such as 1:53."""
    return "–" if seconds is None else "{}:{:02}".format(*divmod(round(seconds), 60))


def table(rows: list[dict[str, Any]], train: str, test: str) -> str:
    """The Markdown table: our columns, then the paper's."""
    sizes = ", ".join(map(str, rows[0]["pieces_of"]))
    columns = ["instrument", f"{train}: recordings", "mean duration", f"{test}: test pieces", "mean duration"]
    columns += ["Solos: recordings", "mean duration", "URMP: recordings", "URMP: pieces", "mean duration"]
    lines = []
    for row in rows:
        urmp_recordings, urmp_pieces, urmp_sizes, urmp_duration, videos, solos_duration = CORPORA[row["instrument"]]
        ours = [str(row["recordings"]), duration(row["recorded_s"])]
        ours += [_with_sizes(row["pieces"], row["pieces_of"].values()), duration(row["played_s"])]
        paper = [str(videos), solos_duration, str(urmp_recordings), _with_sizes(urmp_pieces, urmp_sizes), urmp_duration]
        lines.append([row["instrument"].replace("_", " "), *ours, *paper])
    title = (
        f"Table I. {train}: training and validation recordings. {test}: test pieces of two instruments or more (in "
        f"parentheses, pieces of {sizes} instruments). Solos and URMP: the paper's counts (pieces of 2, 3, 4)"
    )
    return published.markdown(title, columns, lines)


def _with_sizes(pieces: int, by_size: Iterable[int]) -> str:
    return f"{pieces} ({', '.join(map(str, by_size))})"


def main() -> None:
    options = console.parse(Corpora, "python -m benchmarks.papers.slizovskaia2021.corpus", EXAMPLE)
    train = open_corpus(options.root, options.train, options.sample_rate, "train")
    test = open_corpus(options.root, options.test, options.sample_rate, "test")
    rows = statistics(train, test)
    options.out.mkdir(parents=True, exist_ok=True)
    published.publish(options.out, rows, table(rows, options.train, options.test))


if __name__ == "__main__":
    console.run(main)
