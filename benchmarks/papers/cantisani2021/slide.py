"""The table of the slides: `python -m benchmarks.papers.cantisani2021.slide --model runs/tasnet --corpus band_fluid`.

In each test song, every stem is silent in another quarter. The songs are separated by the model before adaptation (B0)
and after adaptation to the song by each strategy (P-L1:D …), with the activations of the reference stems. The scores of
each song are stored, so that the same command continues after an interruption.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.papers.cantisani2021 import songs
from data_pipelines.annotations import activations
from data_pipelines.files import read_json, write_json, write_text
from data_pipelines.progress import Progress
from qsep_jax.command_line import console
from qsep_jax.inference import adaptation
from qsep_jax.inference.adaptation import Adapted, Song
from qsep_jax.inference.model import Model
from qsep_jax.inference.separation import separate
from qsep_jax.metrics.aggregate import track_medians
from qsep_jax.metrics.protocols import Protocol
from qsep_jax.runs.bundle import find_model
from qsep_jax.systems.base import System
from qsep_jax.systems.cantisani2021 import SPLITS, Cantisani2021
from qsep_jax.systems.one_shot import Adaptation
from qsep_jax.training.partition import select

EXAMPLE = "python -m benchmarks.papers.cantisani2021.slide --model runs/tasnet --corpus band_fluid --out runs/slide"
BASE = "B0"
STEMS = ("other", "bass", "drums", "vocals")
# The published SDR in dB by strategy, in the order of `STEMS`.
PAPER = {
    "l1": (6.1, 8.1, 7.4, 6.3),
    "l2": (6.2, 8.3, 7.4, 6.2),
    "l3": (6.1, 8.3, 7.3, 5.9),
    "l4": (4.9, 7.8, 5.7, 6.0),
    "l5": (4.6, 7.7, 5.7, 6.1),
    BASE: (4.4, 7.9, 5.8, 6.3),
}
# The tables that are printed: title, and the metric and the aggregation over songs of each group of columns.
TABLES = {
    "SDR in dB, median over frames": {"mean": ("SDR", "mean"), "median": ("SDR", "median")},
    "PES and EPS in dB, median over frames, mean over songs": {"PES": ("PES", "mean"), "EPS": ("EPS", "mean")},
}
PROTOCOL = Protocol("bss_eval_v4_sdr", window=2.0, hop=1.5)
SILENCE_PROTOCOL = Protocol("whole_track", window=2.0, hop=1.5)
# Maximal shift of a song before its separation in seconds, as published.
MAX_SHIFT_S = 0.5


@dataclasses.dataclass(frozen=True)
class Slide:
    """Adapt a model to test songs by each strategy of the paper, and score it before and after.

    Attributes:
      model: Run folder or bundle of configs/cantisani2021.py.
      root: Folder of the prepared corpora (by default, the run's).
      corpus: Corpus of the songs (by default, the one that evaluates the run).
      split: Split of the corpus.
      songs: Number of songs, the first by name; 10 in the paper, 11 in its code.
      seconds: Length of the excerpt from the beginning of each song (0: the complete song).
      splits: Strategies.
      shifts: Number of separations of a song that are averaged, each with a random shift of up to half a second; 10 in
        the paper.
      threshold: Threshold of the activations.
      epochs: Number of epochs of the adaptation (by default, the model's).
      rate: Learning rate of the adaptation (by default, the model's).
      hop: Hop between the chunks of the adaptation in seconds (by default, the model's).
      together: Number of songs adapted at a time (0: one on CPU, elsewhere as many as fit into memory).
      seed: Seed of silences, shifts and adaptation.
      out: Folder for the scores and the table.
    """

    model: str = ""
    root: str = ""
    corpus: str = ""
    split: str = "test"
    songs: int = 10
    seconds: float = 0.0
    splits: tuple[str, ...] = SPLITS
    shifts: int = 10
    threshold: float = 0.01
    epochs: int | None = None
    rate: float | None = None
    hop: float | None = None
    together: int = 0
    seed: int = 42
    out: Path = Path("evaluation/cantisani2021")


def settings_of(system: Cantisani2021, split: str, options: Slide) -> Adaptation:
    """The adaptation settings of a strategy."""
    trainable = system.adaptation_presets()[split]
    return system.adaptation.changed(options.rate, trainable=trainable, epochs=options.epochs, hop=options.hop)


def separate_with_shifts(model: Model, mixture: np.ndarray, shifts: int, rng: np.random.Generator) -> np.ndarray:
    """The estimates `[S, T, C]` of a mixture `[T, C]`, averaged over random shifts (0: without a shift)."""
    if not shifts:
        return separate(model, mixture, ())
    max_shift = round(MAX_SHIFT_S * model.system.sample_rate)
    total = np.zeros((len(model.system.stems), *mixture.shape), np.float32)
    for offset in rng.integers(0, max_shift + 1, shifts):
        total += separate(model, np.pad(mixture, ((offset, 0), (0, 0))), ())[:, offset:]
    return total / shifts


def score(
    references: np.ndarray, estimates: np.ndarray, stems: Sequence[str], rate: int
) -> dict[str, dict[str, list[float]]]:
    """The SDR by frame, PES and EPS of each stem.

    Each stem is scored alone, so that all frames count in which it sounds. (For museval, a frame counts only if all
    stems sound in it. Here one stem is always silent, and only frames across the borders of quarters would count.)
    """
    scores = {}
    for stem, reference, estimate in zip(stems, references[:, None], estimates[:, None], strict=True):
        sdr = PROTOCOL.score(reference, estimate, rate)["SDR"][0]
        silence = SILENCE_PROTOCOL.score(reference, estimate, rate)
        scores[stem] = {"SDR": sdr.tolist(), "PES": silence["PES"][0].tolist(), "EPS": silence["EPS"][0].tolist()}
    return scores


def _as_cantisani2021(system: System, where: str) -> Cantisani2021:
    """The system of a run, checked to be a `Cantisani2021`; `where` names the run in the error message."""
    if not isinstance(system, Cantisani2021):
        raise ValueError(f"{where} has a {type(system).__name__}: give a run of configs/cantisani2021.py")
    return system


def measure(options: Slide) -> dict[str, dict[str, Any]]:
    """The scores `{strategy: {song: {stem: {metric: [frames]}}}}`, also of gated estimates (`B0 gated`)."""
    saved = find_model(options.model)
    experiment, model = saved.load()
    system = _as_cantisani2021(model.system, options.model)
    unknown = set(options.splits) - set(SPLITS)
    if unknown:
        raise ValueError(f"unknown strategy '{min(unknown)}': choose from {', '.join(SPLITS)}")
    stream, rate = experiment.judged, system.sample_rate
    corpus = stream.open(
        options.root or experiment.data.root,
        options.corpus or stream.corpora[0],
        rate,
        options.split,
        system.input_channels,
    )
    references = dict(songs.test_songs(corpus, options.songs, options.seconds, options.seed))
    test_songs = [
        Song(name, stems.sum(0), activations.from_stems(stems, rate, threshold=options.threshold))
        for name, stems in references.items()
    ]
    for song in test_songs:
        activations.check_has_rest(np.max(song.active, axis=-1), system.stems, song.name)
    results: dict[str, dict[str, Any]] = {}
    for strategy in (BASE, *options.splits):
        missing = [song for song in test_songs if not _file(options, strategy, song.name).is_file()]
        adapted_models = _adapted_models(model, missing, strategy, options)
        for song, adapted in zip(missing, adapted_models, strict=True):
            rng = np.random.default_rng(options.seed)
            estimates = separate_with_shifts(adapted, song.mixture, options.shifts, rng)
            scores = {
                name: score(references[song.name], outputs, system.stems, rate)
                for name, outputs in (("raw", estimates), ("gated", estimates * song.active))
            }
            write_json(_file(options, strategy, song.name), scores, indent=None)
        for song in test_songs:
            scores = read_json(_file(options, strategy, song.name), "delete the file to compute its scores again")
            results.setdefault(strategy, {})[song.name] = scores["raw"]
            results.setdefault(f"{strategy} gated", {})[song.name] = scores["gated"]
    return results


def _file(options: Slide, strategy: str, song: str) -> Path:
    return options.out / "scores" / strategy / f"{song.replace('/', '_')}.json"


def _adapted_models(model: Model, songs: Sequence[Song], strategy: str, options: Slide) -> list[Model]:
    """The model adapted to each song; for B0, the model itself."""
    system = _as_cantisani2021(model.system, options.model)
    if strategy == BASE or not songs:
        return [model] * len(songs)
    settings = settings_of(system, strategy, options)
    updates = adaptation.count_updates(songs, system, settings)
    with Progress(f"adapting by {strategy}", updates, unit="update") as progress:
        results: list[Adapted] = list(
            adaptation.adapt(
                model, songs, settings, seed=options.seed, together=options.together, advance=progress.advance
            )
        )
    return [adaptation.with_parameters(model, result.parameters) for result in results]


def trained_parameters(system: Cantisani2021, strategy: str) -> int:
    """The number of parameters that a strategy trains."""
    if strategy == BASE:
        return 0
    params = jax.eval_shape(lambda: system.init(jax.random.key(0), {}))["params"]
    return sum(leaf.size for leaf in select(params, system.adaptation_presets()[strategy]).values())


def aggregate(scores: dict[str, Any], stem: str, metric: str, over: str) -> float:
    """The median over frames, then median or mean over songs; songs without a score of the stem do not count."""
    medians = track_medians([np.array(song[stem][metric], float) for song in scores.values()])
    return float({"median": np.nanmedian, "mean": np.nanmean}[over](medians))


def table(results: dict[str, dict[str, Any]], system: Cantisani2021) -> str:
    """The Markdown tables: SDR by both aggregations, PES and EPS, and the SDR on the slides.

    The column #TP has the number of trained parameters.
    """
    first, *others = STEMS
    lines = []
    for title, columns in TABLES.items():
        heads = [name for label in columns for name in (f"{label}: {first}", *others)]
        lines += [title, "", f"| | #TP | {' | '.join(heads)} |", f"| --- | --: |{' --: |' * len(heads)}"]
        for strategy, scores in results.items():
            count = trained_parameters(system, strategy.split()[0])
            values = [aggregate(scores, stem, *column) for column in columns.values() for stem in STEMS]
            cells = ["–" if np.isnan(value) else f"{value:.2f}" for value in values]
            lines.append(f"| {_strategy_name(strategy)} | {f'{count:,}' if count else '–'} | {' | '.join(cells)} |")
        lines.append("")
    lines += [f"| SDR in dB, paper | {' | '.join(STEMS)} |", f"| --- |{' --: |' * len(STEMS)}"]
    lines += [f"| {_strategy_name(strategy)} | {' | '.join(map(str, sdr))} |" for strategy, sdr in PAPER.items()]
    return "\n".join(lines) + "\n"


def _strategy_name(strategy: str) -> str:
    name, _, gated = strategy.partition(" ")
    return (name if name == BASE else f"P-{name.upper()}:D") + (f", {gated}" if gated else "")


def main() -> None:
    options = console.parse(Slide, "python -m benchmarks.papers.cantisani2021.slide", EXAMPLE)
    if not options.model:
        raise ValueError(f"--model is needed. Example: {EXAMPLE}")
    console.cache_compilations()
    results = measure(options)
    system = _as_cantisani2021(find_model(options.model).experiment().system, options.model)
    text = table(results, system)
    write_text(options.out / "table.md", text)
    count = len(next(iter(results.values())))
    print(f"{PROTOCOL}, {count} songs, each stem scored where it sounds, {options.shifts} shifts averaged\n\n{text}")


if __name__ == "__main__":
    console.run(main)
