"""The table of the slides: `python -m benchmarks.papers.cantisani2021.slide --model runs/tasnet --corpus band_fluid`.

In each test song, every stem is silent in another quarter. The songs are separated by the model before adaptation (B0)
and after adaptation to the song by each strategy (P-L1:D …), with the activations of the reference stems. The mixture
itself is scored, too. The scores of each song are stored, so that the same command continues after an interruption.
`--splits l3 l3-mixture` compares a strategy with its control, the same number of updates without activations.
"""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.papers.cantisani2021 import songs
from benchmarks.papers.cantisani2021.strategies import BASE, MIXTURE, Strategy, title_of, trained_parameters
from data_pipelines.annotations import activations
from data_pipelines.files import read_json, write_json, write_text
from data_pipelines.prepared.corpus import Corpus
from data_pipelines.progress import Progress
from qsep_jax.command_line import console
from qsep_jax.inference import adaptation
from qsep_jax.inference.adaptation import Song
from qsep_jax.inference.model import Model
from qsep_jax.inference.separation import separate
from qsep_jax.metrics.aggregate import track_medians
from qsep_jax.metrics.protocols import Protocol
from qsep_jax.runs.bundle import find_model
from qsep_jax.runs.experiment import Experiment
from qsep_jax.systems.base import System
from qsep_jax.systems.cantisani2021 import SPLITS, Cantisani2021
from qsep_jax.systems.one_shot import Adaptation

EXAMPLE = "python -m benchmarks.papers.cantisani2021.slide --model runs/tasnet --corpus band_fluid --out runs/slide"
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
# Which frames count for the SDR of a stem: those in which it sounds, or museval's, in which all stems sound.
Frames = Literal["sounding", "published"]
SDR: dict[Frames, str] = {"sounding": "SDR", "published": "SDR of museval's frames"}
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
      splits: Strategies: l1 to l5; l1-frozen to l4-frozen, which leave the decoder as it is; each also with `-each`
        behind it, the loss of the slides, or `-mixture`, the control without activations.
      shifts: Number of separations of a song that are averaged, each with a random shift of up to half a second; 10 in
        the paper.
      frames: Frames that count for the SDR of a stem: those in which it sounds, or those in which all stems sound
        (published), which are museval's and so the paper's.
      threshold: Threshold of the activations.
      epochs: Number of epochs of the adaptation (by default, the model's).
      rate: Learning rate of the adaptation (by default, the model's).
      hop: Hop between the chunks of the adaptation in seconds (by default, the model's).
      weight: Weight λ of inactive stems in the loss, a quarter of the code's γ (by default, the model's).
      pitch_copies: Pitch-shifted copies of each chunk of the adaptation; 2 in the code (by default, the model's).
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
    frames: Frames = "sounding"
    threshold: float = 0.01
    epochs: int | None = None
    rate: float | None = None
    hop: float | None = None
    weight: float | None = None
    pitch_copies: int | None = None
    together: int = 0
    seed: int = 42
    out: Path = Path("evaluation/cantisani2021")


def settings_of(system: Cantisani2021, split: str, options: Slide) -> Adaptation:
    """The adaptation settings of a strategy."""
    fields = {"epochs": options.epochs, "hop": options.hop, "weight": options.weight}
    changed = system.adaptation.changed(options.rate, **fields, pitch_copies=options.pitch_copies)
    return Strategy.parse(split).settings(changed, system)


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
    """The SDR by frame, by both rules of frames, PES and EPS of each stem.

    For `SDR`, each stem is scored alone, so that all frames count in which it sounds. For museval, and so in the
    published code, a frame counts only if all stems sound in it. Here one stem is always silent, and only frames across
    the borders of quarters are left: 6 of 159 of a song of four minutes, instead of 120.
    """
    scores, together = {}, PROTOCOL.score(references, estimates, rate)["SDR"]
    for stem, reference, estimate in zip(stems, references[:, None], estimates[:, None], strict=True):
        sdr = PROTOCOL.score(reference, estimate, rate)["SDR"][0]
        silence = SILENCE_PROTOCOL.score(reference, estimate, rate)
        scores[stem] = {
            SDR["sounding"]: sdr.tolist(),
            SDR["published"]: together[list(stems).index(stem)].tolist(),
            "PES": silence["PES"][0].tolist(),
            "EPS": silence["EPS"][0].tolist(),
        }
    return scores


def as_cantisani2021(system: System, where: str) -> Cantisani2021:
    """The system of a run, checked to be a `Cantisani2021`; `where` names the run in the error message."""
    if not isinstance(system, Cantisani2021):
        raise ValueError(f"{where} has a {type(system).__name__}: give a run of configs/cantisani2021.py")
    return system


def open_corpus(options: Slide, experiment: Experiment) -> Corpus:
    """The corpus of the songs."""
    stream, system = experiment.judged, experiment.system
    root, name = options.root or experiment.data.root, options.corpus or stream.corpora[0]
    return stream.open(root, name, system.sample_rate, options.split, system.input_channels)


def measure(options: Slide) -> dict[str, dict[str, Any]]:
    """The scores `{strategy: {song: {stem: {metric: [frames]}}}}`, also of gated estimates (`B0 gated`)."""
    experiment, model = find_model(options.model).load()
    system, rate = as_cantisani2021(model.system, options.model), model.system.sample_rate
    facts = {strategy: _facts(system, strategy, options) for strategy in (MIXTURE, BASE, *options.splits)}
    corpus = open_corpus(options, experiment)
    references = dict(songs.test_songs(corpus, options.songs, options.seconds, options.seed))
    test_songs = [
        Song(name, stems.sum(0), activations.from_stems(stems, rate, threshold=options.threshold))
        for name, stems in references.items()
    ]
    for song in test_songs:
        activations.check_has_rest(np.max(song.active, axis=-1), system.stems, song.name)
    results: dict[str, dict[str, Any]] = {}
    for strategy in facts:
        missing = [song for song in test_songs if not _file(options, strategy, song.name).is_file()]
        adapted_models = _adapted_models(model, missing, strategy, options)
        for song, adapted in zip(missing, adapted_models, strict=True):
            rng = np.random.default_rng(options.seed)
            estimates = np.stack([song.mixture] * len(system.stems))
            if strategy != MIXTURE:
                estimates = separate_with_shifts(adapted, song.mixture, options.shifts, rng)
            scores = {
                name: score(references[song.name], outputs, system.stems, rate)
                for name, outputs in (("raw", estimates), ("gated", estimates * song.active))
            }
            scores["facts"] = facts[strategy]
            write_json(_file(options, strategy, song.name), scores, indent=None)
        for song in test_songs:
            path = _file(options, strategy, song.name)
            scores = read_json(path, "delete the file to compute its scores again")
            _check(scores, facts[strategy], options.frames, path)
            results.setdefault(strategy, {})[song.name] = scores["raw"]
            results.setdefault(f"{strategy} gated", {})[song.name] = scores["gated"]
    return results


def _facts(system: Cantisani2021, strategy: str, options: Slide) -> dict[str, Any]:
    """What the scores of a strategy depend on, beside the song."""
    facts: dict[str, Any] = {name: getattr(options, name) for name in ("seconds", "shifts", "threshold", "seed")}
    if strategy not in (MIXTURE, BASE):
        facts["adaptation"] = dataclasses.asdict(settings_of(system, strategy, options))
    return json.loads(json.dumps(facts))


def _check(scores: dict[str, Any], facts: dict[str, Any], frames: Frames, path: Path) -> None:
    """Check that stored scores are those of this command; files of earlier versions do not say what they are of.

    Raises:
      ValueError: if not.
    """
    stored = scores.get("facts", facts)
    differing = [name for name in facts if stored.get(name) != facts[name]]
    if differing:
        name = differing[0]
        raise ValueError(f"{path} was computed with {name} {stored.get(name)}, not {facts[name]}: give another --out")
    if any(SDR[frames] not in by_metric for by_metric in scores["raw"].values()):
        raise ValueError(f"{path} has no {SDR[frames]}: delete the file to compute its scores again")


def _file(options: Slide, strategy: str, song: str) -> Path:
    return options.out / "scores" / strategy / f"{song.replace('/', '_')}.json"


def _adapted_models(model: Model, songs: Sequence[Song], strategy: str, options: Slide) -> Iterator[Model]:
    """Yield the model adapted to each song as soon as it is; for B0 and the mixture, the model itself."""
    system = as_cantisani2021(model.system, options.model)
    if strategy in (MIXTURE, BASE) or not songs:
        yield from [model] * len(songs)
        return
    settings = settings_of(system, strategy, options)
    updates = adaptation.count_updates(songs, system, settings)
    with Progress(f"adapting by {strategy}", updates, unit="update") as progress:
        for adapted in adaptation.adapt(
            model, songs, settings, seed=options.seed, together=options.together, advance=progress.advance
        ):
            yield adaptation.with_parameters(model, adapted.parameters)


def aggregate(scores: dict[str, Any], stem: str, metric: str, over: str) -> float:
    """The median over frames, then median or mean over songs; songs without a score of the stem do not count.

    It is NaN without any score, as of frames in which a gated estimate of some stem is always silent.
    """
    medians = track_medians([np.array(song[stem][metric], float) for song in scores.values()])
    if np.isnan(medians).all():
        return float("nan")
    return float({"median": np.nanmedian, "mean": np.nanmean}[over](medians))


def table(results: dict[str, dict[str, Any]], system: Cantisani2021, frames: Frames = "sounding") -> str:
    """The Markdown tables: SDR by both aggregations, PES and EPS, and the SDR on the slides.

    The column #TP has the number of trained parameters.
    """
    first, *others = STEMS
    lines, sdr = [], SDR[frames]
    tables = {
        f"{sdr} in dB, median over frames": {"mean": (sdr, "mean"), "median": (sdr, "median")},
        "PES and EPS in dB, median over frames, mean over songs": {"PES": ("PES", "mean"), "EPS": ("EPS", "mean")},
    }
    for title, columns in tables.items():
        heads = [name for label in columns for name in (f"{label}: {first}", *others)]
        lines += [title, "", f"| | #TP | {' | '.join(heads)} |", f"| --- | --: |{' --: |' * len(heads)}"]
        for strategy, scores in results.items():
            count = trained_parameters(system, strategy.split()[0])
            values = [aggregate(scores, stem, *column) for column in columns.values() for stem in STEMS]
            cells = ["–" if np.isnan(value) else f"{value:.2f}" for value in values]
            lines.append(f"| {title_of(strategy)} | {f'{count:,}' if count else '–'} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines) + "\n" + paper_table()


def paper_table() -> str:
    """The Markdown table of the slides."""
    lines = [f"| SDR in dB, paper | {' | '.join(STEMS)} |", f"| --- |{' --: |' * len(STEMS)}"]
    lines += [f"| {title_of(strategy)} | {' | '.join(map(str, scores))} |" for strategy, scores in PAPER.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    options = console.parse(Slide, "python -m benchmarks.papers.cantisani2021.slide", EXAMPLE)
    if not options.model:
        raise ValueError(f"--model is needed. Example: {EXAMPLE}")
    console.cache_compilations()
    results = measure(options)
    system = as_cantisani2021(find_model(options.model).experiment().system, options.model)
    text = table(results, system, options.frames)
    write_text(options.out / "table.md", text)
    count = len(next(iter(results.values())))
    rule = "each stem scored where it sounds" if options.frames == "sounding" else "frames in which all stems sound"
    print(f"{PROTOCOL}, {count} songs, {rule}, {options.shifts} shifts averaged\n\n{text}")


if __name__ == "__main__":
    console.run(main)
