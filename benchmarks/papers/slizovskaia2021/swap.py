"""Does it look? `python -m benchmarks.papers.slizovskaia2021.swap --runs runs/exp13 runs/exp16`.

Test segments are separated three times over: with all players at their own time, with another player in the place of
one of them, and with him at another moment of the same piece. What that does to his source is the use of seeing him.
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
    "SI-SDR of each source in each test segment, pieces of two instruments or more; other player: in his place one of "
    "an instrument that is not in the piece, from another one; other moment: himself, a quarter to three quarters of "
    "the piece away"
)


@dataclasses.dataclass(frozen=True)
class Swap:
    """Show a model other players, or the same at another moment, and see what becomes of the sources.

    Attributes:
      runs: runs of models that look.
      root: folder of the prepared corpora; the runs' own if left out.
      corpus: another corpus with players than the runs' own.
      split: of the corpus.
      tracks: how many, in order of their names; 0 for all.
      wiener: iterations of the filter; one line for each number.
      seed: of who is shown instead, and when.
      out: where table and rows go.
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
    """Who is seen in the place of another, and by how many seconds later; a piece that is over begins again."""

    track: str
    stem: str
    later: float


@dataclasses.dataclass(frozen=True)
class Recast:
    """A corpus in which other players are seen: all that `from_corpus` asks of one.

    Attributes:
      instead: who is seen in the place of the stem of a track.
    """

    corpus: Corpus
    instead: Mapping[tuple[str, str], Player]

    @property
    def sample_rate(self) -> int:
        return self.corpus.sample_rate

    def frames(self, track: str, stem: str, times: np.ndarray, size: int) -> np.ndarray:
        return self.corpus.frames(*self._seen(track, stem, times), size)

    def features(self, track: str, stem: str, times: np.ndarray, name: str) -> np.ndarray:
        return self.corpus.features(*self._seen(track, stem, times), name)

    def _seen(self, track: str, stem: str, times: np.ndarray) -> tuple[str, str, np.ndarray]:
        player = self.instead.get((track, stem))
        if player is None:
            return track, stem, times
        seconds = self.corpus.length(player.track, player.stem) / self.sample_rate
        return player.track, player.stem, (times + player.later) % seconds


def instead_of(corpus: Corpus, track: str, stem: str, rng: np.random.Generator) -> dict[str, Player]:
    """Another player, of an instrument that is not in the track, and the same one at another moment.

    Raises:
      ValueError: if all instruments are in the track.
    """
    absent = [
        (name, other) for other in corpus.stems if track not in corpus.tracks(other) for name in corpus.tracks(other)
    ]
    if not absent:
        raise ValueError(f"all instruments of {corpus.folder} play in {track}: there is no other player to be shown")
    name, other = absent[rng.integers(len(absent))]
    theirs, own = (corpus.length(*place) / corpus.sample_rate for place in ((name, other), (track, stem)))
    return {
        OTHER: Player(name, other, theirs * rng.uniform()),
        MOMENT: Player(track, stem, own * rng.uniform(0.25, 0.75)),
    }


def by_segment(reference: np.ndarray, estimate: np.ndarray, samples: int) -> np.ndarray:
    """SI-SDR of the segments of `[n · T, 1]`, `[n]` in dB; NaN where either is zero throughout."""
    true, made = (signal.reshape(-1, samples) for signal in (reference, estimate))
    scores = np.asarray(si_sdr(jnp.asarray(true), jnp.asarray(made)), np.float64)
    return np.where(true.any(1) & made.any(1), scores, np.nan)


def separated(
    model: Model,
    corpus: Corpus,
    track: ScoredTrack,
    instead: Mapping[tuple[str, str], Player],
    options: Swap,
    features: str,
) -> dict[int, dict[str, np.ndarray]]:
    """All stems of a track after each number of Wiener iterations, some of its players being others."""
    seen = cast(Corpus, Recast(corpus, instead))

    def told(name: str) -> Any:
        return from_corpus(model, seen, stem_excerpts(corpus, name), features)

    estimates, references = segments.model_estimators(model, told, options.wiener), track.references()
    return {count: dict(estimates[f"model_w{count}"](track.name, references)) for count in options.wiener}


def study(model: Model, corpus: Corpus, features: str, options: Swap) -> list[dict[str, Any]]:
    """For each source and number of iterations, SI-SDR of its segments `[n]` by what was seen."""
    tracks = segments.corpus_segments(corpus, model.system, {}, {})[: options.tracks or None]
    samples, found = model.system.chunk_samples, []
    parts = {track.name: [part.stem for part in stem_excerpts(corpus, track.name)] for track in tracks}
    with Progress("recasting", sum(map(len, parts.values())), unit="source") as progress:
        for number, track in enumerate(tracks):
            references, rng = track.references(), np.random.default_rng([options.seed, number])
            own = separated(model, corpus, track, {}, options, features)
            for stem in parts[track.name]:
                shown = {OWN: own}
                for kind, player in instead_of(corpus, track.name, stem, rng).items():
                    shown[kind] = separated(model, corpus, track, {(track.name, stem): player}, options, features)
                for count in options.wiener:
                    scores = {
                        kind: by_segment(references[stem], outputs[count][stem], samples)
                        for kind, outputs in shown.items()
                    }
                    found.append({"track": track.name, "stem": stem, "wiener": count, "scores": scores})
                progress.advance()
    return found


def rows_of(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Mean ± 95 % of what was seen and of the paired differences, of all sources and by instrument.

    Only segments that have a score each time count.
    """
    rows = []
    stems = ["all", *sorted({each["stem"] for each in found})]
    for count in dict.fromkeys(each["wiener"] for each in found):
        for stem in stems:
            chosen = [each["scores"] for each in found if each["wiener"] == count and stem in ("all", each["stem"])]
            scores = {kind: np.concatenate([each[kind] for each in chosen]) for kind in (OWN, OTHER, MOMENT)}
            kept = np.isfinite(list(scores.values())).all(0)
            if not kept.any():
                continue
            scores |= {f"{OWN} − {kind}": scores[OWN] - scores[kind] for kind in (OTHER, MOMENT)}
            numbers = {kind: dataclasses.asdict(summarize(values[kept])) for kind, values in scores.items()}
            rows.append({"stem": stem, "wiener": count, "metric": "SI-SDR", "segments": int(kept.sum()), **numbers})
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line for each run, number of iterations and instrument."""
    shown = (OWN, OTHER, MOMENT, f"{OWN} − {OTHER}", f"{OWN} − {MOMENT}")
    lines = []
    for row in rows:
        cells = [f"{row[kind]['mean']:.2f} ± {row[kind]['ci95']:.2f}" for kind in shown]
        lines.append(
            [row["run"], row["stem"], str(row["experiment"]), str(row["wiener"]), str(row["segments"]), *cells]
        )
    first = rows[0]
    title = f"{first['corpus']}, {first['split']} split; {PROTOCOL}; dB: mean ± 95 % over segments and sources"
    return published.markdown(title, ["run", "source", "exp.", "W", "segments", *shown], lines, text_columns=2)


def main() -> None:
    options = console.parse(Swap, "python -m benchmarks.papers.slizovskaia2021.swap", EXAMPLE)
    if not options.runs:
        raise ValueError(f"--runs is needed. Example: {EXAMPLE}")
    if min(options.wiener, default=-1) < 0 or options.tracks < 0:
        raise ValueError("--wiener must be numbers from 0 on, and --tracks 0 or more")
    console.cache_compilations()
    rows = []
    for workdir in options.runs:
        source = find_model(str(workdir))
        experiment, name = source.experiment(), source.path.resolve().name
        if "frames" not in experiment.system.cues:
            raise ValueError(f"{workdir} holds a model that does not look: give runs of experiments 12 to 21")
        facts = {"run": name, "experiment": number_of(experiment, name), "protocol": PROTOCOL, "seed": options.seed}
        model, corpus, features = load(workdir, options.corpus, options.split, options.root)
        facts |= {"corpus": corpus.metadata.name, "split": corpus.split, "features": features}
        rows += [{**facts, **row} for row in rows_of(study(model, corpus, features, options))]
    options.out.mkdir(parents=True, exist_ok=True)
    published.publish(options.out, rows, table(rows))


if __name__ == "__main__":
    console.run(main)
