"""The slide's table: `python -m benchmarks.papers.cantisani2021.slide --model runs/tasnet --corpus band_fluid`.

Test songs in which every stem has a quarter of silence of its own are separated by the model as it is (B0) and after it
was adapted to each of them by each strategy (P-L1:D …), their activations being those of the true stems. Scores are
kept song by song, so that the same command continues after an interruption.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.papers.cantisani2021 import songs
from data_pipelines.annotations import activations
from data_pipelines.files import write_text
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
# SDR in dB by strategy: other, bass, drums, vocals.
STEMS = ("other", "bass", "drums", "vocals")
PAPER = {
    "l1": (6.1, 8.1, 7.4, 6.3),
    "l2": (6.2, 8.3, 7.4, 6.2),
    "l3": (6.1, 8.3, 7.3, 5.9),
    "l4": (4.9, 7.8, 5.7, 6.0),
    "l5": (4.6, 7.7, 5.7, 6.1),
    BASE: (4.4, 7.9, 5.8, 6.3),
}
PROTOCOL = Protocol("bss_eval_v4_sdr", window=2.0, hop=1.5)
AT_SILENCE = Protocol("whole_track", window=2.0, hop=1.5)
# Most seconds by which a song is shifted before it is separated, as published.
SHIFT = 0.5


@dataclasses.dataclass(frozen=True)
class Slide:
    """Adapt a model to test songs by each strategy of the paper, and score it before and after.

    Attributes:
      model: a run folder or bundle of configs/cantisani2021.py.
      root: folder of the prepared corpora; the run's own if left out.
      corpus: whose songs; those that the run is judged on if left out.
      split: of it.
      songs: the first so many; 10 in the paper, 11 in its code.
      seconds: of each song (0: all of it).
      splits: strategies.
      shifts: separations of a song, each shifted by up to half a second, that are averaged; 10 in the paper.
      threshold: of the activations.
      epochs, rate, hop: of the adaptation, in place of the model's own.
      together: songs at a time (0: one on CPU, as many as the memory holds elsewhere).
      seed: of silences, shifts and adaptation.
      out: where scores and table go.
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
    """The adaptation of a strategy."""
    trainable = system.adaptation_presets()[split]
    return system.adaptation.changed(options.rate, trainable=trainable, epochs=options.epochs, hop=options.hop)


def averaged(model: Model, mixture: np.ndarray, shifts: int, rng: np.random.Generator) -> np.ndarray:
    """Estimates `[S, T, C]` of `[T, C]`, the mean over random shifts; with none, of the song as it is."""
    if not shifts:
        return separate(model, mixture, ())
    most = round(SHIFT * model.system.sample_rate)
    total = np.zeros((len(model.system.stems), *mixture.shape), np.float32)
    for offset in rng.integers(0, most + 1, shifts):
        total += separate(model, np.pad(mixture, ((offset, 0), (0, 0))), ())[:, offset:]
    return total / shifts


def score(
    truth: np.ndarray, estimates: np.ndarray, stems: Sequence[str], rate: int
) -> dict[str, dict[str, list[float]]]:
    """SDR by frame, and PES and EPS, of each stem.

    Each stem is scored by itself, so that its frames count wherever it sounds. (A frame of museval counts only if all
    stems sound in it; here one rests at any time, and only frames across the quarters' borders would be left.)
    """
    found = {}
    for stem, true, made in zip(stems, truth[:, None], estimates[:, None], strict=True):
        sdr = PROTOCOL.score(true, made, rate)["SDR"][0]
        rest = AT_SILENCE.score(true, made, rate)
        found[stem] = {"SDR": sdr.tolist(), "PES": rest["PES"][0].tolist(), "EPS": rest["EPS"][0].tolist()}
    return found


def _as_cantisani2021(system: System, where: str) -> Cantisani2021:
    """Narrow the system of a run to Cantisani2021; `where` names the run in the error."""
    if not isinstance(system, Cantisani2021):
        raise ValueError(f"{where} holds a {type(system).__name__}: this table is of configs/cantisani2021.py")
    return system


def measure(options: Slide) -> dict[str, dict[str, Any]]:
    """`{strategy: {song: {stem: {metric: [frames]}}}}`, of gated estimates, too (`B0 gated`)."""
    source = find_model(options.model)
    experiment, model = source.load()
    system = _as_cantisani2021(model.system, options.model)
    unknown = set(options.splits) - set(SPLITS)
    if unknown:
        raise ValueError(f"unknown strategy '{min(unknown)}': there are {', '.join(SPLITS)}")
    judged, rate = experiment.judged, system.sample_rate
    corpus = judged.open(
        options.root or experiment.data.root,
        options.corpus or judged.corpora[0],
        rate,
        options.split,
        system.input_channels,
    )
    truths = dict(songs.of_corpus(corpus, options.songs, options.seconds, options.seed))
    heard = [
        Song(name, truth.sum(0), activations.from_stems(truth, rate, threshold=options.threshold))
        for name, truth in truths.items()
    ]
    for song in heard:
        activations.check_has_rest(np.max(song.active, axis=-1), system.stems, song.name)
    found: dict[str, dict[str, Any]] = {}
    for strategy in (BASE, *options.splits):
        missing = [song for song in heard if not _file(options, strategy, song.name).is_file()]
        bent = _adapted(model, missing, strategy, options)
        for song, changed in zip(missing, bent, strict=True):
            estimates = averaged(changed, song.mixture, options.shifts, np.random.default_rng(options.seed))
            gated = estimates * song.active
            scores = {
                name: score(truths[song.name], each, system.stems, rate)
                for name, each in (("raw", estimates), ("gated", gated))
            }
            write_text(_file(options, strategy, song.name), json.dumps(scores) + "\n")
        for song in heard:
            scores = json.loads(_file(options, strategy, song.name).read_text())
            found.setdefault(strategy, {})[song.name] = scores["raw"]
            found.setdefault(f"{strategy} gated", {})[song.name] = scores["gated"]
    return found


def _file(options: Slide, strategy: str, song: str) -> Path:
    return options.out / "scores" / strategy / f"{song.replace('/', '_')}.json"


def _adapted(model: Model, heard: Sequence[Song], strategy: str, options: Slide) -> list[Model]:
    """The model as it is, or bent to each song."""
    system = _as_cantisani2021(model.system, options.model)
    if strategy == BASE or not heard:
        return [model] * len(heard)
    settings = settings_of(system, strategy, options)
    updates = adaptation.updates_of(heard, system, settings)
    with Progress(f"adapting by {strategy}", updates, unit="update") as progress:
        results: list[Adapted] = list(
            adaptation.adapt(
                model, heard, settings, seed=options.seed, together=options.together, advance=progress.advance
            )
        )
    return [adaptation.with_parameters(model, result.parameters) for result in results]


def trainable(system: Cantisani2021, strategy: str) -> int:
    """How many parameters a strategy trains."""
    if strategy == BASE:
        return 0
    params = jax.eval_shape(lambda: system.init(jax.random.key(0), {}))["params"]
    return sum(leaf.size for leaf in select(params, system.adaptation_presets()[strategy]).values())


def aggregate(scores: dict[str, Any], stem: str, metric: str, over: str) -> float:
    """Median over frames, then median or mean over songs; songs in which the stem has no score do not count."""
    medians = track_medians([np.array(song[stem][metric], float) for song in scores.values()])
    return float({"median": np.nanmedian, "mean": np.nanmean}[over](medians))


def table(found: dict[str, dict[str, Any]], system: Cantisani2021) -> str:
    """In the slide's form, by both aggregations, then PES and EPS, then what the slide has."""
    lines = []
    for metric, over in (("SDR", "median"), ("SDR", "mean"), ("PES", "mean"), ("EPS", "mean")):
        said = f"{metric} in dB, median over frames, {over} over songs" if metric == "SDR" else f"{metric}, mean, dB"
        lines += [f"| {said} | #TP | {' | '.join(STEMS)} |", f"| --- | --: |{' --: |' * len(STEMS)}"]
        for strategy, scores in found.items():
            count = trainable(system, strategy.split()[0])
            values = [aggregate(scores, stem, metric, over) for stem in STEMS]
            cells = ["–" if np.isnan(value) else f"{value:.2f}" for value in values]
            lines.append(f"| {_called(strategy)} | {f'{count:,}' if count else '-'} | {' | '.join(cells)} |")
        lines.append("")
    lines += [f"| SDR in dB, paper | {' | '.join(STEMS)} |", f"| --- |{' --: |' * len(STEMS)}"]
    lines += [f"| {_called(strategy)} | {' | '.join(map(str, sdr))} |" for strategy, sdr in PAPER.items()]
    return "\n".join(lines) + "\n"


def _called(strategy: str) -> str:
    name, _, gated = strategy.partition(" ")
    return (name if name == BASE else f"P-{name.upper()}:D") + (f", {gated}" if gated else "")


def main() -> None:
    options = console.parse(Slide, "python -m benchmarks.papers.cantisani2021.slide", EXAMPLE)
    if not options.model:
        raise ValueError(f"which model? Example: {EXAMPLE}")
    console.cache_compilations()
    found = measure(options)
    system = _as_cantisani2021(find_model(options.model).experiment().system, options.model)
    made = table(found, system)
    write_text(options.out / "table.md", made)
    count = len(next(iter(found.values())))
    print(f"{PROTOCOL}, {count} songs, each stem scored where it sounds, {options.shifts} shifts averaged\n\n{made}")


if __name__ == "__main__":
    console.run(main)
