"""Test whether a model uses the video: `python -m benchmarks.papers.slizovskaia2021.swap --runs runs/exp13 runs/exp16`.

Test segments are separated three times: with the true video of all players, with one player's video replaced by that of
another player, and with one player's video taken from another moment of the piece. The drop in SI-SDR of that player's
source shows how much the model uses the video.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import jax.numpy as jnp
import numpy as np

from benchmarks.papers import published
from benchmarks.papers.slizovskaia2021.runs import load, number_of
from data_pipelines.prepared.corpus import Corpus
from data_pipelines.progress import Progress
from qsep_jax.command_line import console
from qsep_jax.evaluation import segments
from qsep_jax.evaluation.tracks import ScoredTrack
from qsep_jax.inference.cues import from_corpus, stem_excerpts
from qsep_jax.inference.model import Model
from qsep_jax.metrics.aggregate import summarize
from qsep_jax.metrics.ratios import si_sdr
from qsep_jax.runs.bundle import find_model

EXAMPLE = "python -m benchmarks.papers.slizovskaia2021.swap --runs runs/exp13 runs/exp16 --out runs/swap"
OWN, OTHER, MOMENT = "own", "other player", "other moment"
PROTOCOL = (
    "SI-SDR of each source in each test segment, pieces of two instruments or more; another player: the video of an "
    "instrument that is not in the piece, from another piece; another moment: the player's own video, shifted by a "
    "quarter to three quarters of the piece"
)
# The columns of the table by their key in the rows.
COLUMNS = {
    OWN: "own player",
    OTHER: "another player",
    MOMENT: "same player, another moment",
    f"{OWN} − {OTHER}": "drop, another player",
    f"{OWN} − {MOMENT}": "drop, another moment",
}


@dataclasses.dataclass(frozen=True)
class Swap:
    """Replace the video of a player by another player's or by another moment, and measure the drop in SI-SDR.

    Attributes:
      runs: Runs of models that are conditioned on video.
      root: Folder of the prepared corpora (by default, the runs').
      corpus: Another corpus with video (by default, the runs').
      split: Split of the corpus.
      tracks: Number of tracks, in the order of their names (0: all).
      wiener: Numbers of iterations of the Wiener filter, with a line for each.
      seed: Seed of the other players and moments.
      out: Folder for the table and the rows.
    """

    runs: tuple[Path, ...] = ()
    root: str = ""
    corpus: str = ""
    split: str = "test"
    tracks: int = 0
    wiener: tuple[int, ...] = (0, 2)
    seed: int = 2021
    out: Path = Path("runs/swap")


@dataclasses.dataclass(frozen=True)
class Player:
    """A player whose video replaces another's, delayed by `shift` seconds; the video repeats at its end."""

    track: str
    stem: str
    shift: float


@dataclasses.dataclass(frozen=True)
class SwappedVideo:
    """A corpus with replaced videos; it has the methods of a corpus that `from_corpus` uses.

    Attributes:
      corpus: The original corpus.
      replacements: The player that replaces a stem of a track, by track and stem.
    """

    corpus: Corpus
    replacements: Mapping[tuple[str, str], Player]

    @property
    def sample_rate(self) -> int:
        return self.corpus.sample_rate

    def frames(self, track: str, stem: str, times: np.ndarray, size: int) -> np.ndarray:
        return self.corpus.frames(*self._replaced(track, stem, times), size)

    def features(self, track: str, stem: str, times: np.ndarray, name: str) -> np.ndarray:
        return self.corpus.features(*self._replaced(track, stem, times), name)

    def _replaced(self, track: str, stem: str, times: np.ndarray) -> tuple[str, str, np.ndarray]:
        player = self.replacements.get((track, stem))
        if player is None:
            return track, stem, times
        seconds = self.corpus.length(player.track, player.stem) / self.sample_rate
        return player.track, player.stem, (times + player.shift) % seconds


def draw_replacements(corpus: Corpus, track: str, stem: str, rng: np.random.Generator) -> dict[str, Player]:
    """A random player of an instrument that is not in the track, and the same player at another moment.

    Raises:
      ValueError: if all instruments are in the track.
    """
    absent = [
        (name, other) for other in corpus.stems if track not in corpus.tracks(other) for name in corpus.tracks(other)
    ]
    if not absent:
        raise ValueError(f"all instruments of {corpus.folder} play in {track}: no other player can replace one")
    name, other = absent[rng.integers(len(absent))]
    other_seconds, seconds = (corpus.length(*key) / corpus.sample_rate for key in ((name, other), (track, stem)))
    return {
        OTHER: Player(name, other, other_seconds * rng.uniform()),
        MOMENT: Player(track, stem, seconds * rng.uniform(0.25, 0.75)),
    }


def score_segments(reference: np.ndarray, estimate: np.ndarray, samples: int) -> np.ndarray:
    """The SI-SDR `[segments]` of signals `[segments · T, 1]` in dB; NaN for a segment in which either is all zero."""
    references, estimates = (signal.reshape(-1, samples) for signal in (reference, estimate))
    scores = np.asarray(si_sdr(jnp.asarray(references), jnp.asarray(estimates)), np.float64)
    return np.where(references.any(1) & estimates.any(1), scores, np.nan)


def separate_track(
    model: Model,
    corpus: Corpus,
    track: ScoredTrack,
    replacements: Mapping[tuple[str, str], Player],
    options: Swap,
    features: str,
) -> dict[int, dict[str, np.ndarray]]:
    """The estimates of all stems of a track, with some videos replaced, by number of Wiener iterations."""
    swapped = cast(Corpus, SwappedVideo(corpus, replacements))

    def condition_of(name: str) -> Any:
        return from_corpus(model, swapped, stem_excerpts(corpus, name), features)

    estimates, references = segments.model_estimators(model, condition_of, options.wiener), track.references()
    return {count: dict(estimates[f"model_w{count}"](track.name, references)) for count in options.wiener}


def measure(model: Model, corpus: Corpus, features: str, options: Swap) -> list[dict[str, Any]]:
    """The SI-SDR of the segments of each source, by kind of video, for each number of Wiener iterations."""
    tracks = segments.corpus_segments(corpus, model.system, {}, {})[: options.tracks or None]
    samples, results = model.system.chunk_samples, []
    stems = {track.name: [excerpt.stem for excerpt in stem_excerpts(corpus, track.name)] for track in tracks}
    with Progress("swapping videos", sum(map(len, stems.values())), unit="source") as progress:
        for number, track in enumerate(tracks):
            references, rng = track.references(), np.random.default_rng([options.seed, number])
            unchanged = separate_track(model, corpus, track, {}, options, features)
            for stem in stems[track.name]:
                estimates = {OWN: unchanged}
                for kind, player in draw_replacements(corpus, track.name, stem, rng).items():
                    replacements = {(track.name, stem): player}
                    estimates[kind] = separate_track(model, corpus, track, replacements, options, features)
                for count in options.wiener:
                    scores = {
                        kind: score_segments(references[stem], outputs[count][stem], samples)
                        for kind, outputs in estimates.items()
                    }
                    results.append({"track": track.name, "stem": stem, "wiener": count, "scores": scores})
                progress.advance()
    return results


def rows_of(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Mean ± 95 % of the SI-SDR by kind of video and of the paired differences, for all sources and by instrument.

    Only segments count that have a score with every kind of video.
    """
    rows = []
    stems = ["all", *sorted({result["stem"] for result in results})]
    for count in dict.fromkeys(result["wiener"] for result in results):
        for stem in stems:
            chosen = [
                result["scores"] for result in results if result["wiener"] == count and stem in ("all", result["stem"])
            ]
            scores = {kind: np.concatenate([source[kind] for source in chosen]) for kind in (OWN, OTHER, MOMENT)}
            finite = np.isfinite(list(scores.values())).all(0)
            if not finite.any():
                continue
            scores |= {f"{OWN} − {kind}": scores[OWN] - scores[kind] for kind in (OTHER, MOMENT)}
            numbers = {kind: dataclasses.asdict(summarize(values[finite])) for kind, values in scores.items()}
            rows.append({"stem": stem, "wiener": count, "metric": "SI-SDR", "segments": int(finite.sum()), **numbers})
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The Markdown table with a line for each run, number of iterations and instrument."""
    lines = []
    for row in rows:
        cells = [f"{row[key]['mean']:.2f} ± {row[key]['ci95']:.2f}" for key in COLUMNS]
        lines.append(
            [row["run"], row["stem"], str(row["experiment"]), str(row["wiener"]), str(row["segments"]), *cells]
        )
    first = rows[0]
    title = f"{first['corpus']}, {first['split']} split; {PROTOCOL}; dB: mean ± 95 % over segments and sources"
    columns = ["run", "source", "exp.", "W", "segments", *COLUMNS.values()]
    return published.markdown(title, columns, lines, text_columns=2)


def main() -> None:
    options = console.parse(Swap, "python -m benchmarks.papers.slizovskaia2021.swap", EXAMPLE)
    if not options.runs:
        raise ValueError(f"--runs is needed. Example: {EXAMPLE}")
    if min(options.wiener, default=-1) < 0 or options.tracks < 0:
        raise ValueError("--wiener must be one or more numbers of at least 0, and --tracks must be at least 0")
    console.cache_compilations()
    rows = []
    for workdir in options.runs:
        saved = find_model(str(workdir))
        experiment, name = saved.experiment(), saved.path.resolve().name
        if "frames" not in experiment.system.cues:
            raise ValueError(
                f"{workdir} has a model that is not conditioned on video: give runs of experiments 12 to 21"
            )
        facts = {"run": name, "experiment": number_of(experiment, name), "protocol": PROTOCOL, "seed": options.seed}
        model, corpus, features = load(workdir, options.corpus, options.split, options.root)
        facts |= {"corpus": corpus.metadata.name, "split": corpus.split, "features": features}
        rows += [{**facts, **row} for row in rows_of(measure(model, corpus, features, options))]
    options.out.mkdir(parents=True, exist_ok=True)
    published.publish(options.out, rows, table(rows))


if __name__ == "__main__":
    console.run(main)
