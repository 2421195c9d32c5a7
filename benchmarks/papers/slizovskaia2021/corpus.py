"""Table I: `python -m benchmarks.papers.slizovskaia2021.corpus --train solos --test urmp_pieces`.

What there is of each instrument: recordings to train on, and pieces to test on by their number of instruments.
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
    """Count recordings, pieces and minutes of each instrument in prepared corpora, as Table I does.

    Attributes:
      train: the corpus whose training and validation recordings are counted.
      test: the corpus whose test pieces are counted.
      root: folder of the prepared corpora.
      sample_rate: of the prepared copies, Hz.
      out: where the table and its rows go.
    """

    train: str = "chamber"
    test: str = "chamber"
    root: str = "data"
    sample_rate: int = 11_025
    out: Path = Path("runs/corpus")


def recordings(rows: Iterable[Row], rate: int) -> dict[str, dict[str, float]]:
    """Seconds of each instrument by track; variants and sub-stems left out."""
    found: dict[str, dict[str, float]] = {stem: {} for stem in INSTRUMENTS}
    for row in rows:
        if not row.parent and row.stem in found:
            found[row.stem][row.track] = row.samples / rate
    return found


def pieces(found: dict[str, dict[str, float]]) -> dict[str, int]:
    """Number of instruments of each track that has two or more."""
    counts: dict[str, int] = {}
    for tracks in found.values():
        for track in tracks:
            counts[track] = counts.get(track, 0) + 1
    return {track: count for track, count in counts.items() if count > 1}


def statistics(train: Corpus, test: Corpus) -> list[dict[str, Any]]:
    """A row for each instrument, and `all`: `pieces` by number of instruments, durations in seconds or None."""
    index, rate = train.metadata.index, train.sample_rate
    heard = recordings((row for split in ("train", "validation") for row in index.get(split, [])), rate)
    tested = recordings(test.metadata.index["test"], test.sample_rate)
    counts, longest = pieces(tested), {}
    for tracks in tested.values():
        for track, seconds in tracks.items():
            longest[track] = max(seconds, longest.get(track, 0.0))
    sizes = range(2, max(counts.values(), default=2) + 1)

    def row(stem: str, learned: Sequence[float], played: dict[str, float]) -> dict[str, Any]:
        own = [counts[track] for track in played]
        return {
            "instrument": stem,
            "recordings": len(learned),
            "recorded_s": _mean(learned),
            "pieces": len(own),
            "pieces_of": {size: own.count(size) for size in sizes},
            "played_s": _mean(list(played.values())),
        }

    rows = []
    for stem in INSTRUMENTS:
        played = {track: seconds for track, seconds in tested[stem].items() if track in counts}
        rows.append(row(stem, list(heard[stem].values()), played))
    everything = [seconds for tracks in heard.values() for seconds in tracks.values()]
    return [*rows, row("all", everything, {track: longest[track] for track in counts})]


def _mean(seconds: Sequence[float]) -> float | None:
    return sum(seconds) / len(seconds) if seconds else None


def duration(seconds: float | None) -> str:
    """Minutes and seconds, 1:53."""
    return "–" if seconds is None else "{}:{:02}".format(*divmod(round(seconds), 60))


def table(rows: list[dict[str, Any]], train: str, test: str) -> str:
    """Ours, and the paper's on the right."""
    sizes = ", ".join(map(str, rows[0]["pieces_of"]))
    columns = ["instrument", f"{train}: recordings", "mean duration", f"{test}: pieces (of {sizes})", "mean duration"]
    columns += ["Solos: recordings", "mean duration", "URMP: recordings", "pieces (of 2, 3, 4)", "mean duration"]
    lines = []
    for row in rows:
        recorded, many, of, lasting, videos, watched = CORPORA[row["instrument"]]
        ours = [str(row["recordings"]), duration(row["recorded_s"])]
        ours += [_of(row["pieces"], row["pieces_of"].values()), duration(row["played_s"])]
        paper = [str(videos), watched, str(recorded), _of(many, of), lasting]
        lines.append([row["instrument"].replace("_", " "), *ours, *paper])
    title = f"Table I. {train}, training and validation; {test}, test pieces of two instruments or more; the paper's"
    return published.markdown(title, columns, lines)


def _of(pieces: int, by_size: Iterable[int]) -> str:
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
